import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.viscpm.tiny import tiny_tokenizer

from polylens.errors import UserError
from polylens.viscpm.cpm_bee.layout import IGNORED, collate_data, encode_data

TOKENIZER = tiny_tokenizer()
TEXTS = st.text(alphabet="abc Ω猫ψ\n", max_size=6)
VALUES = st.recursive(TEXTS, lambda inner: st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6)
DATA = st.dictionaries(TEXTS, VALUES, max_size=3)


@given(DATA, TEXTS)
def test_invariants(data, answer: str) -> None:
    row = encode_data(TOKENIZER, data | {"<ans>": answer})
    assert len(row.ids) == len(row.subs) == len(row.segments) == len(row.context)
    assert row.segments == sorted(row.segments)
    assert set(row.segments) == set(range(row.num_segments))
    n = row.num_segments
    relation = [row.relations[i * n : (i + 1) * n] for i in range(n)]
    for i in range(n):
        assert relation[i][i] == 0
        for j in range(n):
            up, down = divmod(max(relation[i][j] - 1, 0), 8)
            assert relation[j][i] == (0 if i == j else down * 8 + up + 1)
    asked = [at for at, context in enumerate(row.context) if not context]
    assert {row.segments[at] for at in asked} == {row.num_segments - 1}
    batch = collate_data([row], TOKENIZER)
    targets = [label for label in batch.labels[0].tolist() if label != IGNORED]
    assert len(targets) == len(asked)
    assert targets[-1] == TOKENIZER.eos_id
    prompt = row.without_answer()
    assert len(prompt.ids) == len(row.ids) - len(asked)


@given(st.lists(DATA, min_size=1, max_size=4), st.integers(0, 5))
def test_padding_changes_nothing_but_the_shape(many, extra: int) -> None:
    rows = [encode_data(TOKENIZER, data | {"<ans>": "a"}) for data in many]
    longest = max(len(row.ids) for row in rows)
    batch = collate_data(rows, TOKENIZER, longest + extra)
    for number, row in enumerate(rows):
        alone = collate_data([row], TOKENIZER)
        size = len(row.ids)
        assert batch.mask[number].sum() == size
        for name in ("input_ids", "input_subs", "segments", "context"):
            assert getattr(batch, name)[number, :size].equal(getattr(alone, name)[0])


def test_an_answer_may_stand_before_other_keys() -> None:
    first = encode_data(TOKENIZER, {"<ans>": "", "image": "<unk><unk>", "question": "a"}).without_answer()
    assert 0 not in first.context
    begin, end = first.images[0]
    assert first.ids[begin:end] == [TOKENIZER.unk_id] * 2


def test_unknown_words_count_by_first_appearance() -> None:
    row = encode_data(TOKENIZER, {"a": "Ω ψ Ω", "<ans>": "ψ<ans_7><ans_2>"})
    words = {word: pair for pair, word in row.words.items()}
    assert words["Ω"] == (TOKENIZER.unk_id, 0)
    assert words["ψ"] == (TOKENIZER.unk_id, 1)
    assert words["<ans_7>"] == (TOKENIZER.ids["<ans>"], 0)
    assert words["<ans_2>"] == (TOKENIZER.ids["<ans>"], 1)
    batch = collate_data([row], TOKENIZER)
    targets = [label for label in batch.labels[0].tolist() if label != IGNORED]
    assert targets[0] == len(TOKENIZER)  # ψ is a column beyond the vocabulary
    assert batch.extension[0].tolist() == [TOKENIZER.unk_id, 1]


def test_what_no_vocabulary_knows_is_refused() -> None:
    with pytest.raises(UserError, match="no special token"):
        encode_data(TOKENIZER, {"a": "<dog_1>"})
    with pytest.raises(UserError, match="texts and dictionaries"):
        encode_data(TOKENIZER, {"a": 3})
