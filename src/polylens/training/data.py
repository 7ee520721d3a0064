"""Cutting data into pieces."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """`items` in pieces of `size`, the last may be shorter; one piece if `size` is None."""
    size = size or len(items)
    return [items[start : start + size] for start in range(0, len(items), size)]
