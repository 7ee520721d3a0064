"""Progress where nobody watches: lines now and then, whole and without control characters."""

import io

from rich.console import Console

from polylens import progress
from polylens.commands.common import consoles


def lines(monkeypatch, seconds):
    clock = iter(range(0, 10_000, seconds))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    file = io.StringIO()
    with progress.progress_bar(Console(file=file, width=40), "loss {task.fields[loss]}") as bar:
        task = bar.add_task("a stage with quite a long name, longer than the terminal", total=8, loss="-")
        for step in range(8):
            bar.update(task, advance=1, loss=f"{step:.2f}")
    return file.getvalue().splitlines()


def test_a_line_every_half_minute(monkeypatch):
    told = lines(monkeypatch, seconds=10)
    assert len(told) == 2
    assert told[0].startswith("a stage with quite a long name, longer than the terminal  3/8  loss 2.00")


def test_quick_stages_say_nothing(monkeypatch):
    assert lines(monkeypatch, seconds=1) == []


def test_bars_are_for_terminals():
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert type(progress.progress_bar(terminal)) is progress.Progress


def test_what_is_piped_is_not_cut(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert consoles()[0].width >= 500
    monkeypatch.setenv("COLUMNS", "100")
    assert consoles()[0].width == 100
