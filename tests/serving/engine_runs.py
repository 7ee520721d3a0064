"""Engines over tiny models, for the tests of this room."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from polylens.data.sample import Sample
from polylens.serving.backends import backend_for
from polylens.serving.engine import Engine
from polylens.serving.jobs import Job, Settings, Update


@contextmanager
def engine_of(
    model: Any, max_batch: int = 4, cache_bytes: int = 2**20, max_length: int = 512, max_waiting: int = 256
) -> Iterator[Engine]:
    backend = backend_for(model, max_batch=max_batch, cache_bytes=cache_bytes, max_length=max_length)
    engine = Engine(backend, max_waiting)
    try:
        yield engine
    finally:
        engine.close()


class Asked:
    """A job and the updates that came for it."""

    def __init__(self, engine: Engine, sample: Sample, settings: Settings, **more: Any) -> None:
        self.updates: queue.Queue[Update] = queue.Queue()
        self.job = Job(sample, settings, self.updates.put, **more)
        engine.backend.prepare([self.job])
        engine.submit([self.job])

    def all(self) -> list[Update]:
        updates = [self.updates.get(timeout=60)]
        while not updates[-1].is_last:
            updates.append(self.updates.get(timeout=60))
        return updates

    def text(self) -> str:
        return "".join(update.piece for update in self.all())


def held(engine: Engine) -> tuple[threading.Event, threading.Event]:
    """Stops the engine before its next step: it says so by the first event and goes on with the second."""
    stopped, go_on = threading.Event(), threading.Event()
    step = engine.backend.step

    def wait_and_step() -> None:
        stopped.set()
        go_on.wait(60)
        step()

    engine.backend.step = wait_and_step  # type: ignore[method-assign]
    return stopped, go_on


def texts(asked: Sequence[Asked]) -> list[str]:
    return [one.text() for one in asked]
