"""A run beside its baseline on one benchmark: by language run minus baseline, its interval, and a paired test.

    two result folders -> items that both answered -> resampled differences -> Holm's correction -> page, CSV, PNG

Holm (1979): over many languages some p-value is small by chance, so each is multiplied by how many are at least as
large, itself included.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polylens import __version__
from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.evaluation.bootstrap import Comparison, compare_means
from polylens.evaluation.items import ScoredItem, read_items
from polylens.evaluation.measures import OWN, in_order
from polylens.evaluation.report import write_report
from polylens.evaluation.summary import language_name
from polylens.files import json_text, write_atomic

LEVEL = 0.05
ALL = "all"
TABLE = "compare.csv"
# Their values depend on the whole set scored, so that they can only be paired over equal sets.
OF_THE_SET = ("cider_d", "cider")
# Settings without which two runs are no measurements of the same thing.
SAME = ("data_sha256", "protocol", "limit", "split", "caption_metrics")


@dataclass(frozen=True)
class Run:
    """A result folder: its results.json and its items."""

    folder: Path
    results: Mapping[str, Any]
    items: Sequence[ScoredItem]

    @property
    def name(self) -> str:
        return str(self.results.get("model") or self.folder.name)


def read_run(folder: str | Path) -> Run:
    """The run in `folder`. Raises `UserError` for a folder that holds none."""
    folder = Path(folder)
    if not (folder / "results.json").is_file():
        raise UserError(f"'{folder}' has no results.json: give the folder of a finished evaluation.")
    results = read_json(folder / "results.json")
    if not isinstance(results, dict):
        raise UserError(f"'{folder / 'results.json'}' holds no results.")
    return Run(folder, results, read_items(folder))


def compare_runs(baseline: Run, run: Run, *, seed: int = 0) -> dict[str, Any]:
    """Results of a comparison: every measure that both have, by language and over all items, run minus baseline.

    Raises `UserError` for runs of different benchmarks, and for runs without a common item.
    """
    kinds = [one.results.get("benchmark") or one.results.get("title") for one in (baseline, run)]
    if kinds[0] != kinds[1]:
        raise UserError(f"'{kinds[0]}' and '{kinds[1]}' cannot be compared: give two runs of one benchmark.")
    pairs = _pairs(baseline, run)
    measures = [name for name in _order(pairs, run.results) if _paired(pairs, name)]
    if not measures:
        raise UserError(
            f"'{baseline.folder}' and '{run.folder}' have no item in common that both were scored on: "
            "compare runs on the same data."
        )
    tables = {name: _by_language(pairs, name, seed) for name in measures}
    main = measures[0]
    names = run_names([baseline, run])
    return {
        "title": f"{names[1]} against {names[0]}",
        "model": names[1],
        "benchmark": run.results.get("benchmark"),
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len({one.picture for one, _ in pairs.values()}),
        "languages": run.results.get("languages") or {},
        "baselines": {names[0]: baseline.results.get("languages") or {}},
        OWN: run.results.get(OWN) or {},
        "comparison": {
            "baseline": names[0],
            "run": names[1],
            "difference": "run minus baseline",
            "measure": main,
            "level": LEVEL,
            "languages": {code: row for code, row in tables[main].items() if code != ALL},
            "measures": tables,
        },
        "notes": _notes(baseline, run, pairs),
        "settings": {
            "baseline": {"folder": str(baseline.folder), **(baseline.results.get("settings") or {})},
            "run": {"folder": str(run.folder), **(run.results.get("settings") or {})},
            "test": "paired bootstrap over pictures, 1000 resamples; Holm's correction over languages",
            "seed": seed,
        },
    }


def run_names(runs: Sequence[Run]) -> list[str]:
    """What runs are called side by side: by their models, and by their folders where models are alike."""
    models = [run.name for run in runs]
    return [
        name if models.count(name) == 1 else f"{name} ({run.folder.resolve().name})"
        for name, run in zip(models, runs, strict=True)
    ]


def write_comparison(results: Mapping[str, Any], out: Path) -> Path:
    """compare.csv, compare.json and the report with its figures; returns the page's path."""
    write_atomic(out / TABLE, comparison_csv(results))
    page = write_report(results, [], out)
    write_atomic(out / "compare.json", json_text(results, indent=1))
    return page


def comparison_csv(results: Mapping[str, Any]) -> str:
    """A line per measure and language, numbers not rounded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = ["baseline", "run", "difference", "low", "high", "p_value", "p_holm", "n"]
    writer.writerow(["measure", "code", "language", *fields])
    for measure, table in results["comparison"]["measures"].items():
        for code, row in table.items():
            name = "all items" if code == ALL else language_name(code)
            writer.writerow([measure, code, name, *(row[field] for field in fields)])
    return text.getvalue()


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values, at most 1 and never in another order than the given ones."""
    adjusted, highest = {}, 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_value))
        adjusted[name] = highest
    return adjusted


Pairs = Mapping[str, tuple[ScoredItem, ScoredItem]]


def _pairs(baseline: Run, run: Run) -> Pairs:
    theirs = {item.id: item for item in run.items}
    return {item.id: (item, theirs[item.id]) for item in baseline.items if item.id in theirs}


def _order(pairs: Pairs, results: Mapping[str, Any]) -> list[str]:
    """Measures of both, in the reports' order."""
    shared = {name for one, other in pairs.values() for name in one.scores.keys() & other.scores.keys()}
    return in_order(shared, results)


def _paired(pairs: Pairs, measure: str) -> list[tuple[ScoredItem, ScoredItem]]:
    return [pair for pair in pairs.values() if all(measure in item.scores for item in pair)]


def _by_language(pairs: Pairs, measure: str, seed: int) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[tuple[ScoredItem, ScoredItem]]] = {}
    for pair in _paired(pairs, measure):
        groups.setdefault(pair[0].language, []).append(pair)
    found = {code: _compare(group, measure, seed) for code, group in groups.items()}
    adjusted = holm({code: row["p_value"] for code, row in found.items()})
    table = {code: row | {"p_holm": adjusted[code]} for code, row in found.items()}
    if len(groups) > 1:
        over_all = _compare([pair for group in groups.values() for pair in group], measure, seed)
        table[ALL] = over_all | {"p_holm": over_all["p_value"]}
    return table


def _compare(pairs: Sequence[tuple[ScoredItem, ScoredItem]], measure: str, seed: int) -> dict[str, Any]:
    theirs, mine = ([pair[side].scores[measure] for pair in pairs] for side in (0, 1))
    found: Comparison = compare_means(mine, theirs, [pair[0].picture for pair in pairs], seed=seed)
    return {"baseline": sum(theirs) / len(pairs), "run": sum(mine) / len(pairs), **asdict(found)}


def _notes(baseline: Run, run: Run, pairs: Pairs) -> list[str]:
    notes = []
    alone = [len(one.items) - len(pairs) for one in (baseline, run)]
    if any(alone):
        notes.append(
            f"{len(pairs)} items are compared; {alone[0]} of the baseline and {alone[1]} of the run have no "
            "counterpart and count nowhere."
        )
        if any(name in item.scores for name in OF_THE_SET for pair in pairs.values() for item in pair):
            notes.append(
                "CIDEr depends on the whole set that was scored, so its differences here mean little."
            )
    theirs, mine = (one.results.get("settings") or {} for one in (baseline, run))
    differing = [key for key in SAME if theirs.get(key) != mine.get(key)]
    if differing:
        notes.append(f"The runs differ in more than the model: {', '.join(differing)}.")
    return notes
