"""Stages as tables: which parameters train, at what learning rate, and what therefore never changes."""

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from torch import nn

from polylens.data.collate import Level
from polylens.errors import UserError
from polylens.recipe import Row, Stage
from polylens.recipe_text import nearest


@dataclass(frozen=True)
class Plan:
    """A stage applied to a model. `rows` maps the names of trained parameters, in the model's order, to
    patterns.

    `boundary` is the level up to which nothing that a picture passes through trains: "pixels" if the vision
    tower trains, "patches" if it is frozen, "queries" if the resampler is too, None for a model that sees no
    pictures.
    """

    stage: Stage
    rows: dict[str, str]
    boundary: Level | None
    table: Table

    def learning_rate(self, name: str) -> float:
        """The peak learning rate of one trained parameter."""
        rate = self.stage.table[self.rows[name]].learning_rate
        assert rate is not None
        return rate


def apply_stage(model: Any, stage: Stage) -> Plan:
    """Freeze, unfreeze and adapt `model` as the stage's table says; of several matching rows the last
    decides.

    Raises `UserError` for a pattern that matches no parameter or is wholly overridden by later ones, and for
    a stage that trains nothing.
    """
    for pattern, row in stage.table.items():
        _check_pattern(model, pattern)
        if row.lora:
            model.adapt(pattern, **row.lora.model_dump())
    deciding = _deciding_rows(model, stage)
    trained, counts, sizes = {}, Counter[str](), Counter[str]()
    for name, parameter in model.named_parameters():
        pattern = deciding.get(id(parameter), "")
        row = stage.table.get(pattern, Row())
        trains = row.learning_rate is not None and (not row.lora or "lora_" in name)
        parameter.requires_grad_(trains)
        if trains:
            trained[name] = pattern
            counts[pattern] += parameter.numel()
        sizes[pattern] += parameter.numel()
    for pattern in stage.table:
        if pattern not in sizes:
            raise UserError(
                f"Stage '{stage.name}': the pattern '{pattern}' decides nothing, later rows match all of its "
                "parameters: put the wider pattern first."
            )
    if not trained:
        raise UserError(f"Stage '{stage.name}' trains nothing: give at least one pattern a learning rate.")
    set_modes(model)
    return Plan(stage, trained, _boundary(model, trained), _table(stage, counts, sizes))


def set_modes(module: nn.Module, training: bool = False) -> None:
    """Training mode where something below trains, evaluation mode where all is frozen (no dropout, fixed
    statistics).

    Modules without parameters follow the module that holds them.
    """
    parameters = list(module.parameters())
    module.training = any(p.requires_grad for p in parameters) if parameters else training
    for child in module.children():
        set_modes(child, module.training)


def check_patterns(model: nn.Module, stages: Sequence[Stage]) -> None:
    """Find a pattern of a later stage that matches nothing now rather than hours later.

    Raises `UserError`. Patterns of adapters, which come with their stage, are left to it.
    """
    for stage in stages:
        for pattern in stage.table:
            if "lora_" not in pattern:
                _check_pattern(model, pattern)


def never_trained(model: nn.Module, stages: Sequence[Stage]) -> dict[str, nn.Parameter]:
    """The parameters, by name, that are frozen in every stage (those that only get adapters are)."""
    trained = set()
    for stage in stages:
        for identity, pattern in _deciding_rows(model, stage).items():
            if stage.table[pattern].learning_rate is not None and not stage.table[pattern].lora:
                trained.add(identity)
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in trained}


def _check_pattern(model: nn.Module, pattern: str) -> None:
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if not fnmatch.filter(names, pattern):
        raise UserError(
            f"The pattern '{pattern}' matches no parameter of the model; the nearest name is "
            f"'{nearest(pattern, names)}'."
        )


def _deciding_rows(model: nn.Module, stage: Stage) -> dict[int, str]:
    """{id of a parameter: the last pattern that matches it}; of a tied parameter any name may match."""
    return {
        id(parameter): pattern
        for pattern in stage.table
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if fnmatch.fnmatchcase(name, pattern)
    }


def _boundary(model: nn.Module, trained: dict[str, str]) -> Level | None:
    if not hasattr(model, "vision"):
        return None
    parts = {name.split(".")[0] for name in trained}
    return "pixels" if "vision" in parts else "patches" if "resampler" in parts else "queries"


def _table(stage: Stage, counts: Counter[str], sizes: Counter[str]) -> Table:
    table = Table(title=f"Stage '{stage.name}'", title_justify="left")
    for heading, justify in (
        ("parameters", "left"),
        ("training", "left"),
        ("trained", "right"),
        ("of", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for pattern, row in stage.table.items():
        how = "frozen" if row.learning_rate is None else f"lr {row.learning_rate:g}"
        if row.lora:
            how = f"LoRA rank {row.lora.rank}, {how}"
        table.add_row(pattern, how, f"{counts[pattern]:,}", f"{sizes[pattern]:,}")
    if sizes[""]:
        table.add_row("(all others)", "frozen", "0", f"{sizes['']:,}")
    table.add_row("total", "", f"{sum(counts.values()):,}", f"{sum(sizes.values()):,}", style="bold")
    return table
