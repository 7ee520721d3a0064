"""What is asked of the engine, and what comes back: jobs, their settings, and the pieces of an answer."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from polylens.data.collate import Row
from polylens.data.sample import Sample

CHARACTER_CUT_OFF = "\ufffd"
DEFAULT_LENGTH = 256
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Settings:
    """How one answer is written; greedy at temperature 0. `stop` are texts that end it and are left out of it.

    Without `max_new_tokens` an answer may be as long as there is room for, up to `DEFAULT_LENGTH`.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Update:
    """The next piece of an answer; the last one says why it ended, or what went wrong."""

    piece: str
    num_tokens: int
    finish: Finish | None = None
    error: Exception | None = None

    @property
    def is_last(self) -> bool:
        return self.finish is not None or self.error is not None


class TooLate(Exception):
    """The deadline of a job has passed."""


@dataclass(eq=False)
class Job:
    """One answer to write. `deliver` is called from the engine's thread; `deadline` is a time of `time.monotonic`.

    Whoever asked may set `cancelled` at any time: the job then ends without a further update.
    """

    sample: Sample
    settings: Settings
    deliver: Callable[[Update], None]
    deadline: float = math.inf
    cancelled: bool = False
    # Filled in when the job is prepared; no number of tokens where the model does not count them.
    num_prompt_tokens: int | None = None
    num_cached_tokens: int = 0
    max_new_tokens: int = DEFAULT_LENGTH
    # What was prepared: the prompt's tokens, and by picture key pixels, or visual tokens that were known.
    row: Row | None = None
    pixels: dict[str, torch.Tensor] = field(default_factory=dict)
    visual: dict[str, torch.Tensor] = field(default_factory=dict)

    def fail(self, error: Exception) -> None:
        self.deliver(Update("", 0, error=error))

    @property
    def is_over(self) -> bool:
        return self.cancelled or time.monotonic() > self.deadline


class Settled:
    """Cuts a growing answer into pieces that will not change any more, and finds where it stops.

    White space around the whole is left out, as `Model.generate` has it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.said = ""
        self.stopped = False

    def grow(self, whole: str, last: bool = False) -> str:
        """The next piece; `whole` is the answer so far. Sets `stopped` where a stop text stands in it."""
        whole = whole.lstrip()
        found = [(place + len(stop), place) for stop in self.stops if (place := whole.find(stop)) >= 0]
        if found:
            self.stopped = True
            # The stop text that is complete first counts, however many characters come at a time.
            whole = whole[: min(found)[1]]
        settled = whole.rstrip()
        if not (last or self.stopped):
            # A character may take several tokens, and a stop text may have begun.
            settled = settled.rstrip(CHARACTER_CUT_OFF).rstrip()
            settled = whole[: min([len(settled), *(len(whole) - _begun(stop, whole) for stop in self.stops)])]
            settled = settled.rstrip()
            if not settled.startswith(self.said):
                return ""
        piece, self.said = settled[len(self.said) :], max(settled, self.said, key=len)
        return piece


def _begun(stop: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
