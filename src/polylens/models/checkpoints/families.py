"""The registry of checkpoint families: which kind of files a model lies in, and who can read them.

A family registers itself by the entry point group `polylens.families`. Nothing else in the program tests what a
checkpoint is.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from polylens.errors import UserError
from polylens.models.checkpoints.registry import FAMILIES, resolve_model, split_family
from polylens.models.config import Quantization

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo
    from polylens.models.interface import Model

Stream = Literal["cpu", "disk"]


@dataclass(frozen=True)
class Loading:
    """How weights are held: their type, the language model in 8 or 4 bits, layers kept on the CPU or on disk.

    `name` is what the user called the model, if that is not its path: a hub id or a packaged name.
    """

    dtype: torch.dtype = torch.float32
    quantization: Quantization | None = None
    stream: Stream | None = None
    name: str | None = None


class Family(ABC):
    """One kind of checkpoint. `name` may stand before a colon in a model's name to ask for this family.

    `streams` says whether layers can be brought in from the CPU or the disk. `released` are hub ids whose sizes the
    family knows without a file.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    streams: ClassVar[bool] = False
    released: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Whether the folder or file is of this family, told from names and headers."""

    @abstractmethod
    def load(self, path: Path, loading: Loading) -> "Model":
        """The model, in evaluation mode. Raises `UserError` where it cannot be loaded in that way."""

    @abstractmethod
    def describe(self, path: Path) -> "ModelInfo":
        """Parts, sizes and memory from configs and headers; no weights are read."""

    def export(self, path: Path, loading: Loading, out: Path) -> None:
        """Write the model whole in a new folder, with LoRA adapters merged into its weights."""
        raise UserError(f"'{path}' is {self.title}, and is not written again: it is whole as it is.")

    def skeleton(self, path: Path) -> Any:
        """The model on the meta device, without a tokenizer, for `polylens plan`."""
        raise UserError(f"'{path}' is {self.title}: it cannot be trained here, so there is nothing to plan.")


@cache
def families() -> Sequence[Family]:
    """The families of all installed packages, by name."""
    points = sorted(entry_points(group=FAMILIES), key=lambda point: point.name)
    return [point.load() for point in points]


def match_family(name_or_path: str | Path, *, weights: bool = True) -> tuple[Family | None, Path]:
    """The family of a model, None if no family knows its files, and the folder or file it lies in.

    `name_or_path` is a path, a packaged name or a hub id, with `FAMILY:` before it to ask for a family. Without
    `weights`, only the small files of a model on the hub are fetched. Raises `UserError` when there is no such model,
    or several families could read it.
    """
    prefix, name = split_family(name_or_path)
    asked = next((family for family in families() if family.name == prefix), None)
    path = Path(name) if Path(name).is_file() else resolve_model(name, weights=weights)
    if asked:
        return asked, path
    found = [family for family in families() if family.matches(path)]
    if len(found) > 1:
        raise UserError(
            f"'{path}' could be {' or '.join(family.title for family in found)}: write "
            f"{' or '.join(f'{family.name}:{name}' for family in found)}."
        )
    return (found[0] if found else None), path


def find_family(name_or_path: str | Path, *, weights: bool = True) -> tuple[Family, Path]:
    """As `match_family`, but raises `UserError` where no family knows the files."""
    family, path = match_family(name_or_path, weights=weights)
    if family is None:
        known = ", ".join(each.title for each in families())
        raise UserError(f"'{path}' is no model that answers: its files are those of none of {known}.")
    return family, path
