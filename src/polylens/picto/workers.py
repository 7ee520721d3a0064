"""Small models on CPUs: several processes of one thread each.

They spend their time in many small operations, which two threads hardly divide: two processes of one thread each get
through a third more in the same time than one of two threads.

Each takes one part of the work at a time. They are forks, or start anew where they train: PyTorch refuses a backward
pass in the fork of a process that has done one.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from polylens.errors import UserError

P = TypeVar("P")
T = TypeVar("T")

# Each holds the activations of a batch of its own.
MOST_WORKERS = 8

# What a worker does; set in its own process, which takes it over from the parent with all it refers to.
_work: Callable[[Any], object] | None = None


def each_part(
    work: Callable[[P], T], parts: Sequence[P], device: torch.device, *, anew: bool = False
) -> Iterator[tuple[P, T]]:
    """`work(part)` for every part, in their order.

    On a CPU of Linux as many processes share them as torch has threads, eight at most. They are forks: what `work`
    refers to is not copied, what it changes stays with them, and what it takes and gives must be picklable. Those
    that start `anew` copy nothing, and `work` must be a function of a module. Raises `UserError` when one is killed.
    """
    workers = min(torch.get_num_threads(), len(parts), MOST_WORKERS)
    if workers < 2 or not _forks(device):
        yield from ((part, work(part)) for part in parts)
        return
    with _pool(workers, work, "spawn" if anew else "fork") as pool:
        yield from zip(parts, pool.map(_run, parts), strict=True)


def _forks(device: torch.device) -> bool:
    return device.type == "cpu" and sys.platform == "linux"


@contextmanager
def _pool(workers: int, work: Callable[[Any], object], start: str) -> Iterator[ProcessPoolExecutor]:
    """Processes that each do `work`; when the block fails, they end with it."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(start), _begin, (work,))
    try:
        yield pool
    except BrokenProcessPool as error:
        if error.__cause__ is not None:
            raise
        raise UserError(
            f"One of {workers + 1} processes was killed, most likely because memory ran out: "
            "set OMP_NUM_THREADS=1, which makes do with one."
        ) from error
    except BaseException:
        # Nobody wants the answers that they still work on.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable[[Any], object]) -> None:
    global _work
    _work = work
    # What came along stays: a collection that walked through it would copy every page of it, too.
    gc.freeze()
    torch.set_num_threads(1)
    # The threads of the parent's tokenizer did not come along.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # A progress bar's thread may have held these at the fork, and nobody is left to let them go.
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    # And libraries of C++ say farewell on the descriptors themselves.
    for descriptor in (1, 2):
        os.dup2(sys.stderr.fileno(), descriptor)
    # Ctrl-C reaches the parent too, which ends its workers itself; but it cannot when it is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(part: object) -> object:
    assert _work is not None
    return _work(part)
