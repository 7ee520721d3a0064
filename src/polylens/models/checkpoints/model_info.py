"""What is told of a model: its parts, their sizes on disk and in memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class PartInfo:
    """One part: how many numbers it holds, and what of it lies in the folder's own weight files."""

    name: str
    kind: str
    parameters: int
    tensors: int = 0
    size_on_disk: int = 0
    types: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """`memory` is {precision: {part: bytes}} for the weights alone; `notes` are worth knowing."""

    path: str
    kind: str
    parts: list[PartInfo]
    memory: Mapping[Any, Mapping[str, int]]
    languages: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with totals."""
        totals = {precision: sum(parts.values()) for precision, parts in self.memory.items()}
        return asdict(self) | {"memory_total": totals}
