"""What results say, in words: the numbers to take home, two plain sentences, captions of figures."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from polylens.evaluation.bootstrap import Floats
from polylens.evaluation.measures import METRICS, metric_of
from polylens.evaluation.summary import (
    PIVOT,
    Column,
    columns,
    comparison_columns,
    controls,
    duration,
    language_name,
    main_column,
    number,
    pretraining_points,
    rows,
)

# Controls below this share of the model's own score show that the pictures are what is answered from.
CONTROL_SHARE = 0.2
BAR_NOTES = {
    "text_ceiling": "The text ceiling gives the same language model the English name as text: what it "
    "lacks is not lost in seeing.",
    "translate_test": "Translate-test is the model's own English answer, translated.",
    "text_only": "Text only: the same questions without the picture.",
    "majority": "Majority: always the answer that is right most often.",
    "english_only": "English only and native only are runs of the same budget: on the same samples as they were before "
    "translation, and on them all translated into that one language.",
}


class Tile(NamedTuple):
    """A headline number."""

    value: str
    label: str
    note: str


def summary_lines(results: Mapping[str, Any]) -> list[str]:
    """What stands beneath the table in the terminal."""
    lines = [
        f"{tile.label}: {tile.value}" + (f" ({tile.note})" if tile.note else "") for tile in tiles(results)
    ]
    if checks := controls(results):
        shown = [f"{label.lower()} {METRICS['exact_match'].text(value)}" for label, _, value in checks]
        lines.append("Controls: " + ", ".join(shown))
    if found := phases(results):
        shown = [f"{words(phase)} {duration(value)}" for phase, value in found.items()]
        lines.append("Time: " + ", ".join(shown))
    return lines


def facts(results: Mapping[str, Any]) -> list[str]:
    """How much was measured, when and in what time, as far as it is known."""
    table = rows(results)
    scripts = len({row.script for row in table})
    seeds = results.get("seeds") or []
    total = sum(phases(results).values())
    date = str(results.get("date") or "")
    found = [
        _counted(results.get("n"), "picture"),
        _counted(len(table), "language"),
        _counted(scripts, "script") if scripts > 1 else "",
        f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}" if seeds else "",
        duration(total) if total else "",
        date[:16].replace("T", " ") if re.match(r"\d{4}-\d\d-\d\dT", date) else date,
    ]
    return [fact for fact in found if fact]


def tiles(results: Mapping[str, Any]) -> list[Tile]:
    """The numbers to take home: English, then what the other languages keep of it; else means by measure."""
    if results.get("comparison"):
        return _comparison_tiles(results)
    measures = {column.key: column for column in columns(results)}
    found = []
    for key, label in (
        ("exact_match", "English exact match"),
        ("choice_accuracy", "English choice accuracy"),
    ):
        column = measures.get(key)
        if column and PIVOT in column.values and number(results.get("mean_pivot_ratio")) is not None:
            interval = column.metric.range(column.intervals.get(PIVOT))
            note = f"95% interval {interval}" if interval else ""
            found.append(Tile(column.metric.text(column.values[PIVOT]), label, note))
    others = _counted(len((results.get("languages") or {}).keys() - {PIVOT}), "language")
    for key, label, note in (
        ("mean_pivot_ratio", "Mean pivot ratio", f"exact match, {others}"),
        ("mean_cider_pivot_ratio", "Mean pivot ratio", f"CIDEr-D, {others}"),
        ("mean_choice_pivot_ratio", "Mean pivot ratio", f"choice, {others}"),
        (
            "worst_pivot_ratio",
            "Lowest pivot ratio",
            f"exact match, {language_name(str(results.get('worst_language') or ''))}".removesuffix(", "),
        ),
    ):
        if (value := number(results.get(key))) is not None:
            found.append(Tile(f"{value:.2f}", label, note))
    if found:
        return found
    return [
        Tile(
            column.metric.text(column.mean()),
            column.label,
            f"mean of {_counted(len(column.values), 'language')}",
        )
        for column in list(measures.values())[:5]
    ]


def _comparison_tiles(results: Mapping[str, Any]) -> list[Tile]:
    """The difference over all items, then how many languages each of the two is better in."""
    comparison = results["comparison"]
    baseline, run = comparison["baseline"], comparison["run"]
    metric, table = metric_of(comparison["measure"], results), comparison["languages"]
    whole = comparison["measures"][comparison["measure"]].get("all") or next(iter(table.values()))
    ends = f"95% interval {metric.signed(whole['low'])} to {metric.signed(whole['high'])}"
    better, worse = _winners(results)
    return [
        Tile(metric.signed(whole["difference"]), f"{metric.label}, {run} minus {baseline}", ends),
        Tile(str(len(better)), f"Languages with {run} ahead", f"of {len(table)}, by the corrected test"),
        Tile(str(len(worse)), f"Languages with {baseline} ahead", f"of {len(table)}, by the corrected test"),
    ]


def _winners(results: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Languages in which the run, and in which its baseline is better by the corrected test."""
    comparison = results["comparison"]
    sign = 1 if metric_of(comparison["measure"], results).higher_is_better else -1
    sure = {code: row for code, row in comparison["languages"].items() if row["p_holm"] < comparison["level"]}
    better = [code for code, row in sure.items() if sign * row["difference"] > 0]
    return better, [code for code in sure if code not in better]


