"""Which files of a BLIP-2 folder hold which of its parts, told without opening any weights. Needs no torch."""

import json
from pathlib import Path
from typing import Literal

from polylens.errors import UserError

Part = Literal["vision", "resampler", "projector", "language_model"]

MODEL_TYPE = "blip-2"
INDEXED = ("model.safetensors", "pytorch_model.bin")
PREFIXES: dict[Part, tuple[str, ...]] = {
    "vision": ("vision_model.",),
    "resampler": ("query_tokens", "qformer."),
    "projector": ("language_projection.",),
    "language_model": ("language_model.",),
}


def is_blip2(folder: Path) -> bool:
    """Whether the folder's config says that it is a BLIP-2 model."""
    try:
        return (
            json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE
        )
    except (OSError, ValueError, AttributeError):
        return False


def weight_files(folder: Path) -> dict[str, list[str] | None]:
    """The folder's weight files, and the names of the tensors in each where an index says.

    Raises `UserError` where there are none, or the index is damaged.
    """
    for name in INDEXED:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return read_index(index)
        if (folder / name).is_file():
            return {name: None}
    raise UserError(f"'{folder}' has no weights: neither {' nor '.join(INDEXED)}, nor an index of shards.")


def read_index(index: Path) -> dict[str, list[str] | None]:
    """The shards that an index names, with their tensors. Raises `UserError` for a damaged index."""
    files: dict[str, list[str] | None] = {}
    try:
        for tensor, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            files.setdefault(file, []).append(tensor)  # type: ignore[union-attr]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{index}' is no index of shards ({error!r}): load it again.") from error
    return files


def holding(files: dict[str, list[str] | None], prefixes: tuple[str, ...]) -> list[str]:
    """Those of the files that hold, or may hold, tensors whose names begin with one of `prefixes`."""
    return [
        file
        for file, names in files.items()
        if names is None or any(name.startswith(prefixes) for name in names)
    ]
