"""Any image-text-to-text model of transformers: tiny random ones, saved and opened as a user would."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import DECODERS, IDS, SIZE, VIT, sample, tiny_tokenizer
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MT5Config,
    PreTrainedTokenizerFast,
)

from polylens.errors import UserError
from polylens.evaluation.generation import Generation
from polylens.evaluation.peers import is_peer, open_peer
from polylens.evaluation.peers.transformers_model import TransformersPredictor
from polylens.evaluation.predictor import Predictor

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %} {% endfor %}A: "
)
SAMPLES = [
    sample("what", pictures=(0,)),
    sample("a longer question", pictures=(1,)),
    sample("text only", pictures=()),
    sample("what", pictures=(2,)),
    sample("two", pictures=(0, 2)),
]


def tokenizer_with_image(encoder_decoder: bool = False) -> tuple[PreTrainedTokenizerFast, int]:
    tokenizer = tiny_tokenizer(encoder_decoder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer, tokenizer.convert_tokens_to_ids("<image>")


def image_processor() -> CLIPImageProcessor:
    size = {"height": SIZE, "width": SIZE}
    return CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False)


def loud(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights large enough that pictures and prompts move the answer."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


def save_llava(folder: Path, template: str | None = TEMPLATE) -> Path:
    torch.manual_seed(0)
    tokenizer, image = tokenizer_with_image()
    text = DECODERS["llama"].to_dict() | {"vocab_size": len(tokenizer)}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VIT),
        text_config=LlamaConfig(**{key: value for key, value in text.items() if key != "model_type"}),
        image_token_id=image,
        vision_feature_layer=-1,
    )
    loud(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    LlavaProcessor(
        image_processor(),
        tokenizer,
        patch_size=VIT["patch_size"],
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def save_blip2(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer, image = tokenizer_with_image(encoder_decoder=True)
    text = MT5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu", **(IDS | {"vocab_size": len(tokenizer)}),
    )  # fmt: skip
    qformer = Blip2QFormerConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        encoder_hidden_size=VIT["hidden_size"],
    )  # fmt: skip
    config = Blip2Config(
        vision_config=VIT, qformer_config=qformer.to_dict(), text_config=text.to_dict(),
        num_query_tokens=3, image_token_index=image,
    )  # fmt: skip
    loud(Blip2ForConditionalGeneration(config)).save_pretrained(folder)
    Blip2Processor(image_processor(), tokenizer, num_query_tokens=3).save_pretrained(folder)
    return folder


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
    inputs = llava._inputs([SAMPLES[4]])
    text = llava.tokenizer.decode(inputs["input_ids"][0])
    assert text.replace(" ", "").startswith("<unk>user:".replace("<unk>", "") + "<image>")
    assert (inputs["input_ids"] == llava.model.config.image_token_id).sum() == 2 * 16


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
