"""What weight files hold, told from their headers: names, shapes and types of tensors, no values read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import safe_open

from polylens.errors import UserError
from polylens.files import WEIGHT_SUFFIXES

# Names of types as safetensors writes them, in bits.
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "F32": 32, "I64": 64, "F64": 64, "U16": 16, "U32": 32, "U64": 64}
NAMES = {
    "F32": "float32",
    "BF16": "bfloat16",
    "F16": "float16",
    "F64": "float64",
    "I8": "int8",
    "U8": "uint8",
}
# Written beside the weights by trainers.
NO_WEIGHTS = ("optimizer", "scheduler", "training_args", "rng_state")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its file's header describes it; `size` is in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    file: str

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        number = 1
        for length in self.shape:
            number *= length
        return number


def read_headers(folder: str | Path) -> list[TensorInfo]:
    """The tensors of all weight files in `folder` (or of that one file), by file.

    Raises `UserError` for a file whose header is damaged.
    """
    folder = Path(folder)
    if folder.is_file():
        return _of_file(folder, folder.name)
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix in WEIGHT_SUFFIXES and not file.name.startswith(NO_WEIGHTS)
    )
    # Of the same weights in two formats, what would be loaded.
    if any(file.suffix == ".safetensors" for file in files):
        files = [file for file in files if file.suffix == ".safetensors"]
    return [tensor for file in files for tensor in _of_file(file, file.name)]


def _of_file(path: Path, name: str) -> list[TensorInfo]:
    try:
        return list(_safetensors(path, name) if path.suffix == ".safetensors" else _pickled(path, name))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"The weights '{path}' cannot be read ({error}): load them again.") from error


def _safetensors(path: Path, name: str) -> Iterable[TensorInfo]:
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (no iterator)
            part = file.get_slice(key)
            shape, dtype = tuple(part.get_shape()), part.get_dtype()
            bits = BITS[dtype]
            for length in shape:
                bits *= length
            yield TensorInfo(key, shape, NAMES.get(dtype, dtype.lower()), bits // 8, name)


def _pickled(path: Path, name: str) -> Iterable[TensorInfo]:
    # The storages of a zip file are mapped, not read; those of the older format can only be read.
    found = torch.load(path, map_location="meta", weights_only=True, mmap=is_zipfile(path))
    tensors = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(tensors, dict):
        raise UserError(f"'{path}' holds no dictionary of tensors: is it a weight file?")
    for key, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor):
            dtype = str(tensor.dtype).removeprefix("torch.")
            yield TensorInfo(str(key), tuple(tensor.shape), dtype, tensor.nbytes, name)
