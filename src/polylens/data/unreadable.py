"""What becomes of samples that cannot be read: the first ends the reading, or they are left out and counted."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from polylens.data.sample import Sample
from polylens.errors import UserError

logger = logging.getLogger(__name__)

Policy = Literal["error", "skip"]
T = TypeVar("T")


@dataclass
class Unreadable:
    """What becomes of samples whose pictures or texts cannot be read, and how many there were.

    With `policy` "error" the first ends the reading; with "skip" they are left out and counted.
    """

    policy: Policy = "error"
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def keep(self, sample: Sample, look: Callable[[Sample], Any]) -> bool:
        """Whether `look(sample)` finds its pictures readable. Raises its `UserError` unless they are skipped."""
        try:
            look(sample)
        except UserError as error:
            if self.policy == "error":
                raise UserError(
                    f"{error} (Sample '{sample.id}' of {sample.source}; to leave such samples out, set"
                    " data.unreadable=skip.)"
                ) from error
            self.count += 1
            if len(self.examples) < 3:
                self.examples.append(str(error))
            return False
        return True

    def made(self, make: Callable[[], T], amount: int = 1) -> T | None:
        """What `make()` gives; None where its `UserError` is one of those to skip, which counts `amount` samples."""
        try:
            return make()
        except UserError as error:
            if self.policy == "error":
                raise
            self.count += amount
            if len(self.examples) < 3:
                self.examples.append(str(error))
            return None

    def report(self, what: str) -> None:
        """Warn of what was left out, if anything was."""
        if self.count:
            logger.warning(
                "%s: left out %s samples that cannot be read, such as: %s",
                what,
                f"{self.count:,}",
                " ".join(self.examples),
            )


def pictures_are_there(sample: Sample) -> None:
    """Raises `UserError` when a picture's file is missing; does not decode it."""
    for picture in sample.images:
        _ = picture.key
