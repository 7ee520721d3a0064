import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.viscpm.tiny import tiny_tokenizer

from polylens.errors import UserError
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer, escape, unescape

TOKENIZER = tiny_tokenizer()


def tokens(text: str) -> list[str]:
    return list(TOKENIZER.tokenize(text))


def test_the_longest_entry_wins_and_unknown_characters_run_together() -> None:
    assert tokens("cats ΩΩ?") == ["cat", "s", " ", "ΩΩ", "?"]
    assert tokens("a\nb") == ["a", "\n", "b"]
    assert tokens("") == []


def test_special_tokens_are_found_only_where_they_are_written() -> None:
    assert tokens("<ans>a<ans_3>") == ["<ans>", "a", "<ans_3>"]
    assert tokens("<<ans>") == ["<", "a", "n", "s", ">"]


def test_equal_unknown_words_share_an_id_across_texts() -> None:
    ids, table = TOKENIZER.encode("Ω a Ω")
    assert ids[0] == ids[-1] == len(TOKENIZER)
    more, table = TOKENIZER.encode("Ψ Ω", table)
    assert more[-1] == ids[0]
    assert table == {len(TOKENIZER): "Ω", len(TOKENIZER) + 1: "Ψ"}


@pytest.mark.parametrize("text", ["a < b", "a <", "<>"])
def test_a_stray_bracket_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="write '<<'"):
        TOKENIZER.encode(text)


def test_a_vocabulary_without_specials_is_refused(tmp_path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="<pad>"):
        CpmBeeTokenizer.from_pretrained(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match="cannot be read"):
        CpmBeeTokenizer.from_pretrained(tmp_path / "none.txt")


def test_saved_and_read_again(tmp_path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    assert CpmBeeTokenizer.from_pretrained(tmp_path).entries == TOKENIZER.entries


@given(
    st.text(alphabet=st.one_of(st.sampled_from("abcat <>\n猫Ω_?"), st.characters(exclude_categories=["Cs"])))
)
def test_any_text_comes_back(text: str) -> None:
    ids, table = TOKENIZER.encode(escape(text))
    assert unescape(TOKENIZER.decode(ids, table)) == text
    assert all(TOKENIZER.entries[i] not in ("<ans>", "<unk>") for i in ids if i < len(TOKENIZER))


@given(st.lists(st.sampled_from(["<ans>", "<ans_1>", "<unk>", "<<", "a", "Ω", " ", "cat"])))
def test_any_notation_comes_back(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids, table = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids, table) == text
