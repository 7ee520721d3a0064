"""Our model as a predictor: answers in their places, and visual tokens kept on disk."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import NoisePicture, sample, tiny_vlm

from polylens.evaluation.generation import Generation
from polylens.evaluation.predictor import Chooser, LocalPredictor

SAMPLES = [sample(text, pictures=(seed,)) for seed in (0, 1) for text in ("German:", "A:", "French is?")]
SAMPLES += [sample("no picture", pictures=()), sample("both", pictures=(0, 1))]


def test_answers_stand_in_their_places() -> None:
    model = tiny_vlm()
    predictor: Chooser = LocalPredictor(model)
    expected = [model.generate([one], max_new_tokens=5)[0] for one in SAMPLES]
    for size in (1, 3, 64):
        found = dict(predictor.generate(SAMPLES, Generation(max_new_tokens=5, batch_size=size)))
        assert [found[place] for place in range(len(SAMPLES))] == expected
    candidates = [["a", "b"], ["c"], ["a", "dd", "e"]] * 2 + [["x", "y"], ["z", "a"]]
    picks = dict(predictor.choose(SAMPLES, candidates, Generation()))
    assert [picks[place] for place in range(len(SAMPLES))] == model.choose(SAMPLES, candidates)


def test_visual_tokens_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    load = NoisePicture.load
    monkeypatch.setattr(NoisePicture, "load", lambda self: loads.append(self.key) or load(self))

    def answers(seed: int, root: Path | None) -> dict[int, str]:
        predictor = LocalPredictor(tiny_vlm(seed=seed), cache_root=root)
        return dict(predictor.generate(SAMPLES, Generation(max_new_tokens=5)))

    expected = answers(0, None)
    loads.clear()
    assert answers(0, tmp_path) == expected
    assert sorted(loads) == ["noise-0", "noise-1"]
    loads.clear()
    assert answers(0, tmp_path) == expected
    assert loads == []
    # Other weights find nothing of it.
    assert answers(1, tmp_path) == answers(1, None) != expected
    assert len(loads) == 4


def test_the_cache_keeps_bfloat16(tmp_path: Path) -> None:
    model = tiny_vlm().to(torch.bfloat16)
    found = [
        dict(LocalPredictor(model, cache_root=root).generate(SAMPLES[:2], Generation(max_new_tokens=4)))
        for root in (None, tmp_path, tmp_path)
    ]
    assert found[0] == found[1] == found[2]
