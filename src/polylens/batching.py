"""Data in pieces, and ahead of its use."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def chunks(items: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """`items` in pieces of `size`, the last may be shorter; one piece if `size` is None."""
    size = size or len(items)
    return [items[start : start + size] for start in range(0, len(items), size)]


def read_ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Every item with `read(item)`; a thread reads the next one while this one is used."""
    waiting: tuple[T, Future[R]] | None = None
    with ThreadPoolExecutor(1) as reader:
        for item in items:
            ready, waiting = waiting, (item, reader.submit(read, item))
            if ready:
                yield ready[0], ready[1].result()
        if waiting:
            yield waiting[0], waiting[1].result()
