"""Models without weights, on the meta device, from configs alone: their shapes can be counted and walked through.

A config comes from a folder, else from the sizes that the package knows of the models its recipes name, else
from the hub (`config.json` only).
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2Config,
    Blip2QFormerConfig,
    Blip2VisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import MODEL_TYPE
from polylens.models.checkpoints.build import compose, keep_untied
from polylens.models.checkpoints.card import MANIFEST
from polylens.models.checkpoints.manifest import read_manifest
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import LanguageModelConfig, ModelConfig, ResamplerConfig, VisionConfig
from polylens.models.parts.resamplers import QFormer
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel

KNOWN: dict[str, dict[str, Any]] = json.loads(
    (resources.files("polylens.models") / "known_configs.json").read_text(encoding="utf-8")
)


def skeleton(config: ModelConfig, relative_to: Path | None = None) -> VisionLanguageModel:
    """The model that `build_model` would make of `config`, on the meta device and without a tokenizer.

    Raises `UserError` for parts of which no config is to be had.
    """
    config = config.model_copy(deep=True)
    raw_vision, folder = read_raw_config(config.vision.path, "vision.path", relative_to)
    raw_lm, _ = read_raw_config(config.language_model.path, "language_model.path", relative_to)
    qformer = _qformer_sizes(config, relative_to)
    with torch.device("meta"):
        tower = VisionTower(_vision_model(raw_vision), config.vision.layer, config.vision.class_token)
        resampler = QFormer(*qformer) if qformer else None
        if resampler is not None:
            config.resampler = config.resampler.model_copy(update={"num_tokens": resampler.num_tokens})
        config.projector = config.projector.model_copy(update={"path": None})
        tokenizer: Any = None
        return compose(
            config, tower, language_model_skeleton(raw_lm), tokenizer, _processor(folder, tower), resampler
        )


def checkpoint_skeleton(folder: Path) -> VisionLanguageModel:
    """The model of a checkpoint folder. Raises `UserError` for a part that is missing."""
    manifest, config = read_manifest(folder)
    for part in ("vision", "language_model"):
        entry = getattr(config, part)
        setattr(config, part, entry.model_copy(update={"path": manifest["parts"][part]["path"]}))
    if manifest["qformer"]:
        config.resampler.path = str(folder)
    return skeleton(config, relative_to=folder)


def blip2_skeleton(path: str) -> VisionLanguageModel:
    """The model of a BLIP-2 folder, or of a hub id whose sizes the package knows."""
    return skeleton(
        ModelConfig(
            vision=VisionConfig(path=path),
            resampler=ResamplerConfig(path=path),
            language_model=LanguageModelConfig(path=path),
        )
    )


def read_raw_config(
    path: str | None, key: str, relative_to: Path | None = None
) -> tuple[dict[str, Any], Path | None]:
    """(config.json of that model as it is, its folder if there is one). Raises `UserError`."""
    if path is None:
        raise UserError(f"The model has no {key}: set it to a folder, a name or a hub id.")
    if path in KNOWN and not Path(path).is_dir():
        return KNOWN[path], None
    folder = resolve_model(path, relative_to, weights=False)
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")), folder
    except (OSError, ValueError) as error:
        raise UserError(f"'{folder / 'config.json'}' is missing or damaged ({error}).") from error


def language_model_skeleton(raw: dict[str, Any]) -> PreTrainedModel:
    """The language model of a raw config (of a BLIP-2 config, its part), its head untied if the config says so."""
    raw = raw["text_config"] if raw.get("model_type") == MODEL_TYPE else raw
    config = _config(raw)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        try:
            model = kind.from_config(config)
        except (ValueError, KeyError) as error:
            raise UserError(
                f"A '{config.model_type}' is no language model that can be used: {error}"
            ) from error
        head = model.get_output_embeddings()
        # transformers 5 makes T5 and MT5 tied whatever their config says.
        if raw.get("tie_word_embeddings") is False and head.weight is model.get_input_embeddings().weight:
            head.weight = nn.Parameter(torch.empty_like(head.weight))
    keep_untied(model)
    return model


def _vision_model(raw: dict[str, Any]) -> PreTrainedModel:
    if raw.get("model_type") == MODEL_TYPE:
        return Blip2VisionModel(Blip2Config(**raw).vision_config)
    config = _config(raw)
    config = getattr(config, "vision_config", config)
    try:
        return AutoModel.from_config(config)
    except ValueError:
        named = getattr(transformers, (raw.get("architectures") or [""])[0], None)
        if named is None:
            raise UserError(f"A '{config.model_type}' is no image encoder that can be used.") from None
        return named(config)


def _config(raw: dict[str, Any]) -> PreTrainedConfig:
    settings = {key: value for key, value in raw.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(raw["model_type"], **settings)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"This config.json is of no model that transformers knows: {error}") from error


def _qformer_sizes(config: ModelConfig, relative_to: Path | None) -> tuple[Blip2QFormerConfig, int] | None:
    path = config.resampler.path
    if path is None:
        return None
    if path not in KNOWN:
        folder = resolve_model(path, relative_to, weights=False)
        if (folder / MANIFEST).is_file():
            sizes = read_manifest(folder)[0]["qformer"]
            return Blip2QFormerConfig(**sizes["config"]), sizes["num_tokens"]
    raw, _ = read_raw_config(path, "resampler.path", relative_to)
    blip2 = Blip2Config(**raw)
    return blip2.qformer_config, blip2.num_query_tokens


def _processor(folder: Path | None, tower: VisionTower) -> ImageProcessor:
    if folder is not None:
        return ImageProcessor.from_folder(folder)
    side = tower.config.image_size
    half = (0.5, 0.5, 0.5)
    return ImageProcessor(height=side, width=side, mean=half, std=half)
