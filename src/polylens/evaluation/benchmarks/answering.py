"""Answers of one run, its baselines' included, each kept in a folder of its own so that a stopped run goes on."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens.evaluation.benchmarks.asking import Asking
from polylens.evaluation.runner import Item, answer, notes_of_cut
from polylens.evaluation.settings import EvaluationSettings
from polylens.progress import progress_bar


class Answering:
    """A predictor with the settings of its run: items in, answers out."""

    def __init__(self, asking: Asking, settings: EvaluationSettings, out: Path, console: Console) -> None:
        self.asking, self.settings, self.out, self.console = asking, settings, out, console
        given = asking.protocol.settings_of(asking.benchmark.task)
        self.generation = replace(given, batch_size=settings.batch_size, **settings.generation_changes)
        self.cut: list[str] = []  # notes on answers that were cut

    def answer(self, items: Sequence[Item], folder: str = "", *, likelihood: bool = False) -> list[str]:
        """An answer to each item, in their order; `folder` of the result folder is "" for the run's own."""
        with progress_bar(self.console) as bar:
            task = bar.add_task(folder or "answers", total=len(items))
            said = answer(
                self.asking.predictor,
                items,
                self.generation,
                likelihood=likelihood,
                folder=self.out / folder,
                fingerprint=self._fingerprint(likelihood, folder),
                advance=lambda count: bar.advance(task, count),
            )
        self.cut += notes_of_cut(said, self.generation, f"answers of {folder}" if folder else "answers")
        return said

    def _fingerprint(self, likelihood: bool, folder: str) -> dict[str, Any]:
        """All that moves an answer but the question, its pictures and its choices, which every row names."""
        generation = {key: value for key, value in asdict(self.generation).items() if key != "batch_size"}
        return {
            "model": dict(self.asking.predictor.settings),
            "benchmark": self.asking.benchmark.name,
            "protocol": self.asking.protocol.name,
            "generation": generation,
            "likelihood": likelihood,
            "baseline": folder,
        }
