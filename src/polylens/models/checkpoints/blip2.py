"""BLIP-2 and mBLIP checkpoints in both directions: `Blip2ForConditionalGeneration` folder and our model."""

import json
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import AutoTokenizer, Blip2Config, Blip2VisionConfig, GenerationConfig

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.files import replacing_folder, write_atomic
from polylens.models.checkpoints.blip2_parts import (
    read_language_model,
    read_projector,
    read_qformer,
    read_vision,
)
from polylens.models.checkpoints.build import keep_untied, remember_parts
from polylens.models.checkpoints.export import special_ids, text_side
from polylens.models.config import (
    LanguageModelConfig,
    ModelConfig,
    Quantization,
    ResamplerConfig,
    VisionConfig,
)
from polylens.models.parts.resamplers import QFormer
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel


def load_blip2(
    folder: str | Path, dtype: torch.dtype = torch.float32, quantization: Quantization | None = None
) -> VisionLanguageModel:
    """A BLIP-2 or mBLIP folder as our model; its language model's head is never tied against the weights.

    Raises `UserError` when the folder lacks something.
    """
    folder = Path(folder)
    language_model = read_language_model(folder, dtype, quantization)
    keep_untied(language_model)
    qformer = read_qformer(folder, dtype)
    config = ModelConfig(
        vision=VisionConfig(path=str(folder)),
        resampler=ResamplerConfig(kind="qformer", path=str(folder), num_tokens=qformer.num_tokens),
        language_model=LanguageModelConfig(path=str(folder), quantization=quantization),
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
    image token (see `text_side`).

    Raises `UserError` for a model of other parts than BLIP-2's, or with LoRA not merged.
    """
    text = text_side(model)
    _check_exportable(model)
    resampler = model.resampler
    assert isinstance(resampler, QFormer)
    config = Blip2Config(
        vision_config=model.vision.config.to_dict(),
        qformer_config=resampler.model.config.to_dict(),
        text_config=text.config,
        num_query_tokens=model.num_image_tokens,
        image_token_index=text.image_token,
    )
    config.architectures = ["Blip2ForConditionalGeneration"]
    parts = {
        "vision_model.": model.vision.model.state_dict(),
        "qformer.": resampler.model.state_dict(),
        "language_projection.": model.projector.state_dict(),
        "language_model.": text.state,
    }
    state = {f"{prefix}{name}": tensor for prefix, part in parts.items() for name, tensor in part.items()}
    state["query_tokens"] = resampler.query_tokens.detach()
    processor = {"processor_class": "Blip2Processor", "num_query_tokens": model.num_image_tokens}

    with replacing_folder(folder) as new:
        save_torch_state_dict(
            {name: tensor.contiguous() for name, tensor in state.items()}, new, max_shard_size=max_shard_size
        )
        config.save_pretrained(new)
        _say_untied(model, new / "config.json")
        GenerationConfig(**special_ids(model)).save_pretrained(new)
        model.processor.save(new)
        text.tokenizer.save_pretrained(new)
        write_atomic(new / "processor_config.json", json.dumps(processor, indent=2) + "\n")


def _say_untied(model: VisionLanguageModel, path: Path) -> None:
    """transformers 5 writes "tied" into every T5 config; other readers would believe it."""
    if model.lm.get_output_embeddings().weight is model.lm.get_input_embeddings().weight:
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"]["tie_word_embeddings"] = False
    write_atomic(path, json.dumps(config, indent=2) + "\n")


def _check_exportable(model: VisionLanguageModel) -> None:
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
