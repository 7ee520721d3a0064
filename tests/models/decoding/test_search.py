"""Greedy and beam search against transformers' own, over every kind of language model."""

import pytest
import torch
from tests.models.tiny_models import LANGUAGE_MODELS, sample, tiny_vlm

from polylens.models.decoding import search as decoding
from polylens.models.decoding.scoring import read_prompts
from polylens.models.vlm import VisionLanguageModel

SAMPLES = [sample(text, pictures=(i % 3,)) for i, text in enumerate("German: |French?|A b|Say:|x".split("|"))]
SETTINGS = [
    {"num_beams": 1},
    {"num_beams": 1, "repetition_penalty": 1.4},
    {"num_beams": 5},
    {"num_beams": 4, "length_penalty": -1.0},
    {"num_beams": 3, "length_penalty": 2.0, "repetition_penalty": 1.5},
]


@torch.no_grad()
def ending_vlm(lm: str) -> VisionLanguageModel:
    """A random model that ends its answers now and then, early and late."""
    model = tiny_vlm(lm)
    head, end = model.lm.get_output_embeddings(), model.tokenizer.eos_token_id
    visual = model.encode_pictures([picture for one in SAMPLES for picture in one.images])
    first = read_prompts(model, model.visual_batch(SAMPLES, visual)).logits
    bias = torch.zeros(first.shape[1])
    bias[end] = 0.8 * (first.max(1).values - first[:, end]).mean().item()
    head.register_forward_hook(lambda module, inputs, output: output + bias)
    return model


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_answers_are_those_of_transformers(lm: str) -> None:
    model = ending_vlm(lm)
    lengths = set()
    for chosen in SETTINGS:
        given = {"max_new_tokens": 12, **chosen}
        ours = model.generate(SAMPLES, batch_size=5, **given)
        # Any further setting goes through transformers; this one is its default.
        assert ours == model.generate(SAMPLES, batch_size=5, renormalize_logits=False, **given), chosen
        lengths |= {len(text) for text in ours}
    assert len(lengths) > 2, "answers of several lengths, or nothing was tested"


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_rows_that_have_ended_are_not_computed_on(lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = ending_vlm(lm), []
    call = decoding.Reader.__call__
    monkeypatch.setattr(
        decoding.Reader, "__call__", lambda self, tokens: rows.append(len(tokens)) or call(self, tokens)
    )
    answers = model.generate(SAMPLES, batch_size=5, max_new_tokens=12)
    assert len({len(text) for text in answers}) > 1
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < rows[0] <= len(SAMPLES)
