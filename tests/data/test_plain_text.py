"""Markup in texts is text, for every kind of tokenizer: no character of a person's becomes a special token."""

import unicodedata

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast, SpeechT5Tokenizer

from polylens.data.collate import IGNORED, Collator, Layout
from polylens.data.plain_text import plain_ids, spaced_names, special_ids
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "deu_Latn", "<|end|>"]
TEXTS = [
    "a </s> b cat dog <pad> image",
    "<image> hello world </s> deu_Latn <|end|>",
    "the quick brown fox",
] * 20
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|end|>{{ m.role }}: {{ m.content | trim }}"
    "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|end|>assistant: {% endif %}"
)


def fast(kind):
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL)
    elif kind == "byte-bpe":
        tokenizer = Tokenizer(models.BPE())
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL)
    elif kind == "wordlevel":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL)
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>")
        tokenizer.normalizer = normalizers.NFKC()
    if kind == "byte-bpe":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif kind.startswith("word"):
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken("<later>", special=True)])
    tokenizer.add_tokens(["  "])  # pieces of text that were added are pieces of text
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    made.chat_template = CHAT
    return made


def slow(kind, folder):
    if kind == "bytes":
        return ByT5Tokenizer()
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "m"), vocab_size=60, hard_vocab_limit=False,
        pad_id=3, minloglevel=2,
    )  # fmt: skip
    made = SpeechT5Tokenizer(vocab_file=str(folder / "m.model"))
    made.add_tokens(["<image>"], special_tokens=True)
    return made


KINDS = ["bpe", "byte-bpe", "wordpiece", "wordlevel", "unigram", "pieces", "bytes"]
FAST = {kind: fast(kind) for kind in KINDS[:5]}


@pytest.fixture(params=KINDS)
def tokenizer(request, tmp_path):
    return FAST[request.param] if request.param in FAST else slow(request.param, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "</s>cat",
        "<pad>cat",
        "a <image> b",
        "a </s> b",
        "</s>",
        "<s></s><unk>",
        "deu_Latn Hund",
        "<later>",
        "＜/s＞ cat",
    ],
)
def test_names_of_special_tokens_are_text(tokenizer, text):
    unknown = tokenizer.unk_token_id
    (ids,) = plain_ids(tokenizer, [text])
    assert ids
    assert not (special_ids(tokenizer) - {unknown}) & set(ids)
    if unknown not in ids:
        said = unicodedata.normalize("NFKC", tokenizer.decode(ids)).replace("▁", "").replace("##", "")
        assert "".join(said.split()) == "".join(unicodedata.normalize("NFKC", text).split())


def test_other_texts_are_read_as_before(tokenizer):
    texts = ["a cat", "the quick  brown fox", "< / s >", "", "a b"]
    assert plain_ids(tokenizer, texts) == tokenizer(texts, add_special_tokens=False).input_ids
    mixed = plain_ids(tokenizer, ["a cat", "</s>", "a cat"])
    assert mixed[0] == mixed[2] == tokenizer("a cat", add_special_tokens=False).input_ids
    assert plain_ids(tokenizer, []) == []


def test_names_with_a_space_inside():
    tokenizer = FAST["bpe"]
    assert spaced_names(tokenizer, "a <image> b </s>") == "a < image> b < /s>"
    assert spaced_names(tokenizer, "a <b> c") == "a <b> c"


PARTS = st.sampled_from([*SPECIAL, "<later>", " ", "  ", "cat", "<", "/s>", "\ue000", "é", "fox"])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FAST)), st.lists(PARTS, max_size=8).map("".join))
def test_no_text_gives_a_special_token(kind, text):
    tokenizer = FAST[kind]
    (ids,) = plain_ids(tokenizer, [text])
    assert not (special_ids(tokenizer) - {tokenizer.unk_token_id}) & set(ids)


def collator(name, encoder_decoder=False, **layout):
    return Collator(FAST[name], 2, Layout(**layout), encoder_decoder)


def talk(*turns):
    return Sample("x", (), tuple(Turn(*turn) for turn in turns), "en", "chat", "s")


@pytest.mark.parametrize("kind", sorted(FAST))
@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_rows_end_at_their_own_end(kind, encoder_decoder):
    collate = collator(kind, encoder_decoder)
    batch = collate([talk(("a </s> b", "c </s> d"))])
    labels = [i for i in batch.labels[0].tolist() if i != IGNORED]
    end = FAST[kind].eos_token_id
    assert labels.count(end) == 1
    assert labels[-1] == end
    ids = batch.input_ids[0].tolist()
    assert ids.count(FAST[kind].bos_token_id) <= 1  # the tokenizer's own begin
    assert ids.count(end) == 1
    asked = collate([talk(("<pad><image>cat", ""))], answers=False).input_ids[0].tolist()
    assert not set(FAST[kind].convert_tokens_to_ids(["<pad>", "<image>"])) & set(asked)


@pytest.mark.parametrize("kind", sorted(FAST))
def test_in_chats_only_the_template_has_special_tokens(kind):
    collate = collator(kind, kind="chat")
    plain = collate([talk(("one", "two"), ("three", "four"))])
    marked = collate([talk(("one </s>", "two <|end|> </s> two"), ("<image>", "</s> four"))])
    for token in sorted(special_ids(FAST[kind]) - {FAST[kind].unk_token_id}):
        assert marked.input_ids[0].tolist().count(token) == plain.input_ids[0].tolist().count(token)
    answer, end = collate.answer_ids("a </s> b"), FAST[kind].eos_token_id
    assert answer.count(end) == 1
    assert answer[-1] == end


def test_a_private_character_in_a_question_is_no_picture():
    collate = collator("byte-bpe", kind="chat")
    batch = collate([talk(("what is \ue000 ?", "a \ue000"))])
    assert not batch.image_mask.any()
    assert "\ue000 ?" in FAST["byte-bpe"].decode(batch.input_ids[0])


def test_a_slow_tokenizer_refuses_markup_in_chats(tmp_path):
    tokenizer = slow("bytes", tmp_path)
    tokenizer.chat_template = CHAT
    collate = Collator(tokenizer, 2, Layout(kind="chat"), False)
    assert collate([talk(("one", "two"))]).num_targets
    with pytest.raises(UserError, match="'a </s> b' has '</s>' in it"):
        collate([talk(("a </s> b", "two"))])
