"""Parts by name: those of Polylens, and those that installed packages register as entry points.

A package adds, say, a resampler by one class and one line in its `pyproject.toml`:

    [project.entry-points."polylens.resamplers"]
    mine = "my_package:MyResampler"
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from polylens.errors import UserError

NONE: Mapping[str, Any] = {}


def plugin_names(group: str, own: Mapping[str, Any] = NONE) -> list[str]:
    """All names of a group: Polylens' `own`, then the registered ones, sorted."""
    return [*own, *sorted({point.name for point in entry_points(group=group)} - set(own))]


def check_name(name: str, what: str, group: str, own: Mapping[str, Any] = NONE) -> str:
    """`name`, if the group has it. Raises `UserError` that names the nearest and all others."""
    known = plugin_names(group, own)
    if name not in known:
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(
            f"There is no {what} '{name}': the nearest is '{nearest}', all are {', '.join(known)}."
        )
    return name


def find_plugin(name: str, what: str, group: str, own: Mapping[str, Any] = NONE) -> Any:
    """What the name stands for; Polylens' `own` come first. Raises `UserError` as `check_name` does."""
    check_name(name, what, group, own)
    if name in own:
        return own[name]
    return next(point for point in entry_points(group=group) if point.name == name).load()
