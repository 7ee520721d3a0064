"""The parts of a BLIP-2 folder, each read on its own: only the shards that hold it are opened.

Any `Blip2ForConditionalGeneration` folder will do: `.bin` or `.safetensors`, in one file or in shards,
saved by transformers 4.27 or later, with or without an image token.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    Blip2Config,
    Blip2QFormerModel,
    Blip2VisionModel,
    PreTrainedModel,
)

from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import holding, weight_files
from polylens.models.config import Quantization
from polylens.models.parts.precision import loading_settings
from polylens.models.parts.projectors import LinearProjector
from polylens.models.parts.resamplers import QFormer
from polylens.pretrained import load_whole


def read_config(folder: Path) -> Blip2Config:
    """The folder's config. Raises `UserError` when it cannot be read."""
    try:
        return Blip2Config.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{folder / 'config.json'}' is no config of a BLIP-2 model: {error}") from error


def read_vision(folder: Path, dtype: torch.dtype = torch.float32) -> Blip2VisionModel:
    """The image encoder."""
    tensors = read_tensors(folder, "vision_model.")
    return _filled(Blip2VisionModel, read_config(folder).vision_config, tensors, folder, dtype)


def read_qformer(folder: Path, dtype: torch.dtype = torch.float32) -> QFormer:
    """The Q-Former with its queries."""
    config = read_config(folder)
    queries = read_tensors(folder, "query_tokens").get("")
    if queries is None:
        raise UserError(f"'{folder}' has no query_tokens: is it a whole BLIP-2 model?")
    qformer = QFormer(config.qformer_config, queries.shape[1])
    tensors = read_tensors(folder, "qformer.")
    qformer.model = _filled(Blip2QFormerModel, config.qformer_config, tensors, folder, dtype)
    qformer.query_tokens.data = queries.to(dtype)
    return qformer


def read_projector(folder: Path, dtype: torch.dtype = torch.float32) -> LinearProjector:
    """The projection from the Q-Former's width to the language model's."""
    tensors = read_tensors(folder, "language_projection.")
    if set(tensors) != {"weight", "bias"}:
        raise UserError(f"'{folder}' has no language_projection: is it a whole BLIP-2 model?")
    width, qformer_width = tensors["weight"].shape
    projector = LinearProjector(qformer_width, width, dtype=dtype)
    projector.load_state_dict(tensors)
    return projector


def read_language_model(
    folder: Path, dtype: torch.dtype = torch.float32, quantization: Quantization | None = None
) -> PreTrainedModel:
    """The language model, its head as in the folder: apart from the embeddings if it differs from them."""
    config = read_config(folder).text_config
    table = (
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING
    )
    tensors = read_tensors(folder, "language_model.")
    return _filled(table[type(config)], config, tensors, folder, dtype, quantization)


def _filled(
    kind: Any,
    config: Any,
    tensors: Mapping[str, torch.Tensor],
    folder: Path,
    dtype: torch.dtype,
    quantization: Quantization | None = None,
) -> Any:
    settings = loading_settings(dtype, quantization)
    given = {"config": config, "state_dict": dict(tensors), **settings}
    return load_whole(kind, None, name=folder, **given)


def read_tensors(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """All tensors whose names begin with `prefix`, under the rest of their names. Raises `UserError`."""
    tensors: dict[str, torch.Tensor] = {}
    for file in holding(weight_files(folder), (prefix,)):
        path = folder / file
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as opened:
                    wanted = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
                    found = {name: opened.get_tensor(name) for name in wanted}
            else:
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
        except Exception as error:
            raise UserError(
                f"The weights '{path}' are missing or damaged ({error}): load them again."
            ) from error
        tensors |= {name.removeprefix(prefix): t for name, t in found.items() if name.startswith(prefix)}
    return tensors
