"""Progress with counts and the time left: a bar on a terminal, a line every half minute anywhere else."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_SECONDS = 30


def progress_bar(console: Console, *columns: str) -> Progress:
    """A bar with counts and the time left; `columns` are texts with `{task.fields[...]}`."""
    kind = Progress if console.is_terminal else Lines
    return kind(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,
    )


class Lines(Progress):
    """What a log file or a pipe is told of a progress: a line when `LINE_SECONDS` have passed since the last one.

    Short stages say nothing, so that the output of quick commands stays as it is.
    """

    def __init__(self, *columns: Any, **settings: Any) -> None:
        super().__init__(*columns, **settings | {"disable": True})
        self._told = time.monotonic()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def stop(self) -> None:
        """Nothing is drawn, so nothing is to be cleared."""

    def _tell(self, task_id: TaskID) -> None:
        now = time.monotonic()
        if now - self._told < LINE_SECONDS:
            return
        self._told = now
        task = next(each for each in self.tasks if each.id == task_id)
        if task.visible:
            self.console.print(Text(self._line(task)), soft_wrap=True)

    def _line(self, task: Task) -> str:
        cells = [
            column(task) for column in self.columns if isinstance(column, TextColumn | MofNCompleteColumn)
        ]
        words = [" ".join(str(cell).split()) for cell in cells]
        left = task.time_remaining
        if left is not None:
            words.append(f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left")
        return "  ".join(words)
