"""Tiny image-text-to-text models of transformers with random weights, saved as their makers do."""

from pathlib import Path

import torch
from tests.models.tiny_models import DECODERS, IDS, SIZE, VIT, tiny_tokenizer
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MT5Config,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %} {% endfor %}A: "
)


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


MARKS = TEMPLATE.replace("<image>", "MARK")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "eos_token_id": IDS["eos_token_id"],
    "pad_token_id": IDS["pad_token_id"],
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "patch_size": 8}


def tokenizer_with_marks(marks: dict[str, str]) -> tuple[PreTrainedTokenizerFast, dict[str, int]]:
    plain = tiny_tokenizer(False)
    special = {name: getattr(plain, name) for name in ("pad_token", "eos_token", "bos_token", "unk_token")}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer, extra_special_tokens=marks, **special
    )
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    for name, number in ids.items():
        setattr(tokenizer, name, number)
    return tokenizer, ids


def save_qwen3_vl(folder: Path) -> Path:
    torch.manual_seed(0)
    names = ("image_token", "video_token", "vision_start_token", "vision_end_token")
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer, ids = tokenizer_with_marks(dict(zip(names, marks, strict=True)))
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=TEXT
        | {"vocab_size": len(tokenizer), "rope_scaling": rope, "max_position_embeddings": 512},
        vision_config=TOWER
        | {
            "depth": 2,
            "num_heads": 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
        }
        | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **ids,
    )
    loud(Qwen3VLForConditionalGeneration(config)).save_pretrained(folder)
    sizes = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessor(size={"shortest_edge": SIZE**2, "longest_edge": SIZE**2}, **sizes)
    template = MARKS.replace("MARK", "<|vision_start|><|image_pad|><|vision_end|>")
    Qwen3VLProcessor(
        images, tokenizer, Qwen3VLVideoProcessor(**sizes), chat_template=template
    ).save_pretrained(folder)
    return folder


def save_gemma3(folder: Path) -> Path:
    torch.manual_seed(0)
    names = ("image_token", "boi_token", "eoi_token")
    marks = ("<image_soft_token>", "<start_of_image>", "<end_of_image>")
    tokenizer, ids = tokenizer_with_marks(dict(zip(names, marks, strict=True)))
    config = Gemma3Config(
        text_config=TEXT | {"vocab_size": len(tokenizer), "sliding_window": 64},
        vision_config=TOWER
        | {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIZE, "vision_use_head": False},
        mm_tokens_per_image=4,
        **{name.replace("token_id", "token_index"): number for name, number in ids.items()},
    )
    model = Gemma3ForConditionalGeneration(config)
    # Its projection begins as zeros, and the model would see nothing.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    loud(model).save_pretrained(folder)
    images = Gemma3ImageProcessor(size={"height": SIZE, "width": SIZE})
    template = MARKS.replace("MARK", "<start_of_image>")
    Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4).save_pretrained(folder)
    return folder
