"""A mix: samples of several parts, drawn by weight in an order that is a pure function of a seed and a position.

    part 0: 5 samples, weight 1  --.
    part 1: 3 samples, weight 1  ---+-->  epoch of 8 draws: 1 0 0 1 1 0 1 0   (4 of each: equal weights)
                                          draw k of a part is place k of its own endless shuffled stream

So a position in the data is one number, whatever was read before it, and by however many processes and threads.
"""

import hashlib
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from polylens.data.build import build
from polylens.data.language_plan import allocate, shares
from polylens.data.sample import Sample
from polylens.data.shards import ShardedSamples, open_shards, write_shards
from polylens.data.shared_ids import SharedIds, refuse_shared_ids
from polylens.data.sources import opened
from polylens.data.spec import Format, Part
from polylens.data.unreadable import Policy, Unreadable, pictures_are_there
from polylens.errors import UserError

# Samples of so many shards are shuffled together: enough to mix them, few enough to stay in the system's cache.
WINDOW = 16


@dataclass(frozen=True)
class MixPart:
    """Samples that are drawn together, in a list or in shards; `weight` None: each once in an epoch."""

    name: str
    samples: Sequence[Any]
    weight: float | None = None

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        return self.samples.shard_sizes if isinstance(self.samples, ShardedSamples) else ()


class Mix(Sequence[Any]):
    """The samples of all parts one after the other; `order` says how they are drawn."""

    def __init__(self, parts: Sequence[MixPart]):
        self.parts = list(parts)
        self._ends = list(accumulate(len(part.samples) for part in parts))

    @classmethod
    def of(cls, samples: Sequence[Any]) -> "Mix":
        """A mix as it is, anything else as one of a single part."""
        return samples if isinstance(samples, cls) else cls([MixPart("", samples)])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> Any: ...

    @overload
    def __getitem__(self, number: slice) -> list[Any]: ...

    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        part = bisect_right(self._ends, number)
        return self.parts[part].samples[number - (self._ends[part - 1] if part else 0)]

    def only(self, names: Sequence[str] | None) -> "Mix":
        """The mix without the parts that are not named."""
        return self if names is None else Mix([part for part in self.parts if part.name in names])

    def order(self, batch_size: int, seed: int) -> "Order":
        """How the samples are drawn. Raises `UserError` for a weight too small to draw anything in an epoch."""
        return Order(self.parts, batch_size, seed)

    def counts(self) -> Counter[tuple[str, str]]:
        """How many samples there are of each (language, task)."""
        total: Counter[tuple[str, str]] = Counter()
        for part in self.parts:
            if isinstance(part.samples, ShardedSamples):
                total += part.samples.counts
            else:
                total += Counter((sample.language, sample.task) for sample in part.samples)
        return total

    def identity(self) -> str:
        """Tells one set of samples from another: their number and a hash of their ids."""
        digest = hashlib.sha256()
        for i, part in enumerate(self.parts):
            if isinstance(part.samples, ShardedSamples):
                ids = [part.samples.identity]
            else:
                ids = [str(sample.id) for sample in part.samples]
            digest.update(("\n" * bool(i) + "\n".join(ids)).encode())
        return f"{len(self)}, {digest.hexdigest()}"


