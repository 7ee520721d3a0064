"""What a results dict holds, as rows (languages, by script) and columns (measures), however it is shown.

results -> rows, columns -> page, table in the terminal, figures, CSV
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from polylens.errors import UserError
from polylens.evaluation.measures import (
    BASELINES,
    CONTROLS,
    METRICS,
    YARDSTICKS,
    Metric,
    in_order,
    metric_of,
    with_unit,
)
from polylens.languages import LANGUAGES, language

PIVOT = "en"
COUNTS = ("n", "n_ratio")
UNKNOWN_SCRIPT = "Other"
SCRIPTS = {
    "Arab": "Arabic",
    "Armn": "Armenian",
    "Beng": "Bengali",
    "Cher": "Cherokee",
    "Cyrl": "Cyrillic",
    "Deva": "Devanagari",
    "Ethi": "Ethiopic",
    "Geor": "Georgian",
    "Grek": "Greek",
    "Gujr": "Gujarati",
    "Guru": "Gurmukhi",
    "Hans": "Chinese, simplified",
    "Hant": "Chinese, traditional",
    "Hebr": "Hebrew",
    "Jpan": "Japanese",
    "Khmr": "Khmer",
    "Knda": "Kannada",
    "Kore": "Korean",
    "Laoo": "Lao",
    "Latn": "Latin",
    "Mlym": "Malayalam",
    "Mymr": "Burmese",
    "Orya": "Odia",
    "Sinh": "Sinhala",
    "Taml": "Tamil",
    "Telu": "Telugu",
    "Thai": "Thai",
}
BENCHMARKS = "benchmarks."
HELD_OUT = "Held-out concepts"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One language of the results; `n` items were scored, `n_ratio` of them for the ratio."""

    code: str
    name: str
    own_name: str
    script: str
    family: str
    n: int | None
    n_ratio: int | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measure by language; `intervals` are 95% intervals; `group` is "" for the run's own scores."""

    key: str
    label: str
    metric: Metric
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    group: str = ""

    @property
    def heading(self) -> str:
        return with_unit(self.label, self.metric.unit)

    def mean(self) -> float | None:
        return fmean(self.values.values()) if self.values else None

    def extreme(self, *, best: bool) -> tuple[str, float] | None:
        """The language with the best or worst value, and that value."""
        if not self.values:
            return None
        pick = max if best == self.metric.higher_is_better else min
        code = pick(self.values, key=lambda code: self.values[code])
        return code, self.values[code]


def number(value: Any) -> float | None:
    """`value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def language_name(code: str) -> str:
    """The English name, or the code itself for one that the table of languages lacks."""
    try:
        return language(code).name
    except UserError:
        return code


def rows(results: Mapping[str, Any]) -> list[Row]:
    """The languages, script by script: English's first, then larger ones; English leads, then by score."""
    found = [_row(code, scores) for code, scores in (results.get("languages") or {}).items()]
    sizes = Counter(row.script for row in found)
    first = next((row.script for row in found if row.code == PIVOT), None)
    main = main_column(results)

    def place(row: Row) -> tuple[Any, ...]:
        value = main.values.get(row.code) if main else None
        better = -1 if main and main.metric.higher_is_better else 1
        last = row.script == UNKNOWN_SCRIPT
        rank = math.inf if value is None else better * value
        return last, row.script != first, -sizes[row.script], row.script, row.code != PIVOT, rank, row.name

    return sorted(found, key=place)


def columns(results: Mapping[str, Any]) -> list[Column]:
    """The run's own measures, the main one first, then its yardsticks, which are values of the main one."""
    own = _metric_columns(results, results.get("languages") or {}, main=results.get("main_measure"))
    main = own[0].metric if own else METRICS["exact_match"]
    for key, (label, meaning) in YARDSTICKS.items():
        values = _numbers(results.get(key) or {})
        if values:
            metric = replace(main, label=label, meaning=meaning)
            own.append(Column(key=key, label=label, metric=metric, values=values, intervals={}))
    return own


def comparison_columns(results: Mapping[str, Any]) -> list[Column]:
    """The measures of single benchmarks, of baselines and of held-out concepts."""
    runs = [
        (f"{BENCHMARKS}{name}", one.get("title") or name, one.get("languages"), one.get("main_measure"))
        for name, one in (results.get("benchmarks") or {}).items()
    ]
    main = results.get("main_measure")
    runs += [
        (f"baselines.{name}", BASELINES.get(name, name), scores, main)
        for name, scores in (results.get("baselines") or {}).items()
    ]
    runs.append(("heldout_concepts", HELD_OUT, results.get("heldout_concepts"), main))
    return [
        column
        for key, group, scores, first in runs
        for column in _metric_columns(results, scores or {}, key, group, first)
    ]


