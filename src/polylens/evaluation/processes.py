"""One evaluation by several processes (`accelerate launch -m polylens evaluate ...`), with one result folder.

    all processes: the same items -> each answers its share of the pictures -> all hear all answers, round by round

Every process goes the same way through reading, scoring and writing, so that none waits for another elsewhere; only the
first one writes into the result folder, the others into folders of their own that are thrown away.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from polylens.data.sample import Sample
from polylens.evaluation.generation import Generation
from polylens.evaluation.predictor import SAMPLES_AT_ONCE, Chooser, Predictor

Answer = TypeVar("Answer")


def state() -> PartialState:
    """This process among all; on CPUs accelerate looks for others only when it is told that it is one."""
    return PartialState(cpu=not torch.cuda.is_available())


def share(predictor: Predictor) -> Predictor:
    """The predictor, or one that answers a share of the samples and hears the rest from the other processes."""
    if state().num_processes == 1:
        return predictor
    return SharedChooser(predictor) if isinstance(predictor, Chooser) else SharedPredictor(predictor)


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return bool(state().is_main_process)


@contextmanager
def result_folder(out: Path) -> Iterator[Path]:
    """`out` for the first process; for the others a copy of it as it was, gone at the end."""
    processes = state()
    if is_main():
        processes.wait_for_everyone()
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "results"
        if out.is_dir():
            # What was answered before decides what is still to be answered, and all must agree on it.
            shutil.copytree(out, copy)
        processes.wait_for_everyone()
        yield copy


class SharedPredictor:
    """A predictor as all processes together."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.name = predictor.name
        self.languages = getattr(predictor, "languages", None)
        self.limits = getattr(predictor, "limits", None)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.predictor.settings

    def ask_caption(self, code: str) -> str:
        return self.predictor.ask_caption(code)

    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        return _in_rounds(
            samples,
            lambda places: self.predictor.generate([samples[at] for at in places], generation),
        )


class SharedChooser(SharedPredictor):
    """The same for a predictor that knows likelihoods."""

    def choose(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], generation: Generation
    ) -> Iterator[tuple[int, int]]:
        chooser = self.predictor
        assert isinstance(chooser, Chooser)
        return _in_rounds(
            samples,
            lambda places: chooser.choose(
                [samples[at] for at in places], [candidates[at] for at in places], generation
            ),
        )


def _in_rounds(
    samples: Sequence[Sample], answer: Callable[[Sequence[int]], Iterator[tuple[int, Answer]]]
) -> Iterator[tuple[int, Answer]]:
    """Each process answers its places, some at a time, and after each round all answers go to all."""
    processes = state()
    shares = shares_of(samples, processes.num_processes)
    mine = shares[processes.process_index]
    most = max(map(len, shares))
    for start in range(0, most, SAMPLES_AT_ONCE):
        places = mine[start : start + SAMPLES_AT_ONCE]
        found = [(places[at], one) for at, one in answer(places)] if places else []
        yield from gather_object(found)


def shares_of(samples: Sequence[Sample], count: int) -> list[list[int]]:
    """Places of the samples in `count` shares of like size; the samples of one picture stay together."""
    shares: list[list[int]] = [[] for _ in range(count)]
    previous: tuple[str, ...] | None = None
    share = shares[0]
    for place, sample in enumerate(samples):
        pictures = tuple(picture.key for picture in sample.images)
        if pictures != previous:
            share = min(shares, key=len)
            previous = pictures
        share.append(place)
    return shares
