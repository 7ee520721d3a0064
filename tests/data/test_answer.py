"""Whether a generated text ended by itself."""

import pickle

import pytest
import torch
from tests.models.tiny_models import sample, tiny_vlm

from polylens.data.answer import Answer, finish_reason, num_cut
from polylens.models.decoding.generation import end_ids
from polylens.models.decoding.scoring import read_prompts


def test_an_answer_is_its_text():
    cut = Answer("a cat", "length")
    assert cut == "a cat"
    assert finish_reason(pickle.loads(pickle.dumps(cut))) == "length"
    assert [finish_reason(text) for text in (cut, Answer("x"), "plain")] == ["length", "stop", "stop"]
    assert num_cut([cut, "plain", cut]) == 2


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_says_what_it_cut(beams, monkeypatch):
    model = tiny_vlm("opt")
    samples = [sample("Hi"), sample("What is it")]
    (short, _) = model.generate(samples, max_new_tokens=1, num_beams=beams)
    ends = set(end_ids(model))
    visual = model.encode_pictures(samples[0].images)
    with torch.no_grad():
        first = read_prompts(model, model.visual_batch(samples[:1], visual)).logits.argmax(-1).item()
    assert finish_reason(short) == ("stop" if first in ends else "length")
    talk = model.chat(max_new_tokens=1, num_beams=beams)
    talk.say("Hi")
    assert talk.finish_reason in ("stop", "length")
