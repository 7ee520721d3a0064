"""Any model that answers samples, by its name."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from polylens.errors import UserError
from polylens.models.checkpoints.families import Loading, Stream, families, find_family
from polylens.models.config import Quantization

if TYPE_CHECKING:
    from polylens.models.interface import Model


def load_any(
    name_or_path: str | Path,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> "Model":
    """The model of a path, a packaged name or a hub id, in evaluation mode.

    `quantization` holds its language model in 8 or 4 bits; `stream` brings layers in from the CPU or the disk as they
    are needed. Raises `UserError` when there is no such model, or it cannot be loaded in that way.
    """
    family, path = find_family(name_or_path)
    if stream is not None and not family.streams:
        able = " and ".join(each.title for each in families() if each.streams)
        raise UserError(
            f"'{name_or_path}' is {family.title}, and layers can be streamed for {able} only: use a smaller precision."
        )
    return family.load(path, Loading(dtype, quantization, stream, str(name_or_path)))