class Order:
    """An endless stream of sample numbers, cut into batches that go on across the ends of epochs.

    An epoch has as many draws as there are samples. Each part has its share of them, rounded to whole draws, at
    places drawn anew for every epoch; it goes through its own samples in an order that is new each time round.
    """

    def __init__(self, parts: Sequence[MixPart], batch_size: int, seed: int):
        self.batch_size = batch_size
        self.sizes = [len(part.samples) for part in parts]
        self.draws = sum(self.sizes)
        self.quotas = _quotas(parts, self.draws)
        self._starts = [0, *accumulate(self.sizes)]
        shard_sizes = [part.shard_sizes for part in parts]

        @lru_cache(maxsize=2)
        def owners(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            """(part of every draw, how many draws of that part came before it in this epoch)."""
            parts_of = np.repeat(np.arange(len(self.quotas), dtype=np.int16), self.quotas)
            if len(self.quotas) > 1:
                np.random.default_rng([seed, epoch, len(self.quotas), 1]).shuffle(parts_of)
            ranks = np.empty(self.draws, np.int64)
            for part, quota in enumerate(self.quotas):
                ranks[parts_of == part] = np.arange(quota)
            return parts_of, ranks

        @lru_cache(maxsize=2 * len(self.sizes))
        def permutation(part: int, epoch: int) -> np.ndarray:
            rng = np.random.default_rng([seed, epoch, part])
            return _shuffled(self.sizes[part], shard_sizes[part], rng)

        self._owners, self._permutation = owners, permutation

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(sample number, how often it was drawn before) of every sample of step `step`, counted from 0."""
        start = step * self.batch_size
        return [self._at(position) for position in range(start, start + self.batch_size)]

    def steps(self, epochs: float) -> int:
        """How many batches make up `epochs`."""
        return max(1, math.ceil(epochs * self.draws / self.batch_size))

    def _at(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.draws)
        parts_of, ranks = self._owners(epoch)
        part = int(parts_of[place])
        own_epoch, own_place = divmod(epoch * self.quotas[part] + int(ranks[place]), self.sizes[part])
        return self._starts[part] + int(self._permutation(part, own_epoch)[own_place]), own_epoch


def _quotas(parts: Sequence[MixPart], draws: int) -> list[int]:
    """How many draws of an epoch each part has: by weight, the largest remainders rounded up."""
    weights = [len(part.samples) if part.weight is None else part.weight for part in parts]
    exact = [draws * weight / sum(weights) for weight in weights]
    quotas = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: (quotas[i] - exact[i], i))
    for i in by_remainder[: draws - sum(quotas)]:
        quotas[i] += 1
    for part, quota in zip(parts, quotas, strict=True):
        if not quota:
            raise UserError(
                f"The weight {part.weight} of '{part.name}' draws none of its samples: give it more."
            )
    return quotas


def _shuffled(size: int, shard_sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A permutation of `size` numbers. Of shards it is one of windows of neighbouring reads: the shards in a new
    order, and the samples of every `WINDOW` of them shuffled together.
    """
    if not shard_sizes:
        return rng.permutation(size)
    ends = np.cumsum(shard_sizes)
    order = rng.permutation(len(shard_sizes))
    pieces = []
    for start in range(0, len(order), WINDOW):
        numbers = [np.arange(ends[i] - shard_sizes[i], ends[i]) for i in order[start : start + WINDOW]]
        pieces.append(rng.permutation(np.concatenate(numbers)))
    return np.concatenate(pieces)


def part_samples(
    part: Part, seed: int, unreadable: Unreadable, seen: SharedIds | None = None
) -> Iterator[Sample]:
    """The samples of a part: read, built, and drawn down to its limit. `seen` hears of each once, before it is built.

    Raises `UserError` for what cannot be read, and when nothing is left.
    """

    def read(counting: Unreadable) -> Iterator[Sample]:
        for sample in opened(part)(counting):
            if seen is not None and counting is unreadable:
                seen.add(sample)
            if counting.keep(sample, pictures_are_there):
                yield sample

    def made(counting: Unreadable) -> Iterable[Sample]:
        if part.build is None:
            return read(counting)
        first = [counting]  # Builders may read again: what is left out counts once.
        return build(part.build, lambda: read(first.pop() if first else Unreadable(counting.policy)), seed)

    drawn = (
        None if part.limit is None else _drawn(made(Unreadable(unreadable.policy)), part, part.limit, seed)
    )
    empty = True
    for number, sample in enumerate(made(unreadable)):
        if drawn is None or number in drawn:
            empty = False
            yield sample
    if empty:
        raise UserError(f"The part '{part.name}' has no samples: widen its languages, tasks or split.")


def _drawn(samples: Iterable[Sample], part: Part, limit: int, seed: int) -> set[int]:
    """The places of `limit` samples, drawn by a hash of the seed and their ids, each language its share if asked."""
    hashes: list[int] = []
    places: dict[str, list[int]] = defaultdict(list)
    for number, sample in enumerate(samples):
        hashes.append(_hash(f"{seed}/{sample.language}/{sample.id}"))
        places[sample.language if part.shares else ""].append(number)
    sizes = {code: len(mine) for code, mine in places.items()}
    counts = _by_shares(part, sizes, limit) if part.shares else {"": limit}
    ranks = np.array(hashes, np.uint64)
    drawn: set[int] = set()
    for code, mine in places.items():
        numbers = np.array(mine)
        drawn.update(numbers[np.argsort(ranks[numbers], kind="stable")[: counts[code]]].tolist())
    return drawn


def _by_shares(part: Part, sizes: dict[str, int], limit: int) -> dict[str, int]:
    """How many samples of each language make up `limit`. One that has too few gives all of them, and the others share
    what it leaves.
    """
    counts: dict[str, int] = {}
    while len(counts) < len(sizes):
        rest = [code for code in sizes if code not in counts]
        left = limit - sum(counts.values())
        planned = allocate(shares(part.shares or "", rest, part.temperature), left)
        short = {code: sizes[code] for code in rest if sizes[code] <= planned[code]}
        counts |= short or planned
    return counts


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])


def read_mix(
    parts: Sequence[Part],
    seed: int,
    policy: Policy = "error",
    shards: Path | None = None,
    advance: Callable[[str, int], None] = lambda name, count: None,
    format: Format = "tar",
) -> Mix:
    """Read a mix into memory; with a folder `shards`, write it there once in that format and stream it from there.

    `advance(name of the part, samples written so far)` hears how shards grow. Raises `UserError` for what cannot be
    read, and for shards that were made of something else.
    """
    for part in parts:
        opened(part)  # a mistake in the last part ends it before the first is read
    if shards is not None and not all((shards / part.name / "part.json").exists() for part in parts):
        refuse_shared_ids(parts, policy)
    read, seen = [], SharedIds()
    for part in parts:
        unreadable = Unreadable(policy)
        if shards is None:
            samples: Sequence[Sample] = list(part_samples(part, seed, unreadable, seen))
        else:
            write_shards(part, seed, unreadable, shards, part_samples, advance, format)
            samples = open_shards(shards / part.name)
        unreadable.report(part.name)
        read.append(MixPart(part.name, samples, part.weight))
    if shards is None:
        refuse_shared_ids(parts, policy, seen)
    return Mix(read)
