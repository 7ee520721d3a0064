"""VisionLanguageModel: the same numbers for any batch, padding side and order, over every kind of language
model.
"""

import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
from tests.models.tiny_models import (
    DECODERS,
    ENCODER_DECODERS,
    LANGUAGE_MODELS,
    RESAMPLERS,
    VISION,
    NoisePicture,
    sample,
    tiny_vlm,
)
from torch.nn import functional as F

from polylens.data.collate import IGNORED
from polylens.errors import UserError

SAMPLES = [
    sample("German:", " Katze", (0,)),
    sample("What is in both of these pictures?", " dogs", (1, 2)),
    sample("Hi.", " Hello there", ()),
    sample("French:", " chat", (0,)),
]


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_loss_of_a_mixed_batch_is_the_mean_over_all_targets(lm: str) -> None:
    model = tiny_vlm(lm)
    collate = model.collator()
    batches = [collate([s]) for s in SAMPLES]
    total = sum(b.num_targets for b in batches)
    singly = sum(model.loss(b, num_targets=total) for b in batches)
    together = collate(SAMPLES)
    assert together.num_targets == total
    torch.testing.assert_close(model.loss(together), singly, rtol=1e-5, atol=0)
    assert model(together).shape == (total, model.lm.config.vocab_size)


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_target_logits_equal_the_rows_of_the_full_logits(lm: str) -> None:
    model = tiny_vlm(lm)
    batch = model.collator()(SAMPLES)
    rows = model(batch)
    inputs = {"inputs_embeds": model.embed(batch), "attention_mask": batch.attention_mask}
    if model.is_encoder_decoder:
        labels = batch.labels
        full = model.lm(**inputs, labels=labels).logits
    else:
        labels = batch.labels[:, 1:]
        full = model.lm(**inputs, **model.positions(batch.attention_mask)).logits[:, :-1]
    torch.testing.assert_close(rows, full[labels != IGNORED], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_does_not_depend_on_batching(lm: str, beams: int) -> None:
    model = tiny_vlm(lm)
    settings = {"num_beams": beams, "max_new_tokens": 6, "repetition_penalty": 1.3, "length_penalty": 0.5}
    one_by_one = model.generate(SAMPLES, batch_size=1, **settings)
    assert len(set(one_by_one)) > 1
    assert model.generate(SAMPLES, batch_size=4, **settings) == one_by_one
    assert model.generate(SAMPLES[::-1], batch_size=3, **settings) == one_by_one[::-1]


def test_without_samples_there_are_no_answers() -> None:
    model = tiny_vlm("llama")
    assert model.generate([]) == model.choose([], []) == model.score([], []) == []


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_scores_are_the_negative_losses_of_the_candidates(lm: str) -> None:
    model = tiny_vlm(lm)
    candidates = [[" Katze", " Hund", " K"], [" dogs"], [], [" Katzenhaus am See", "", " chat", " Katze"]]
    expected = []
    for s, texts in zip(SAMPLES, candidates, strict=True):
        expected.append([])
        for text in texts:
            turn = replace(s.turns[0], answer=text or "?")
            batch = model.collator()([replace(s, turns=(turn,))])
            if not text:  # the empty answer has no sample of its own: its end is the first token of any
                labels = batch.labels.clone()
                first = (labels[0] != IGNORED).nonzero()[0, 0]
                labels[0] = IGNORED
                labels[0, first] = model.tokenizer.eos_token_id
                batch.labels, batch.num_targets = labels, 1
            expected[-1].append(-model.loss(batch, num_targets=1).item())
    for batch_size in (1, 3, 4):
        scores = model.score(SAMPLES, candidates, batch_size=batch_size)
        assert [len(row) for row in scores] == [3, 1, 0, 4]
        for got, want in zip(chain(*scores), chain(*expected), strict=True):
            assert math.isclose(got, want, rel_tol=2e-5), batch_size


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("resampler", RESAMPLERS)
def test_every_encoder_and_resampler_makes_its_tokens(vision: str, resampler: str) -> None:
    model = tiny_vlm(vision=vision, resampler=resampler)
    pixels = torch.randn(2, 3, 32, 32)
    patches = model.encode(pixels)
    assert patches.shape[2] == model.vision.width
    tokens = model.visual_tokens(patches)
    assert tokens.shape == (2, model.num_image_tokens, 32)
    # A random Q-Former hardly tells two pictures apart, but it does.
    assert not torch.equal(tokens[0], tokens[1])
    loss = model.loss(model.collator()(SAMPLES))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.resampler.parameters() if p.grad is not None)