def main_column(results: Mapping[str, Any]) -> Column | None:
    """The measure that languages are ranked by: the one that results name, else the first known one."""
    found = _metric_columns(results, results.get("languages") or {}, main=results.get("main_measure"))
    return found[0] if found else None


def chief_columns(found: Sequence[Column]) -> list[Column]:
    """The main measure of one run, and its choices where it has any."""
    return [
        column for place, column in enumerate(found) if not place or column.metric.name == "choice_accuracy"
    ]


def pretraining_points(results: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """{code: (percent of mC4, main measure)} of the languages whose share is known."""
    main, points = main_column(results), {}
    for code, value in main.values.items() if main else ():
        share = language(code).mc4_share if code in LANGUAGES else None
        if share:
            points[code] = (share, value)
    return points


@dataclass(frozen=True, kw_only=True)
class LanguageGroup:
    """Languages with something in common, and the main measure over them, each language counting once."""

    kind: str
    name: str
    codes: tuple[str, ...]
    mean: float
    best: tuple[str, float]
    worst: tuple[str, float]


def language_groups(results: Mapping[str, Any]) -> list[LanguageGroup]:
    """The main measure by script and by language family, larger groups first; none for a single group."""
    main = main_column(results)
    if main is None:
        return []
    found: list[LanguageGroup] = []
    table = [row for row in rows(results) if row.code in main.values]
    names: dict[str, Callable[[Row], str]] = {
        "Script": lambda row: row.script,
        "Family": lambda row: row.family.split(" / ")[0] or UNKNOWN_SCRIPT,
    }
    for kind, name_of in names.items():
        groups: dict[str, dict[str, float]] = {}
        for row in table:
            groups.setdefault(name_of(row), {})[row.code] = main.values[row.code]
        if len(groups) < 2:
            continue
        ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        for name, values in ordered:
            ends = sorted(values.items(), key=lambda one: one[1], reverse=main.metric.higher_is_better)
            found.append(
                LanguageGroup(
                    kind=kind,
                    name=name,
                    codes=tuple(values),
                    mean=fmean(values.values()),
                    best=ends[0],
                    worst=ends[-1],
                )
            )
    return found


def controls(results: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(label, meaning, mean exact match) of the controls that were run."""
    found = _numbers(results.get("controls") or {})
    known = {key: found[key] for key in CONTROLS if key in found} | found
    return [
        (*CONTROLS.get(key, (key.replace("_", " ").capitalize(), "")), value) for key, value in known.items()
    ]


def duration(seconds: float) -> str:
    """5.2 s, 48 s, 5 min 12 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _row(code: str, scores: Mapping[str, Any]) -> Row:
    counts = {name: None if number(scores.get(name)) is None else int(scores[name]) for name in COUNTS}
    try:
        known = language(code)
    except UserError:
        return Row(code=code, name=code, own_name="", script=UNKNOWN_SCRIPT, family="", **counts)
    script = SCRIPTS.get(known.script, known.script)
    family = known.family.replace("/", " / ")
    return Row(code=code, name=known.name, own_name=known.own_name, script=script, family=family, **counts)


def _metric_columns(
    results: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    key: str = "",
    group: str = "",
    main: str | None = None,
) -> list[Column]:
    present = {name for one in scores.values() for name in _numbers(one)} - set(COUNTS)
    names = sorted(in_order(present, results), key=lambda name: name != main)
    found = []
    for name in names:
        metric = metric_of(name, results)
        found.append(
            Column(
                key=f"{key}.{name}" if key else name,
                label=metric.label,
                metric=metric,
                values=_numbers({code: one.get(name) for code, one in scores.items()}),
                intervals=_intervals((code, one.get("intervals"), name) for code, one in scores.items()),
                group=group,
            )
        )
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: found for key, value in values.items() if (found := number(value)) is not None}


def _intervals(items: Iterable[tuple[str, Any, str]]) -> dict[str, tuple[float, float]]:
    found = {}
    for code, intervals, name in items:
        ends = [number(end) for end in (intervals or {}).get(name) or ()]
        match ends:
            case [float(low), float(high)]:
                found[code] = (low, high)
    return found
