"""One page over many runs: languages against benchmarks and models."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from polylens import __version__
from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.evaluation.measures import OWN
from polylens.evaluation.report import write_report
from polylens.evaluation.summary import Column, language_name, main_column, rows
from polylens.files import json_text, write_atomic

# Settings without which two runs of one benchmark are no measurements of the same thing.
SAME = ("data_sha256", "protocol", "limit", "split")


def overview(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Results of several runs put side by side, each by its main measure; of one benchmark there may be several.

    Raises `UserError` for a folder without results, and for one that is given twice.
    """
    runs = _read(folders)
    names = [str(one.get("benchmark") or one.get("title") or folder.name) for folder, one in runs]
    models = [str(one.get("model") or folder.name) for folder, one in runs]
    benchmarks: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    own: dict[str, Any] = {}
    for (folder, results), name, model in zip(runs, names, models, strict=True):
        title = str(results.get("title") or name).removesuffix(f", protocol {results.get('protocol')}")
        key = name
        if names.count(name) > 1:
            alike = sum(pair == (name, model) for pair in zip(names, models, strict=True)) > 1
            key = f"{name}, {model} ({folder.name})" if alike else f"{name}, {model}"
            title = f"{title}, {model} ({folder.name})" if alike else f"{title}, {model}"
        if key in benchmarks:
            raise UserError(f"Two folders are called '{folder.name}' and hold runs of {name}: rename one.")
        languages = results.get("languages") or {}
        benchmarks[key] = {
            "title": title,
            "main_measure": results.get("main_measure"),
            "languages": languages,
        }
        own |= results.get(OWN) or {}
        notes += [f"{title}: {note}" for note in results.get("notes") or []]
    distinct = list(dict.fromkeys(models))
    codes = dict.fromkeys(code for one in benchmarks.values() for code in one["languages"])
    if len(distinct) > 1:
        notes.insert(0, f"These are runs of {len(distinct)} models: {', '.join(distinct)}.")
    return {
        "title": _counted(len(set(names)), "benchmark")
        + (f", {_counted(len(runs), 'run')}" if len(runs) > len(set(names)) else ""),
        "model": ", ".join(distinct),
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "languages": {code: {} for code in codes},
        "benchmarks": benchmarks,
        OWN: own,
        "notes": [*_differing(runs, names), *notes],
        "settings": {"runs": [str(folder) for folder in folders]},
    }


def overview_table(results: Mapping[str, Any]) -> Table:
    """Languages against runs, each by its main measure, with the mean of those measured at the end."""
    found: list[tuple[str, Column]] = []
    for one in results["benchmarks"].values():
        column = main_column({**one, OWN: results.get(OWN)})
        if column is not None:
            found.append((one["title"], column))
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    table.add_column("Language", no_wrap=True)
    for title, column in found:
        table.add_column(Text(f"{title}\n{column.heading}"), justify="right")
    for row in rows(results):
        table.add_row(
            language_name(row.code),
            *(column.metric.number(column.values.get(row.code)) for _, column in found),
        )
    table.add_section()
    table.add_row("Mean of those measured", *(column.metric.number(column.mean()) for _, column in found))
    return table


def write_overview(results: dict[str, Any], out: Path) -> Path:
    """overview.json and the page with its figures and CSV; returns the page's path."""
    page = write_report(results, [], out)
    write_atomic(out / "overview.json", json_text(results, indent=1))
    return page


def _read(folders: Sequence[str | Path]) -> list[tuple[Path, dict[str, Any]]]:
    found: dict[Path, dict[str, Any]] = {}
    for folder in map(Path, folders):
        if not (folder / "results.json").is_file():
            raise UserError(f"'{folder}' has no results.json: give folders of finished evaluations.")
        if folder.resolve() in found:
            raise UserError(f"'{folder}' is given twice: name each run once.")
        found[folder.resolve()] = read_json(folder / "results.json")
    return list(found.items())


def _differing(runs: Sequence[tuple[Path, Mapping[str, Any]]], names: Sequence[str]) -> list[str]:
    """A note for each benchmark whose runs differ in more than the model."""
    notes = []
    for name in dict.fromkeys(names):
        settings = [
            results.get("settings") or {}
            for (_, results), mine in zip(runs, names, strict=True)
            if mine == name
        ]
        keys = [key for key in SAME if len({json.dumps(one.get(key)) for one in settings}) > 1]
        if keys:
            notes.append(f"The runs of {name} differ in more than the model: {', '.join(keys)}.")
    return notes


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