def sentences(results: Mapping[str, Any]) -> list[str]:
    """What the numbers mean, in two plain sentences."""
    if results.get("comparison"):
        return [_comparison_sentence(results)]
    main = main_column(results)
    if main is None and results.get("benchmarks"):
        count = _counted(len(results["benchmarks"]), "benchmark")
        return [f"{count} in {_counted(len(results.get('languages') or {}), 'language')}."]
    if main is None:
        return ["No language has been scored, so there is nothing to show yet."]
    return [
        sentence for sentence in (_first_sentence(results, main), _second_sentence(results, main)) if sentence
    ]


def _comparison_sentence(results: Mapping[str, Any]) -> str:
    comparison = results["comparison"]
    baseline, run = comparison["baseline"], comparison["run"]
    better, worse = _winners(results)
    label, count = metric_of(comparison["measure"], results).label, len(comparison["languages"])
    if not better and not worse:
        return (
            f"In {label} no difference between {run} and its baseline {baseline} is shown in any of "
            f"{_counted(count, 'language')}."
        )
    return (
        f"Of {_counted(count, 'language')}, {run} is better than its baseline {baseline} in {len(better)} and worse in "
        f"{len(worse)} by {label}; in the others no difference is shown."
    )


def _first_sentence(results: Mapping[str, Any], main: Column) -> str:
    kept, worst = number(results.get("mean_pivot_ratio")), number(results.get("worst_pivot_ratio"))
    if main.key == "exact_match" and PIVOT in main.values and kept is not None:
        english = main.metric.text(main.values[PIVOT])
        others = len(main.values) - 1
        tail = ""
        if worst is not None and results.get("worst_language") and others > 1:
            tail = f"; {language_name(str(results['worst_language']))} keeps the least, {worst:.0%}"
        of = f"the {others} other languages keep on average" if others > 1 else "the other language keeps"
        return (
            f"In English the model gives exactly the expected answer for {english} of the pictures, "
            f"and {of} {kept:.0%} of that{tail}."
        )
    best, least = main.extreme(best=True), main.extreme(best=False)
    name = main.label.lower() if main.label[1:].islower() else main.label
    if best is None or least is None or len(main.values) == 1:
        code, value = best or ("", 0.0)
        return f"In {language_name(code)} the model reaches {main.metric.text(value)} {name}."
    over, mean = _counted(len(main.values), "language"), main.metric.text(main.mean())
    ends = [f"{main.metric.text(value)} in {language_name(code)}" for code, value in (best, least)]
    return f"Over {over} the mean {name} is {mean}, from {ends[0]} to {ends[1]}."


