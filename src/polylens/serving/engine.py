"""Continuous batching: one thread that lets jobs join and leave between two steps of the model.

    prepare (a pool) -> waiting, bounded -> join -> step, step, ... -> leave

The order is that of arrival. A job whose client has gone, or whose time is up, leaves before the next step.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from polylens.errors import UserError
from polylens.serving.backends import Backend
from polylens.serving.jobs import Job, TooLate

logger = logging.getLogger(__name__)


class Full(Exception):
    """More jobs wait than the queue holds."""


@dataclass
class Counts:
    """What the engine has done so far."""

    steps: int = 0
    rows: int = 0  # summed over the steps
    joined: int = 0
    failed: int = 0
    cancelled: int = 0
    late: int = 0


@dataclass
class Engine:
    """Runs jobs with a backend. At most `max_waiting` jobs wait, unless a single request brings more."""

    backend: Backend
    max_waiting: int = 256
    workers: int = 2
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.workers, thread_name_prefix="prepare")
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self.backend.running)

    def check_room(self) -> None:
        """Raises `Full` where nothing more may wait."""
        if len(self._waiting) >= self.max_waiting:
            raise Full

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait that were prepared. Raises `Full`."""
        with self._changed:
            if self._waiting and len(self._waiting) + len(jobs) > self.max_waiting:
                raise Full
            if self._closing:
                raise RuntimeError("The engine is closed.")
            self._waiting.extend(jobs)
            self._changed.notify()

    def close(self) -> None:
        """Finish what waits and runs, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self.pool.shutdown()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self.backend.running or self._closing):
                    self._changed.wait()
                if not (self._waiting or self.backend.running):
                    return
            self._turn()

    def _turn(self) -> None:
        self._dismiss()
        joining = self._next()
        if joining:
            self._guarded(lambda: self.backend.join(joining), joining)
            self.counts.joined += len(joining)
        running = list(self.backend.running)
        if running:
            self._guarded(self.backend.step, running)
            self.counts.steps += 1
            self.counts.rows += len(running)

    def _dismiss(self) -> None:
        """Let go what nobody waits for any more."""
        with self._changed:
            over = [job for job in self._waiting if job.is_over]
            if over:
                self._waiting = deque(job for job in self._waiting if job not in over)
        leaving = [job for job in self.backend.running if job.is_over]
        if leaving:
            self.backend.leave(leaving)
        for job in (*over, *leaving):
            self.counts.cancelled += job.cancelled
            self.counts.late += not job.cancelled
            if not job.cancelled:
                job.fail(TooLate())

    def _next(self) -> list[Job]:
        with self._changed:
            number = min(self.backend.room(), len(self._waiting))
            return [self._waiting.popleft() for _ in range(number)]

    def _guarded(self, work: Callable[[], None], jobs: Sequence[Job]) -> None:
        """Whatever goes wrong ends these jobs, and nothing else."""
        try:
            work()
        except Exception as error:
            self.counts.failed += len(jobs)
            if not isinstance(error, UserError):
                logger.exception("The model failed on %d jobs: %r", len(jobs), error)
            self.backend.leave(jobs)
            for job in jobs:
                job.fail(error)
