"""Beam search against one that keeps no cache and shares nothing between beams."""

import itertools
import math

import pytest
import torch
from tests.viscpm.tiny import tiny_chat

from polylens.errors import UserError
from polylens.viscpm.cpm_bee.generation import BeamSettings, own_words, search
from polylens.viscpm.cpm_bee.layout import collate_data, encode_data

CHAT = tiny_chat(3)
TOKENIZER = CHAT.tokenizer
PROMPTS = [
    {"question": "a cat?", "<ans>": ""},
    {"question": "", "context": "Ω knows ψ", "<ans>": ""},
    {"<ans>": "", "question": "which of them is it then"},
]


def rows() -> list:
    return [encode_data(TOKENIZER, data) for data in PROMPTS]


@torch.no_grad()
def plain_search(data: dict[str, str], settings: BeamSettings) -> tuple[str, float]:
    """The best answer, every step read from the very beginning. Words of the prompt's own are left out."""
    lm, beams, ended = CHAT.lm, [([], 0.0)], []
    for step in range(settings.max_new_tokens):
        candidates = []
        for ids, score in beams:
            text = TOKENIZER.decode(ids)
            row = encode_data(TOKENIZER, data | {"<ans>": text})
            at = max(i for i, context in enumerate(row.context) if not context)
            logits = lm.logits(lm(collate_data([row], TOKENIZER))[0, at], torch.tensor([[0, 1]])).float()
            logits[[TOKENIZER.unk_id, -1]] = -1e4
            for seen in set(ids):
                logits[seen] *= (
                    settings.repetition_penalty if logits[seen] < 0 else 1 / settings.repetition_penalty
                )
            logprobs = (logits / settings.temperature).log_softmax(-1)
            candidates += [(score + value, ids, token) for token, value in enumerate(logprobs.tolist())]
        candidates = sorted(candidates, key=lambda one: -one[0])[: 2 * settings.num_beams]
        if (
            len(ended) == settings.num_beams
            and ended[-1][0] >= candidates[0][0] / max(step, 1) ** settings.length_penalty
        ):
            break
        beams = []
        for score, ids, token in candidates:
            end, last = token == TOKENIZER.eos_id, step == settings.max_new_tokens - 1
            if end or last:
                whole = ids if end else [*ids, token]
                ended.append((score / max(len(whole), 1) ** settings.length_penalty, whole))
                ended = sorted(ended, key=lambda one: -one[0])[: settings.num_beams]
            elif len(beams) < settings.num_beams:
                beams.append(([*ids, token], score))
    return ended[0][1], ended[0][0]


@pytest.mark.parametrize(
    "settings", [BeamSettings(3, 5), BeamSettings(4, 5, 1.0, 2.0, 1.0), BeamSettings(1, 6)]
)
@pytest.mark.parametrize("number", [0, 2])
def test_as_without_any_cache(number: int, settings: BeamSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Special tokens would be read as words when the plain search writes them down: neither may say them.
    special = [TOKENIZER.ids[name] for name in TOKENIZER.specials if name != "</s>"]
    plain = CHAT.lm.logits

    def logits(states: torch.Tensor, extension: torch.Tensor) -> torch.Tensor:
        values = plain(states, extension).clone()
        values[..., special] = -1e4
        # An end that is likely now and then, so that answers of all lengths compete.
        values[..., TOKENIZER.eos_id] += 1.5
        return values

    monkeypatch.setattr(CHAT.lm, "logits", logits)
    *_, found = search(CHAT.lm, TOKENIZER, [rows()[number]], settings)
    ids, score = plain_search(PROMPTS[number], settings)
    assert math.isfinite(score)
    assert found[0] == ids


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_answers_as_one_by_one(beams: int) -> None:
    settings = BeamSettings(beams, 6, 1.0, 1.3, 1.0)
    *_, together = search(CHAT.lm, TOKENIZER, rows(), settings)
    for row, ids in zip(rows(), together, strict=True):
        *_, alone = search(CHAT.lm, TOKENIZER, [row], settings)
        assert alone == [ids]


def test_what_is_settled_is_never_taken_back() -> None:
    for settings in (BeamSettings(3, 8), BeamSettings(1, 8)):
        steps = [step[0] for step in search(CHAT.lm, TOKENIZER, rows()[:1], settings)]
        for earlier, later in itertools.pairwise(steps):
            assert later[: len(earlier)] == earlier


def test_unknown_words_can_be_said_only_by_who_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = CHAT.lm.logits

    def eager(states: torch.Tensor, extension: torch.Tensor) -> torch.Tensor:
        values = plain(states, extension).clone()
        values[..., len(TOKENIZER) :] += 500
        values[..., TOKENIZER.unk_id] += 400
        return values

    monkeypatch.setattr(CHAT.lm, "logits", eager)
    settings = BeamSettings(1, 2, 1.0, 1.0, 1.0)
    *_, (none, two, _) = search(CHAT.lm, TOKENIZER, rows(), settings)
    assert all(i < len(TOKENIZER) and i != TOKENIZER.unk_id for i in none)
    table = own_words(rows()[1], TOKENIZER)
    assert table == {TOKENIZER.unk_id: "Ω", len(TOKENIZER): "ψ"}
    assert TOKENIZER.decode(two, table) == "ψψ"


def test_a_dictionary_needs_one_answer() -> None:
    for data in ({"question": "a"}, {"<ans>": {"<ans_0>": "", "<ans_1>": ""}}):
        with pytest.raises(UserError, match="one empty '<ans>'"):
            next(search(CHAT.lm, TOKENIZER, [encode_data(TOKENIZER, data)], BeamSettings()))


@pytest.mark.parametrize("wrong", [{"num_beams": 0}, {"max_new_tokens": 0}, {"temperature": 0.0}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        BeamSettings(**wrong)
