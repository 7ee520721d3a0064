"""Any model that answers samples, by its name: a `VisionLanguageModel`, a VisCPM-Chat, or CPM-Bee alone."""

from pathlib import Path

import torch

from polylens.errors import UserError
from polylens.models.checkpoints.folder import load_model
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import Quantization
from polylens.models.vlm import VisionLanguageModel
from polylens.viscpm.files import Stream, is_cpm_bee, is_viscpm
from polylens.viscpm.model import VisCpmChat


def load_any(
    name_or_path: str | Path,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> VisionLanguageModel | VisCpmChat:
    """The model, ready to be used; `stream` (VisCPM and CPM-Bee) brings layers in from the "cpu" or from "disk".

    Raises `UserError` when there is no such model, or it cannot be loaded in that way.
    """
    folder = resolve_model(name_or_path)
    if is_viscpm(folder) or is_cpm_bee(folder):
        return VisCpmChat.from_pretrained(folder, dtype, quantization, stream).eval()
    if stream is not None:
        raise UserError(
            f"Layers can be streamed for VisCPM and CPM-Bee only, and '{name_or_path}' is neither: use a "
            "smaller precision."
        )
    return load_model(name_or_path, dtype, quantization)
