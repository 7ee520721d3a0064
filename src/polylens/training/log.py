"""What a run leaves behind and shows: one JSON line per step, TensorBoard, and a progress bar."""

import json
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from polylens.files import write_atomic
from polylens.training.checkpoint import writing

FLUSH_SECONDS = 20


def progress_bar(console: Console, *columns: str) -> Progress:
    """A bar with counts and the time left; `columns` are texts with `{task.fields[...]}`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
    )


class RunLog:
    """Opens `log.jsonl` and `tensorboard/` in `folder`, forgetting every step after the first `done`."""

    def __init__(self, folder: Path, done: int):
        self.path = folder / "log.jsonl"
        # A line that a kill cut short has no newline and belongs to a step that is done again.
        kept = [line for line in self._lines() if line.endswith("\n") and json.loads(line)["step"] <= done]
        write_atomic(self.path, "".join(kept))
        with writing(self.path):
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
            self._board = SummaryWriter(
                str(folder / "tensorboard"), purge_step=done + 1, max_queue=1000, flush_secs=FLUSH_SECONDS
            )

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []

    def write(self, line: dict[str, Any]) -> None:
        """Add the line of one step; its numbers, also nested ones, become TensorBoard curves."""
        with writing(self.path):
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
            for name, value in _flatten(line).items():
                self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        with writing(self.path):
            self._file.close()
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