def _second_sentence(results: Mapping[str, Any], main: Column) -> str:
    """Whether it is the picture that is answered from, if controls tell; else how sure the scores are."""
    checks = results.get("controls") or {}
    blind, mean = number(checks.get("no_image")), main.mean()
    other = number(checks.get("other_image"))
    if main.key == "exact_match" and blind is not None and mean:
        both = f"Without a picture it is right in {main.metric.text(blind)} of cases"
        both += f", against {main.metric.text(mean)} with one"
        if blind > CONTROL_SHARE * mean:
            return f"{both}: part of the score is guessing."
        shown = (
            f"; shown another, it names that one in {main.metric.text(other)}" if other is not None else ""
        )
        return f"{both}: it answers from what it sees{shown}."
    widths = [high - low for low, high in main.intervals.values()]
    if widths:
        return f"With 95% certainty each of these is right to within {main.metric.text(max(widths) / 2)}."
    return ""


def describe_bars(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, note and alternative text of the bar chart."""
    main = main_column(results)
    assert main is not None, "the chart was drawn, so there is a measure"
    best, least = main.extreme(best=True), main.extreme(best=False)
    keys = [column.key for column in columns(results)]
    note = [f"{main.label}: {main.metric.meaning}." if main.metric.meaning else ""]
    note += [text for key, text in BAR_NOTES.items() if key in keys]
    alt = f"Bar chart of {main.label} by language, grouped by script"
    if best and least:
        alt += f": {language_name(best[0])} is best with {main.metric.text(best[1])}, "
        alt += f"{language_name(least[0])} last with {main.metric.text(least[1])}"
    title = f"{main.label} by language and script"
    return title, " ".join(filter(None, note)), f"{alt}. The table holds all numbers."


def describe_curves(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, note and alternative text of the curves."""
    curves = results["curves"]
    metric = metric_of(curves["measure"], results)
    first, last = curves["ticks"][0], curves["ticks"][-1]
    ends = [
        f"{name}: {metric.text(points[0][0])} at {first}, {metric.text(points[-1][0])} at {last}"
        for name, points in curves["lines"].items()
    ]
    note = f"{metric.label}: {metric.meaning}." if metric.meaning else ""
    return str(curves["title"]), note, f"Curves of {metric.label} over {curves['x']}. {'; '.join(ends)}."


def describe_heat_map(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, note and alternative text of the heat map."""
    note = "Each measure is coloured from 0 to its own highest value; shares are in percent."
    shown = [*columns(results), *comparison_columns(results)]
    names = ", ".join(dict.fromkeys(column.label for column in shown))
    title = "Languages and benchmarks" if results.get("benchmarks") else "All measures"
    return title, note, f"Heat map of languages against {names}. The table holds all numbers."


def describe_scatter(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, note and alternative text of the scatter."""
    main, points = main_column(results), pretraining_points(results)
    assert main is not None, "the scatter was drawn, so there is a measure"
    ranks = [_ranks([point[axis] for point in points.values()]) for axis in (0, 1)]
    varied = all(np.ptp(axis) > 0 for axis in ranks)
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if varied else 0.0
    absent = len(main.values) - len(points)
    note = f"Over {_counted(len(points), 'language')} the rank correlation (Spearman's rho) is {rho:.2f}."
    if absent:
        note += f" {_counted(absent, 'language')} whose share of mC4 is not known: not shown."
    alt = f"Scatter of {main.label} against the share of each language in mC4"
    return "Against the share in pretraining", note, f"{alt}. {note} The table holds all numbers."


def _ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def describe_differences(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """Title, note and alternative text of the differences."""
    comparison = results["comparison"]
    baseline, run = comparison["baseline"], comparison["run"]
    found = comparison["languages"]
    sure = [code for code, row in found.items() if row["p_holm"] < comparison["level"]]
    note = (
        f"{run} minus {baseline}, with 95% intervals; in colour where the paired test, corrected for the number of "
        f"languages, is below {comparison['level']:g}: {len(sure)} of {len(found)}."
    )
    return "Difference by language", note, f"{note} The table holds all numbers."


def phases(results: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by phase."""
    found = {phase: number(value) for phase, value in (results.get("seconds") or {}).items()}
    return {phase: seconds for phase, seconds in found.items() if seconds is not None}


def _counted(count: Any, thing: str) -> str:
    """1 picture, 1,550 pictures; nothing for no number."""
    if number(count) is None:
        return ""
    return f"{int(count):,} {thing}" + ("" if count == 1 else "s")


def words(key: str) -> str:
    """A key of the results as words."""
    return key.replace("_", " ")
