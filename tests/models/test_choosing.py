"""`choose` gives the argmax of `score`, for every kind of language model, with candidates that share
beginnings.
"""

import pytest
from tests.models.tiny_models import LANGUAGE_MODELS, sample, tiny_vlm

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
