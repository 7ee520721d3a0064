"""`choose` gives the argmax of `score`, for every kind of language model, with candidates that share
beginnings.
"""

import pytest
import torch
from tests.models.tiny_models import LANGUAGE_MODELS, sample, tiny_vlm

from polylens.errors import UserError
from polylens.models.decoding import choosing
from polylens.models.decoding.choosing import choose_answers
from polylens.models.decoding.scoring import read_prompts, score_rows

CANDIDATES = [
    "Katze",
    "Kater",
    "Kat",
    "Hund",
    "Hunde",
    "ein Hund",
    "a",
    "chat",
    "chat noir",
    "Katze und Hund",
]
SAMPLES = [
    sample("German:", "", (0,)),
    sample("What is in both of these pictures?", "", (1, 2)),
    sample("Hi.", "", ()),
    sample("French:", "", (3,)),
]


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_choice_is_the_argmax_of_the_scores(lm: str) -> None:
    model = tiny_vlm(lm)
    candidates = [CANDIDATES, CANDIDATES[::-1], CANDIDATES[3:], CANDIDATES[:1]]
    scores = model.score(SAMPLES, candidates)
    best = [max(range(len(row)), key=row.__getitem__) for row in scores]
    for batch_size in (1, 3, 16):
        assert model.choose(SAMPLES, candidates, batch_size=batch_size) == best


def test_the_first_of_equal_candidates_is_chosen() -> None:
    model = tiny_vlm(next(iter(LANGUAGE_MODELS)))
    assert model.choose(SAMPLES[:1], [["Hund", "Hund"]]) == [0]


@pytest.mark.parametrize("lm", ["llama", "mt5"])
@torch.no_grad()
def test_any_tree_of_answers_at_any_width(lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vlm(lm).eval()
    draw = torch.Generator().manual_seed(0)
    # Of three tokens, so that many answers share beginnings, and some are the beginning of others.
    answers = [
        [torch.randint(5, 8, (1 + number % 5,), generator=draw).tolist() for number in range(60)]
        for _ in SAMPLES
    ]
    prompts = read_prompts(model, model.collator()(SAMPLES, answers=False))
    scores = [score_rows(model, prompts, [row] * len(texts), texts) for row, texts in enumerate(answers)]
    for rows in (choosing.ROWS, 5):
        monkeypatch.setattr(choosing, "ROWS", rows)
        picks = choose_answers(model, prompts, answers)
        assert [answers[s][pick] for s, pick in enumerate(picks)] == [
            texts[int(found.argmax())] for texts, found in zip(answers, scores, strict=True)
        ]


def test_a_sample_without_candidates_is_refused() -> None:
    model = tiny_vlm("llama")
    for batch_size in (1, 2):
        with pytest.raises(UserError, match="Sample 1 has no candidates"):
            model.choose(SAMPLES[:2], [CANDIDATES, []], batch_size=batch_size)
