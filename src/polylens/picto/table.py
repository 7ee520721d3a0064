"""The laboratory's table: every way of captioning the same scenes, scored alike.

    single, held out   exact match of the name                seen, unseen, triples   set-match: all names, in any order

A *system* is a set of captions, {language: one per scene}. Its ratio over the languages other than English is
normalised by ceilings: a system's share of what the language model writes from the right English words, over the same
share in English. Intervals are bootstrapped over scenes; seeds are averaged afterwards (see `average`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from polylens.evaluation.bootstrap import Floats, Score, bootstrap_all, bootstrap_mean, compare_means
from polylens.picto.lists import set_f1, set_match
from polylens.picto.measure import PIVOT, Said, exact, is_own
from polylens.picto.scenes import Scene, scenes, single
from polylens.picto.tasks import pictures

# Groups of scenes, and how many the quick form shows of each.
SIZES = {"single": 300, "seen_pairs": 50, "unseen_pairs": 50, "triples": 20, "held_out": 100}
# And with `--full`.
ALL = {"single": 1180, "seen_pairs": 100, "unseen_pairs": 100, "triples": 50, "held_out": 131}
# And with `--llm`.
FEW = {"single": 40, "seen_pairs": 20, "unseen_pairs": 20, "triples": 10, "held_out": 10}
SPLITS = {"seen_pairs": "seen", "unseen_pairs": "unseen", "triples": "triples"}
PAIRS = ("seen_pairs", "unseen_pairs")

# What is printed, by key; the rest stands in results.json.
COLUMNS = {
    "exact": "single",
    "seen_pairs": "seen\npairs",
    "unseen_pairs": "unseen\npairs",
    "set_f1": "pairs\nF1",
    "held_out": "held\nout",
}
# The rows of the table, always in this order.
BASELINES = {
    "classifier_dictionary": "Probe, dictionary",
    "classifier_translated": "Probe, translated",
    "translate_test": "Translate-test",
}
ARMS = {"english": "(a) English alone", "mix": "(b) mix"}


@dataclass(frozen=True)
class Shown:
    """The scenes of a table, and the group of each."""

    scenes: Sequence[Scene]
    groups: Sequence[str]

    def places(self, *names: str) -> list[int]:
        return [at for at, group in enumerate(self.groups) if group in names]


def shown_in(style: str, sizes: Mapping[str, int] = SIZES) -> Shown:
    """Scenes of every group in a style; single ones as they are drawn, composed ones as training composes them."""
    found: dict[str, list[Scene]] = {
        "single": [single(*one) for one in pictures("test", num_concepts=sizes["single"], style=style)]
    }
    for group, split in SPLITS.items():
        found[group] = scenes(split, sizes[group], style=style)
    found["held_out"] = [
        single(*one) for one in pictures("heldout", num_concepts=sizes["held_out"], style=style)
    ]
    return Shown(
        [scene for group in found.values() for scene in group],
        [name for name, group in found.items() for _ in group],
    )


def values(said: Said, shown: Shown) -> dict[str, Floats]:
    """{language: (N,) exact match, of composed scenes set-match}."""
    found = {}
    for code, texts in said.items():
        scored = exact(texts, shown.scenes, code)
        for at in shown.places(*SPLITS):
            scored[at] = set_match(texts[at], shown.scenes[at].name(code))
        found[code] = np.array(scored)
    return found


def system(said: Said, shown: Shown, text: Said) -> dict[str, Any]:
    """Scores of one system by group, its F1 of names in pairs, and its ratios; `text` are the ceilings' captions.

    Each score is {"en", "others"}, the second the mean over the languages other than English.
    """
    scored, ceiling = values(said, shown), values(text, shown)
    result: dict[str, Any] = {"exact": _both(scored, shown.places("single"))}
    for group in (*SPLITS, "held_out"):
        if places := shown.places(group):
            result[group] = _both(scored, places)
    partial = {
        code: np.array([set_f1(t, s.name(code)) for t, s in zip(texts, shown.scenes, strict=True)])
        for code, texts in said.items()
    }
    if places := shown.places(*PAIRS):
        result["set_f1"] = _both(partial, places)
        result["normalised_ratio_pairs"] = normalised_ratio(scored, ceiling, shown, places)
    result["normalised_ratio"] = normalised_ratio(scored, ceiling, shown, shown.places("single"))
    result["languages"] = {
        code: {
            "exact": float(scored[code][shown.places("single")].mean()),
            **({"pairs": float(scored[code][places].mean())} if places else {}),
        }
        for code in scored
    }
    return result


def _both(scored: Mapping[str, Floats], places: Sequence[int]) -> dict[str, Any]:
    """Of some scenes, the score in English and the mean over the others, with intervals over scenes."""
    others = [scored[code][places] for code in scored if code != PIVOT]
    result = {PIVOT: _numbers(bootstrap_mean(scored[PIVOT][places]))}
    if others:
        result["others"] = _numbers(bootstrap_mean(np.mean(others, axis=0)))
    return result


def normalised_ratio(
    scored: Mapping[str, Floats], ceiling: Mapping[str, Floats], shown: Shown, places: Sequence[int]
) -> dict[str, Any] | None:
    """Mean over languages of (score / text ceiling) / (English score / English copy ceiling), with its interval.

    Scenes that a language calls as English does are left out of its ratio. None without another language, and where
    English or a ceiling is never right.
    """
    others = [code for code in scored if code != PIVOT]
    columns = []
    for code in others:
        own = np.array([is_own(shown.scenes[at], code) for at in places], float)
        for one in (scored[code], ceiling[code], scored[PIVOT], ceiling[PIVOT]):
            columns.append(one[places] * own)
    if not others or any(column.sum() == 0 for column in [c for i, c in enumerate(columns) if i % 4]):
        return None

    def mean(sums_RK: Floats) -> Floats:
        mine, text, english, copied = np.moveaxis(sums_RK.reshape(len(sums_RK), -1, 4), 2, 0)
        return np.asarray((mine / np.maximum(text, 1) * copied / np.maximum(english, 1)).mean(1))

    return _numbers(bootstrap_all(np.stack(columns, 1), {"ratio": mean})["ratio"])


def difference(first: Said, second: Said, shown: Shown) -> dict[str, float]:
    """Paired test of two systems over single scenes and pairs, in the languages other than English."""
    places = shown.places("single", *PAIRS)
    one, other = values(first, shown), values(second, shown)
    codes = [code for code in one if code != PIVOT]
    found = compare_means(
        np.concatenate([one[code][places] for code in codes]),
        np.concatenate([other[code][places] for code in codes]),
        places * len(codes),
    )
    return {key: value for key, value in asdict(found).items() if key != "n"}


def _numbers(score: Score) -> dict[str, Any]:
    return asdict(score)


def average(trees: Sequence[Any]) -> Any:
    """Numbers averaged over seeds, place by place; anything else is the first seed's.

    A score {"value", "low", "high"} of several seeds gets the lowest and highest bound of any of them.
    """
    first = trees[0]
    if isinstance(first, Mapping):
        rest = [tree for tree in trees if isinstance(tree, Mapping)]
        found = {key: average([tree[key] for tree in rest if key in tree]) for key in first}
        if {"low", "high"} <= set(first):
            found |= {"low": min(t["low"] for t in rest), "high": max(t["high"] for t in rest)}
        return found
    numbers = [tree for tree in trees if isinstance(tree, float)]
    return sum(numbers) / len(numbers) if isinstance(first, float) else first


def print_systems(results: Mapping[str, Any], console: Console) -> None:
    """The table: baselines, arms, ceiling; of each the scores in English and their mean over the other languages."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("%", no_wrap=True)
    table.add_column("in", no_wrap=True)
    for heading in (*COLUMNS.values(), "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = {label: results["baselines"].get(key) for key, label in BASELINES.items()}
    rows |= {label: results["arms"].get(key) for key, label in ARMS.items()}
    rows["Text ceiling"] = results["ceilings"]["text"]
    for label, row in rows.items():
        if row:
            table.add_row(label, PIVOT, *_cells(row, PIVOT), "")
            table.add_row("", "rest", *_cells(row, "others"), _ratio(row), end_section=True)
    console.print(table)
    for key, label in ARMS.items():
        if row := results["arms"].get(key):
            gap = row["minus_translate_test"]
            console.print(
                f"{label} minus translate-test, other languages: {100 * gap['difference']:+.1f} points "
                f"({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}), p = {gap['p_value']:.3f}"
            )


def _cells(row: Mapping[str, Any], part: str) -> list[str]:
    scores = [(row.get(key) or {}).get(part) for key in COLUMNS]
    return [f"{100 * score['value']:.1f}" if score else "–" for score in scores]


def _ratio(row: Mapping[str, Any]) -> str:
    ratio = row.get("normalised_ratio")
    return f"{ratio['value']:.2f} {ratio['low']:.2f}–{ratio['high']:.2f}" if ratio else "–"
