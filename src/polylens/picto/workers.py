"""One language at a time in each of several processes.

Small models spend their time in many small operations, which two threads hardly divide: two processes of one thread
each get through a third more languages in the same time.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from polylens.errors import UserError

T = TypeVar("T")

# What a worker does; set in its own process, which takes it over from the parent with all it refers to.
_work: Callable[[str], object] | None = None


def each_language(
    work: Callable[[str], T], languages: Sequence[str], device: torch.device
) -> Iterator[tuple[str, T]]:
    """`work(code)` for every language, in their order.

    On a CPU of Linux as many processes share them as torch has threads. They are forks: what `work` refers to is not
    copied, what it changes stays with them, and what it gives must be picklable. Raises `UserError` when one is killed.
    """
    workers = min(torch.get_num_threads(), len(languages))
    if workers < 2 or device.type != "cpu" or sys.platform != "linux":
        yield from ((code, work(code)) for code in languages)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin, (work,))
    try:
        yield from zip(languages, pool.map(_run, languages), strict=True)
    except BrokenProcessPool as error:
        raise UserError(
            f"One of {workers} processes was killed, most likely because memory ran out: "
            "set OMP_NUM_THREADS=1, which makes do with one."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[str], object]) -> None:
    global _work
    _work = work
    torch.set_num_threads(1)
    # Else each tells that its threads did not survive the fork.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # A progress bar's thread may have held the streams at the fork, and nobody is left to let them go.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    # The parent ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(code: str) -> object:
    assert _work is not None
    return _work(code)
