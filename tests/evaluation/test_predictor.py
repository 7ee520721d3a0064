"""Our model as a predictor: answers in their places, and visual tokens kept on disk."""

import json
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import NoisePicture, sample, tiny_vlm
from tests.viscpm.tiny import ask, tiny_chat

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


@pytest.mark.parametrize("num_beams", [1, 2])
def test_viscpm_is_asked_and_cached_as_any_other_model(tmp_path: Path, num_beams: int) -> None:
    asked = [ask(("a cat?", ""), pictures=(seed,), name=str(seed)) for seed in (0, 1)]
    generation = Generation(num_beams=num_beams, max_new_tokens=4)

    def answers(seed: int, root: Path | None) -> dict[int, str]:
        return dict(LocalPredictor(tiny_chat(seed), cache_root=root).generate(asked, generation))

    assert answers(0, tmp_path) == answers(0, None) == answers(0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert answers(1, tmp_path) == answers(1, None)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_identity_of_visual_tokens_names_all_weights_before_the_language_model() -> None:
    model = tiny_chat()
    first = model.vision_identity()
    json.dumps(first)
    with torch.no_grad():
        model.lm.input_embedding.weight.add_(1)
    assert model.vision_identity() == first
    for weight in (model.model.query, model.model.mapping[0].weight, next(model.model.vpm.parameters())):
        with torch.no_grad():
            weight.add_(1)
        assert model.vision_identity() != first
        with torch.no_grad():
            weight.sub_(1)
