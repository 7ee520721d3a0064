"""BLIP-2 and mBLIP checkpoints in both directions: `Blip2ForConditionalGeneration` folder and our model."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import AutoTokenizer, Blip2Config, Blip2VisionConfig, GenerationConfig

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic
from polylens.models.blip2_parts import (
    read_language_model,
    read_projector,
    read_qformer,
    read_vision,
)
from polylens.models.build import keep_untied, part_state, remember_parts
from polylens.models.resamplers import QFormer, ResamplerConfig
from polylens.models.vision import VisionConfig, VisionTower
from polylens.models.vlm import LanguageModelConfig, ModelConfig, VisionLanguageModel

IMAGE_TOKEN = "<image>"


def load_blip2(folder: str | Path, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    """A BLIP-2 or mBLIP folder as our model; its language model's head is never tied against the weights.

    Raises `UserError` when the folder lacks something.
    """
    folder = Path(folder)
    language_model = read_language_model(folder, dtype)
    keep_untied(language_model)
    qformer = read_qformer(folder, dtype)
    config = ModelConfig(
        vision=VisionConfig(path=str(folder)),
        resampler=ResamplerConfig(kind="qformer", path=str(folder), num_tokens=qformer.num_tokens),
        language_model=LanguageModelConfig(path=str(folder)),
    )
    model = VisionLanguageModel(
        VisionTower(read_vision(folder, dtype)),
        qformer,
        read_projector(folder, dtype),
        language_model,
        AutoTokenizer.from_pretrained(folder),
        ImageProcessor.from_folder(folder),
        config,
    )
    remember_parts(model)
    return model


def save_blip2(model: VisionLanguageModel, folder: str | Path, max_shard_size: str = "5GB") -> None:
    """Write `model` as a `Blip2ForConditionalGeneration` folder that plain transformers loads, with an
    image token.

    Where the embeddings have no spare row for the image token, a row is added: the mean of the others,
    which no answer prefers. Raises `UserError` for a model of other parts than BLIP-2's, or with LoRA not
    merged.
    """
    _check_exportable(model)
    folder = make_writable_folder(folder)
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    language_model = part_state(model, "language_model")
    text_config = model.lm.config.to_dict()
    if image_token >= model.lm.get_input_embeddings().weight.shape[0]:
        language_model = _with_rows(model, language_model, image_token + 1)
        text_config["vocab_size"] = image_token + 1
    resampler = model.resampler
    assert isinstance(resampler, QFormer)
    config = Blip2Config(
        vision_config=model.vision.config.to_dict(),
        qformer_config=resampler.model.config.to_dict(),
        text_config=text_config,
        num_query_tokens=model.num_image_tokens,
        image_token_index=image_token,
    )
    config.architectures = ["Blip2ForConditionalGeneration"]
    parts = {
        "vision_model.": model.vision.model.state_dict(),
        "qformer.": resampler.model.state_dict(),
        "language_projection.": model.projector.state_dict(),
        "language_model.": language_model,
    }
    state = {f"{prefix}{name}": tensor for prefix, part in parts.items() for name, tensor in part.items()}
    state["query_tokens"] = resampler.query_tokens.detach()
    save_torch_state_dict(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder, max_shard_size=max_shard_size
    )
    config.save_pretrained(folder)
    GenerationConfig(**_special_ids(model)).save_pretrained(folder)
    model.processor.save(folder)
    tokenizer.save_pretrained(folder)
    processor = {"processor_class": "Blip2Processor", "num_query_tokens": model.num_image_tokens}
    write_atomic(folder / "processor_config.json", json.dumps(processor, indent=2) + "\n")


def _check_exportable(model: VisionLanguageModel) -> None:
    if model.lm is not model.language_model:
        raise UserError(
            "The model carries LoRA adapters: merge them (merge_lora) before exporting to BLIP-2."
        )
    if model.config.visual_words:
        raise UserError(
            "BLIP-2 has no visual words (model.visual_words): only models trained without can be exported."
        )
    found = (type(model.vision.config).__name__, type(model.resampler).__name__)
    plain = model.vision.layer == "last" and model.vision.class_token
    if not (
        isinstance(model.vision.config, Blip2VisionConfig) and isinstance(model.resampler, QFormer) and plain
    ):
        raise UserError(
            f"BLIP-2 is its own image encoder and a Q-Former on its last states, not {found[0]} with "
            f"{found[1]}: only models made of BLIP-2's parts can be exported to it."
        )
    if model.config.layout.kind == "chat" or model.config.layout.bos == "first":
        raise UserError(
            "BLIP-2 puts the pictures first, then the prompt: a model of another layout has no export."
        )


def _with_rows(
    model: VisionLanguageModel, state: dict[str, torch.Tensor], wanted: int
) -> dict[str, torch.Tensor]:
    """The language model's state with the embeddings and the head filled up to `wanted` rows."""
    modules = (model.lm.get_input_embeddings(), model.lm.get_output_embeddings())
    grown = {}
    for tensor in (t.detach() for module in modules for t in module.parameters()):
        mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
        grown[tensor.data_ptr()] = torch.cat([tensor, mean.expand(wanted - len(tensor), *tensor.shape[1:])])
    return {name: grown.get(tensor.data_ptr(), tensor) for name, tensor in state.items()}


def _special_ids(model: VisionLanguageModel) -> dict[str, Any]:
    own = model.lm.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return {name: getattr(own, name) for name in names if getattr(own, name, None) is not None}
