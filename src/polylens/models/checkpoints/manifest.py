"""`polylens.json`, the first file of a checkpoint folder, and the resampler that lies beside it."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import safe_open
from transformers import Blip2QFormerConfig

from polylens.errors import UserError
from polylens.models.checkpoints.card import MANIFEST
from polylens.models.config import ModelConfig
from polylens.models.parts.resamplers import QFormer

WEIGHTS = "model.safetensors"
FORMAT = 1


def read_manifest(folder: Path) -> tuple[dict[str, Any], ModelConfig]:
    """All of a checkpoint's `polylens.json`, and its model config.

    Raises `UserError` when it is damaged, of a newer format, or of a model with a caption memory.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(
                f"'{folder}' is of format {manifest['format']}, this version reads {FORMAT}: update Polylens."
            )
        return manifest, ModelConfig.model_validate(_current(manifest["config"], folder))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"'{folder / MANIFEST}' is damaged ({error!r}): save the checkpoint again."
        ) from error


def _current(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A config in today's keys: older checkpoints said `visual_words`, and some had a `memory` of captions."""
    config = dict(config)
    if config.pop("memory", None) is not None:
        raise UserError(
            f"The checkpoint '{folder}' has a memory of captions, which Polylens no longer reads: train it again."
        )
    if config.pop("visual_words", False):
        config["projector"] = {**config.get("projector", {}), "kind": "words"}
    return config


def read_checkpoint_projector(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's projector (none if its resampler needs none)."""
    return _read_own(folder, "projector.")


def read_checkpoint_qformer(folder: Path, dtype: torch.dtype) -> QFormer:
    """The Q-Former of a checkpoint, without its other parts, which need not be there."""
    manifest, _ = read_manifest(folder)
    sizes = manifest["qformer"]
    if sizes is None:
        raise UserError(f"'{folder}' has a resampler of another kind: only a Q-Former can be taken over.")
    qformer = QFormer(Blip2QFormerConfig(**sizes["config"]), sizes["num_tokens"])
    qformer.load_state_dict(_read_own(folder, "resampler."))
    return qformer.to(dtype)


def _read_own(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        own = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no iterator)
        return {name.removeprefix(prefix): file.get_tensor(name) for name in own}