def test_each_distinct_picture_is_loaded_and_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = NoisePicture.load
    monkeypatch.setattr(NoisePicture, "load", lambda self: loads.append(self.key) or load(self))
    model = tiny_vlm()
    model.generate([sample(f"{i}", pictures=(i % 2,)) for i in range(6)], batch_size=2, max_new_tokens=2)
    assert sorted(loads) == ["noise-0", "noise-1"]


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_given_visual_tokens_stand_in_for_the_pictures(lm: str) -> None:
    model = tiny_vlm(lm)
    by_key = model.encode_pictures([picture for s in SAMPLES for picture in s.images])

    def scores(**settings: object) -> list[float]:
        return [row[0] for row in model.score(SAMPLES, [[" a"]] * 4, **settings)]

    expected = scores()
    assert scores(visual=by_key, batch_size=3) == pytest.approx(expected, rel=1e-5)
    blind = scores(visual={key: torch.zeros_like(tokens) for key, tokens in by_key.items()})
    assert blind[0] != pytest.approx(expected[0], rel=1e-5)
    assert blind[2] == pytest.approx(expected[2], rel=1e-5)  # text only
    with pytest.raises(UserError, match="this model's are"):
        model.generate(SAMPLES, visual={key: tokens[:2] for key, tokens in by_key.items()})
    with pytest.raises(UserError, match="noise-2"):
        model.generate(SAMPLES, visual={k: v for k, v in by_key.items() if k != "noise-2"})


@pytest.mark.parametrize("lm", ["opt", "t5"])
def test_cached_states_of_every_level_give_the_same_loss(lm: str) -> None:
    model = tiny_vlm(lm)
    batch = model.collator()(SAMPLES)
    expected = model.loss(batch)
    patches = model.encode(batch.visual)
    queries = model.resampler(patches)
    levels = {"patches": patches, "queries": queries, "tokens": model.project(queries)}
    for level, states in levels.items():
        cached = replace(batch, visual=states, level=level)
        torch.testing.assert_close(model.loss(cached), expected)


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_every_part_gets_a_gradient_and_modes_are_kept(lm: str) -> None:
    model = tiny_vlm(lm)
    model.train()
    model.vision.eval()
    model.loss(model.collator()(SAMPLES)).backward()
    for part in (model.vision, model.resampler, model.projector, model.language_model):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    model.generate(SAMPLES[:1], max_new_tokens=1)
    assert model.language_model.training
    assert not model.vision.training


def test_bad_settings_are_the_users_errors() -> None:
    model = tiny_vlm()
    with pytest.raises(UserError, match="num_beams=0"):
        model.generate(SAMPLES, num_beams=0)
    with pytest.raises(UserError, match="repetition_penalty"):
        model.generate(SAMPLES, repetition_penalty=0)
    with pytest.raises(UserError, match="batch_size"):
        model.generate(SAMPLES, batch_size=0)
    with pytest.raises(UserError, match="4 samples, but 1"):
        model.score(SAMPLES, [["a"]])


def test_kinds_are_told_apart_by_config() -> None:
    assert not any(tiny_vlm(name).is_encoder_decoder for name in DECODERS)
    assert all(tiny_vlm(name).is_encoder_decoder for name in ENCODER_DECODERS)


def test_loss_counts_the_answer_and_its_end_only() -> None:
    model = tiny_vlm("gpt2")
    batch = model.collator()([SAMPLES[0]])
    logits = model(batch)
    targets = torch.tensor(model.collator().answer_ids(" Katze"))
    assert batch.num_targets == len(" Katze") + 1
    torch.testing.assert_close(model.loss(batch), F.cross_entropy(logits, targets))
