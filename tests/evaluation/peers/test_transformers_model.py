"""Any image-text-to-text model of transformers: tiny random ones, saved and opened as a user would."""

from pathlib import Path

import pytest
from tests.models.tiny_models import sample
from tests.models.tiny_transformers import TEMPLATE, save_blip2, save_llava

from polylens.errors import UserError
from polylens.evaluation.generation import Generation
from polylens.evaluation.peers import is_peer, open_peer
from polylens.evaluation.peers.transformers_model import TransformersPredictor
from polylens.evaluation.predictor import Predictor

SAMPLES = [
    sample("what", pictures=(0,)),
    sample("a longer question", pictures=(1,)),
    sample("text only", pictures=()),
    sample("what", pictures=(2,)),
    sample("two", pictures=(0, 2)),
]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> TransformersPredictor:
    folder = save_llava(tmp_path_factory.mktemp("llava"))
    peer = open_peer(f"transformers:{folder}")
    assert isinstance(peer, TransformersPredictor)
    return peer


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_do_not_depend_on_the_batch(llava: TransformersPredictor, beams: int) -> None:
    peer: Predictor = llava
    found = []
    for size in (1, 2, 5):
        given = Generation(num_beams=beams, max_new_tokens=6, batch_size=size)
        found.append(dict(peer.generate(SAMPLES, given)))
    assert found[0] == found[1] == found[2]
    assert sorted(found[0]) == list(range(len(SAMPLES)))
    assert found[0][0] != found[0][3], "another picture, another answer"
    assert not any("what" in text or "<image>" in text for text in found[0].values())


def test_the_chat_template_is_used(llava: TransformersPredictor) -> None:
    inputs = llava.model.inputs([SAMPLES[4]])
    text = llava.model.tokenizer.decode(inputs["input_ids"][0])
    assert text.replace(" ", "").startswith("<unk>user:".replace("<unk>", "") + "<image>")
    assert (inputs["input_ids"] == llava.model.model.config.image_token_id).sum() == 2 * 16


def test_an_encoder_decoder_without_a_template(tmp_path: Path) -> None:
    peer = TransformersPredictor(str(save_blip2(tmp_path)))
    answers = dict(peer.generate(SAMPLES[:2] + SAMPLES[3:4], Generation(max_new_tokens=6, num_beams=2)))
    assert sorted(answers) == [0, 1, 2]
    assert answers[0] != answers[2]
    assert peer.settings["prompt"] == "pictures, then the prompt"
    assert dict(peer.generate(SAMPLES[:2], Generation(max_new_tokens=6, num_beams=2, batch_size=1))) == {
        0: answers[0],
        1: answers[1],
    }


def test_a_prompt_without_a_place_for_the_picture_is_refused(tmp_path: Path) -> None:
    blind = TEMPLATE.replace("<image>", "")
    peer = TransformersPredictor(str(save_llava(tmp_path, blind)))
    with pytest.raises(UserError, match=r"no place for the picture|cannot read these prompts"):
        list(peer.generate(SAMPLES[:1], Generation()))


def test_settings_name_the_weights(llava: TransformersPredictor) -> None:
    assert len(llava.settings["model_sha256"]) == 64
    assert llava.settings["dtype"] == "float32"
    assert llava.settings["prompt"] == "chat template"
    assert "German" in llava.ask_caption("de")


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        TransformersPredictor(str(tmp_path))
    assert is_peer("transformers:x")
    assert is_peer("https://host/v1#m")
    assert not is_peer("picto")
