"""What a run reached: scores before and after, and the advice that follows from them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from rich.table import Table

from polylens.languages import LANGUAGES
from polylens.recipe import Recipe

BEFORE = "before.json"
# Steps at the end whose mean loss stands for the run's, where nothing was held out.
LAST = 20


@dataclass
class Outcome:
    """`rows` are (measure, before, after) on the held-out samples; `advice` is in sentences."""

    rows: list[tuple[str, float, float]] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """The rows, for people."""
        table = Table(title="Held out, before and after", title_justify="left")
        for heading in ("", "before", "after"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, before, after in self.rows:
            table.add_row(_told(name), f"{before:.4g}", f"{after:.4g}")
        return table


def outcome(
    recipe: Recipe, folder: Path, results: Mapping[str, float], vocabulary: int | None = None
) -> Outcome:
    """What the run in `folder` reached, with a language model of so many tokens.

    Losses are compared where the first and the last stage have one objective.
    """
    found = Outcome()
    objectives = (recipe.stages[0].objective, recipe.stages[-1].objective)
    path = folder / BEFORE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, value in results.items():
        if name in before and (not name.startswith("loss") or objectives[0] == objectives[1]):
            found.rows.append((name, before[name], value))
    worse = [name for name, old, new in found.rows if (new >= old if name.startswith("loss") else new < old)]
    whole = [name for name in worse if "/" not in name]
    if whole:
        found.advice.append(
            f"The model is no better than before training ({', '.join(map(_told, whole))}): lower the learning rates, "
            "train on more pictures, or look at the data with polylens check and polylens inspect."
        )
    elif worse:
        found.advice.append(f"Worse than before: {', '.join(map(_told, worse))}.")
    loss = results.get("loss", _last_loss(folder))
    if objectives[1] == "answers" and vocabulary and loss is not None and loss >= math.log(vocabulary):
        found.advice.append(
            f"The loss is {loss:.2f}, and guessing every token at random has {math.log(vocabulary):.2f}: the model "
            "has learnt nothing that it can use. Lower the learning rates, or check that it knows the languages."
        )
    return found


def _last_loss(folder: Path) -> float | None:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-LAST:]
    return fmean(json.loads(line)["loss"] for line in lines) if lines else None


def _told(name: str) -> str:
    measure, _, code = name.partition("/")
    return f"{measure}, {LANGUAGES[code].name}" if code in LANGUAGES else name
