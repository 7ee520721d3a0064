"""Prompts put into English: against likelihoods computed plainly, and by the packaged decoder."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.models.tiny_models import DECODERS, ENCODER_DECODERS
from tests.painting.tiny_painters import PACKAGED_TEXT, tiny_painter

from polylens.errors import UserError
from polylens.painting import pivot
from polylens.painting.build import load_text
from polylens.painting.config import TextConfig
from polylens.painting.pivot import Pivot
from polylens.painting.text import LanguageModelText
from polylens.picto.world import concepts

torch.set_num_threads(1)
ASK = "{prompt} English:"
TEXT = {"template": ASK, "answer": 3, "languages": ["en", "de", "sw", "zh"], "pivot": {"beams": 3}}
DECODER = TextConfig.model_validate(
    PACKAGED_TEXT | {"answer": 8, "languages": ["en", "de", "fr", "sw", "hi", "zh"]}
)


def pivot_of(folder: Path, lm: str) -> Pivot:
    text = tiny_painter(folder, lm, text=TEXT).text
    assert isinstance(text, LanguageModelText)
    assert text._pivot is not None
    return text._pivot


def likelihood(own: Pivot, question: str, answer: str) -> float:
    """One pair at a time, all logits, no padding."""
    tokenizer, end = own.tokenizer, own.tokenizer.eos_token_id
    asked = tokenizer(question).input_ids
    if own.model.config.is_encoder_decoder:
        target = [*tokenizer(answer, add_special_tokens=False).input_ids, end]
        logits = own.model(input_ids=torch.tensor([asked]), labels=torch.tensor([target])).logits[0]
    else:
        whole = [*tokenizer(f"{question} {answer}").input_ids, end]
        target = whole[len(asked) :]
        logits = own.model(input_ids=torch.tensor([whole])).logits[0, len(asked) - 1 : -1]
    return -F.cross_entropy(logits.float(), torch.tensor(target), reduction="sum").item()


@pytest.mark.parametrize("lm", sorted(DECODERS | ENCODER_DECODERS))
@torch.no_grad()
def test_scores_are_the_likelihoods_of_answers(tmp_path: Path, lm: str) -> None:
    own = pivot_of(tmp_path, lm)
    pairs = [
        ("a dog German:", "cat"),
        ("dog Chinese:", "a much longer answer"),
        ("a prompt of some words", "a"),
    ]
    found = own._scores(pairs)
    assert found.tolist() == pytest.approx([likelihood(own, *pair) for pair in pairs], rel=1e-4)


@pytest.mark.parametrize("lm", ["llama", "t5"])
@torch.no_grad()
def test_the_answer_likeliest_in_both_directions_is_read(
    tmp_path: Path, lm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pivot, "NUM_LANGUAGES", len(TEXT["languages"]))
    own = pivot_of(tmp_path, lm)
    answers = ["a dog", "cat", "the answer"]
    for prompt in ("eine Katze", "a much longer prompt"):

        def worth(answer: str, prompt: str = prompt) -> float:
            back = max(likelihood(own, f"{answer} {name}:", prompt) for name in own.languages)
            return likelihood(own, f"{prompt} English:", answer) + back

        assert own._best(prompt, answers) == max(answers, key=worth)


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_prompts_are_read_alike_alone_and_together(tmp_path: Path, lm: str) -> None:
    prompts = ["a dog", "", "a much longer prompt of many words", "  "]
    text = tiny_painter(tmp_path, lm, text=TEXT).text
    together = text.read_as(prompts)
    assert [text.read_as([prompt])[0] for prompt in prompts] == together
    again = tiny_painter(tmp_path, lm, text=TEXT).text
    assert [again.read_as([prompt])[0] for prompt in prompts] == together
    # The empty prompt is what guidance moves away from: it stays as it is.
    assert together[1::2] == ["", "  "]


def test_what_is_read_is_drawn(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path, text=TEXT)
    plain = tiny_painter(tmp_path, text=TEXT | {"pivot": None})
    (states,), away = painter.prompt_states(["a dog"], "ein Text")
    (expected,), expected_away = plain.prompt_states(
        painter.text.read_as(["a dog"]), *painter.text.read_as(["ein Text"])
    )
    assert torch.allclose(states, expected, atol=1e-5)
    assert torch.allclose(away, expected_away, atol=1e-5)
    assert plain.text.read_as(["a dog"]) == ["a dog"]


def test_a_prompt_without_end_is_cut_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    painter = tiny_painter(tmp_path, text=TEXT | {"max_tokens": 40})
    own = painter.text._pivot
    assert isinstance(own, Pivot)
    asked: list[int] = []
    generate = own.model.generate
    monkeypatch.setattr(
        own.model,
        "generate",
        lambda **inputs: asked.append(inputs["input_ids"].shape[1]) or generate(**inputs),
    )
    painter.prompt_states(["dog " * 4000], "")
    # The first is the question to the pivot.
    assert 20 < asked[0] <= 40
    assert "only 40 are read" in caplog.text


def test_many_logits_are_never_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pivot_of(tmp_path, "llama")
    pairs = [("a dog German:", "cat"), ("dog Chinese:", "a much longer answer"), ("a prompt", "a")]
    together = own._scores(pairs)
    monkeypatch.setattr(pivot, "LOGITS", 1)
    assert torch.allclose(own._scores(pairs), together, atol=1e-4)


def test_a_template_that_answers_grow_together_with_is_refused(tmp_path: Path) -> None:
    own = pivot_of(tmp_path, "llama")
    own._ids = lambda text, special=True: [len(text)]
    with pytest.raises(UserError, match="end in a mark"):
        own._scores([("dog", "cat")])


def test_it_forgets_old_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pivot, "REMEMBERED", 3)
    own = pivot_of(tmp_path, "llama")
    first = own(["a", "dog"])
    own(["cat", "the", "prompt"])
    assert own(["dog", "a"]) == first[::-1]
    assert len(own._known) <= 3


def test_the_packaged_decoder_puts_names_into_english_better_than_it_says_them():
    text = load_text(DECODER)
    plain = load_text(DECODER.model_copy(update={"pivot": None}))
    wanted = [concept for concept in concepts() if concept.scored][::60]
    right = {"pivot": 0, "plain": 0}
    total = 0
    for code in ("de", "hi", "zh"):
        names = [concept.name(code) or "" for concept in wanted]
        english = [(concept.name("en") or "").casefold() for concept in wanted]
        total += len(names)
        right["pivot"] += sum(map(str.__eq__, map(str.casefold, text.read_as(names)), english))
        assert isinstance(plain, LanguageModelText)
        ids = [plain._ids(name) for name in names]
        for row, name in zip(ids, english, strict=True):
            said = plain.model.generate(torch.tensor([row]), max_new_tokens=16, do_sample=False)
            answer = plain.tokenizer.decode(said[0, len(row) :], skip_special_tokens=True)
            right["plain"] += answer.strip().casefold() == name
    assert right["pivot"] > right["plain"] + total / 10
    assert text.read_as(["cat", "Katze", "猫"]) == ["cat"] * 3


def test_languages_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"painter\.config\.text\.languages"):
        tiny_painter(tmp_path, text=TEXT | {"languages": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "needs 'answer'"),
        ({"pivot": {"ask": "English:"}}, "'ask' must hold '{prompt}' once"),
        ({"pivot": {"back": "{answer}:"}}, "'back' must hold '{language}' once"),
    ],
)
def test_wrong_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TextConfig.model_validate(TEXT | change)
    assert message in str(raised.value)
