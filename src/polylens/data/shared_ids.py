"""One check for a mix: no id stands for two things, within a part or across its parts."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from polylens.data.sample import Sample, stored_at
from polylens.data.sources import opened
from polylens.data.spec import Part
from polylens.data.unreadable import Policy, Unreadable
from polylens.errors import UserError


class SharedIds:
    """What was read so far, 16 bytes a sample: a number for its id and one for its pictures and answers.

    The same sample may be in several parts, which build different tasks out of it.
    """

    def __init__(self) -> None:
        self._names, self._contents = array("q"), array("q")

    def add(self, sample: Sample) -> None:
        self._names.append(hash(_name(sample)))
        self._contents.append(hash(_content(sample)))

    def twice(self) -> set[int]:
        """The numbers of ids that stand for two things."""
        names, contents = np.array(self._names), np.array(self._contents)
        order = np.argsort(names, kind="stable")
        names, contents = names[order], contents[order]
        differ = (names[1:] == names[:-1]) & (contents[1:] != contents[:-1])
        return set(names[1:][differ].tolist())


def refuse_shared_ids(parts: Sequence[Part], policy: Policy = "error", seen: SharedIds | None = None) -> None:
    """Raises `UserError`, with both places, for an id that two samples of the parts have.

    `seen` holds the samples of all parts where these were read before; else they are read now, their pictures not.
    """
    if seen is None:
        seen = SharedIds()
        for part in parts:
            for sample in opened(part)(Unreadable(policy)):
                seen.add(sample)
    wanted = seen.twice()
    if not wanted:
        return
    first: dict[Any, tuple[str, Sample]] = {}
    for part in parts:
        for sample in opened(part)(Unreadable(policy)):
            name = _name(sample)
            if hash(name) not in wanted:
                continue
            place, other = first.setdefault(name, (part.name, sample))
            if _content(other) != _content(sample):
                raise UserError(
                    f"The id '{sample.id}' of {sample.source} stands for two samples: {_told(other)} in the part "
                    f"'{place}', and {_told(sample)} in the part '{part.name}'. Give each its own id."
                )


def _name(sample: Sample) -> tuple[str, ...]:
    return sample.source, sample.id, sample.language, sample.task


def _content(sample: Sample) -> tuple[Any, ...]:
    return tuple(map(stored_at, sample.images)), tuple(turn.answer for turn in sample.turns)


def _told(sample: Sample) -> str:
    pictures = ", ".join(f"'{stored_at(picture)}'" for picture in sample.images)
    return f'{pictures or "no picture"} with "{sample.turns[-1].answer[:40]}"'
