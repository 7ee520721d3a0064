"""Export to LLaVA: plain transformers answers as we do, and what the format cannot express is refused."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import NoisePicture, sample, tiny_vlm
from tokenizers import processors
from transformers import (
    AutoTokenizer,
    CohereConfig,
    CohereForCausalLM,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from polylens.errors import UserError
from polylens.models.checkpoints.build import compose
from polylens.models.checkpoints.llava import save_llava
from polylens.models.parts.lora import apply_lora, merge_lora
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel

PROMPTS = ["German:", "What is in this picture?"]
WITH_IMAGE = ["<image>" + prompt for prompt in PROMPTS]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def llava_like(
    lm: str = "llama",
    vision: str = "clip",
    layer: str = "penultimate",
    class_token: bool = False,
    **config: object,
) -> VisionLanguageModel:
    model = tiny_vlm(lm, vision, "mlp", layout={"bos": "first"} | config)  # type: ignore[arg-type]
    tower = VisionTower(model.vision.model, layer, class_token)  # type: ignore[arg-type]
    if model.config.layout.kind == "plain":
        model.tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 2)]
        )
    again = compose(model.config, tower, model.lm, model.tokenizer, model.processor)
    return again.eval()


@torch.no_grad()
def plain_answers(
    folder: Path, model: VisionLanguageModel, prompts: list[str], **settings: object
) -> list[str]:
    plain = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    answers = []
    for prompt in prompts:
        encoded = processor(text=prompt, images=NoisePicture(0).load(), return_tensors="pt")
        # The pixels are ours: which image library a processor uses moves them a little.
        encoded["pixel_values"] = model.processor([NoisePicture(0).load()])
        found = plain.generate(**encoded, max_new_tokens=8, do_sample=False, **settings)
        tokenizer = processor.tokenizer
        answers.append(
            tokenizer.decode(found[0, encoded.input_ids.shape[1] :], skip_special_tokens=True).strip()
        )
    return answers


@pytest.mark.parametrize(
    ("vision", "layer", "class_token"),
    [
        ("clip", "penultimate", False),
        ("clip", "last", True),
        ("siglip", "penultimate", True),
    ],
)
def test_plain_transformers_answers_the_same(
    vision: str, layer: str, class_token: bool, tmp_path: Path
) -> None:
    model = llava_like("llama", vision, layer, class_token)
    save_llava(model, tmp_path / "out")
    for settings in ({}, {"num_beams": 3}):
        ours = model.generate([sample(p) for p in PROMPTS], max_new_tokens=8, **settings)
        assert len(set(ours)) > 1
        assert plain_answers(tmp_path / "out", model, WITH_IMAGE, **settings) == ours


def test_another_decoder_and_merged_adapters(tmp_path: Path) -> None:
    model = llava_like("qwen2")
    apply_lora(model, "language_model.*", rank=2, dropout=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    with pytest.raises(UserError, match="merge them"):
        save_llava(model, tmp_path / "out")
    merge_lora(model)
    save_llava(model, tmp_path / "out")
    ours = model.generate([sample(p) for p in PROMPTS], max_new_tokens=8)
    assert plain_answers(tmp_path / "out", model, WITH_IMAGE) == ours
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids("<image>") == len(tokenizer) - 1


def test_chat_layouts_are_exported_with_their_template(tmp_path: Path) -> None:
    model = llava_like(kind="chat", bos="text")
    model.tokenizer.chat_template = TEMPLATE
    save_llava(model, tmp_path / "out")
    processor = LlavaProcessor.from_pretrained(tmp_path / "out")
    question = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": "<image>Which animal?"}], tokenize=False, add_generation_prompt=True
    )
    ours = model.generate([sample("Which animal?")], max_new_tokens=8)
    assert plain_answers(tmp_path / "out", model, [question]) == ours


def test_what_the_format_cannot_express_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="encoder-decoder"):
        save_llava(tiny_vlm("mt5", "clip", "mlp"), out)
    with pytest.raises(UserError, match="not Perceiver"):
        save_llava(tiny_vlm("llama", "clip", "perceiver"), out)
    with pytest.raises(UserError, match="feature maps"):
        save_llava(tiny_vlm("llama", "convnext", "mlp"), out)
    with pytest.raises(UserError, match="embeddings of GPT2LMHeadModel"):
        save_llava(llava_like("gpt2"), out)
    with pytest.raises(UserError, match=r"vision\.layer penultimate"):
        save_llava(llava_like(vision="siglip", layer="last", class_token=True), out)
    with pytest.raises(UserError, match=r"layout\.bos first"):
        save_llava(llava_like(bos="text"), out)
    assert not out.exists()


def test_a_language_model_that_scales_its_logits_is_refused(tmp_path: Path) -> None:
    model = llava_like()
    config = CohereConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=len(model.tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        logit_scale=0.25,
    )
    other = compose(
        model.config, model.vision, CohereForCausalLM(config), model.tokenizer, model.processor
    ).eval()
    with pytest.raises(UserError, match="does more to its logits"):
        save_llava(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="not empty"):
        save_llava(llava_like(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
