"""What a run leaves behind and shows: one JSON line per step, TensorBoard, and a progress bar."""

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import TaskID
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from polylens.files import json_text, make_writable_folder, write_atomic, writing
from polylens.progress import progress_bar

FLUSH_SECONDS = 10


class RunLog:
    """Opens `log.jsonl` and `tensorboard/` in `folder`, forgetting every step after the first `done`."""

    def __init__(self, folder: Path, done: int):
        self.path = folder / "log.jsonl"
        # A line that a kill cut short has no newline and belongs to a step that is done again.
        kept = [line for line in self._lines() if line.endswith("\n") and json.loads(line)["step"] <= done]
        write_atomic(self.path, "".join(kept))
        with writing(self.path):
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        self._curves = Curves(folder / "tensorboard", done + 1)

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []

    def write(self, line: dict[str, Any]) -> None:
        """Add the line of one step; its numbers, also nested ones, become TensorBoard curves."""
        with writing(self.path):
            self._file.write(json_text(line) + "\n")
            self._file.flush()
        self._curves.write(line["step"], _flatten(line))

    def close(self) -> None:
        with writing(self.path):
            self._file.close()
        self._curves.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Curves:
    """A TensorBoard file, in which steps from `first` on replace those of older files.

    Its own writer works in a thread, where a full disk ends in a traceback that nobody can catch.
    """

    def __init__(self, folder: Path, first: int):
        self.folder = make_writable_folder(folder)
        name = f"events.out.tfevents.{time.time_ns():020d}.{os.getpid()}"
        with writing(folder):
            self._file = open(folder / name, "ab")  # noqa: SIM115
            self._records = RecordWriter(self._file)
            self._add(Event(file_version="brain.Event:2"))
            self._add(Event(step=first, session_log=SessionLog(status=SessionLog.START)))
            self._flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        with writing(self.folder):
            self._add(Event(step=step, summary=Summary(value=scalars)))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()

    def close(self) -> None:
        with writing(self.folder):
            self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def _flush(self) -> None:
        self._file.flush()
        self._flushed = time.monotonic()


class StepBar:
    """The bar of one stage: loss, learning rate, samples per second, time left."""

    def __init__(self, console: Console, stage: str, done: int, total: int):
        self._progress = progress_bar(
            console, "loss {task.fields[loss]}", "lr {task.fields[rate]}", "{task.fields[speed]} samples/s"
        )
        self._task: TaskID = self._progress.add_task(
            stage, completed=done, total=total, loss="-", rate="-", speed="-"
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, line: dict[str, Any]) -> None:
        rate = max(line["learning_rate"].values())
        self._progress.update(
            self._task,
            advance=1,
            loss=f"{line['loss']:.4f}",
            rate=f"{rate:.2e}",
            speed=f"{line['samples_per_second']:.1f}",
        )


def _flatten(line: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and key != "step":
            flat[prefix + key] = value
    return flat
