"""Comparisons: what is paired, what a difference is worth, and what page, CSV and figure show of it."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.evaluation.compare import compare_runs, holm, read_run, write_comparison
from polylens.evaluation.items import ScoredItem, write_items
from polylens.evaluation.overview import overview, write_overview

CODES = ["en", "de", "sw"]


def save_run(folder: Path, right: dict[str, float], *, n: int = 200, seed: int = 0, **results: Any) -> Path:
    """A run whose answers are right with that probability; item i of each language is about picture i."""
    draw = np.random.default_rng(seed)
    items, rows = [], {}
    for code, share in right.items():
        values = (draw.random(n) < share).astype(float)
        items += [
            ScoredItem(f"{code}-{i}", code, [f"{i}.jpg"], {"accuracy": v}) for i, v in enumerate(values)
        ]
        rows[code] = {"accuracy": float(values.mean()), "n": n, "intervals": {"accuracy": [0.0, 1.0]}}
    folder.mkdir(parents=True)
    write_items(folder, items)
    given = {"benchmark": "toy", "model": folder.name, "languages": rows, "settings": {"data_sha256": "x"}}
    (folder / "results.json").write_text(json.dumps(given | results))
    return folder


def test_differences_are_found_where_they_are(tmp_path: Path) -> None:
    run = save_run(tmp_path / "a", {"en": 0.9, "de": 0.5, "sw": 0.5})
    baseline = save_run(tmp_path / "b", {"en": 0.5, "de": 0.5, "sw": 0.8}, seed=1)
    table = compare_runs(read_run(baseline), read_run(run))["comparison"]["measures"]["accuracy"]
    assert list(table) == [*CODES, "all"]
    for code in CODES:
        row = table[code]
        assert row["difference"] == pytest.approx(row["run"] - row["baseline"])
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_holm"] >= row["p_value"]
        assert row["n"] == 200
    assert table["en"]["p_holm"] < 0.01
    assert table["en"]["low"] > 0
    assert table["sw"]["p_holm"] < 0.01
    assert table["sw"]["high"] < 0
    assert table["de"]["p_holm"] > 0.05


def test_a_run_equals_itself(tmp_path: Path) -> None:
    run = read_run(save_run(tmp_path / "a", {"en": 0.5}))
    row = compare_runs(run, run)["comparison"]["measures"]["accuracy"]["en"]
    assert (row["difference"], row["low"], row["high"], row["p_value"]) == (0, 0, 0, 1)


def test_page_table_and_figure(tmp_path: Path) -> None:
    run = save_run(tmp_path / "a", {"en": 0.9, "de": 0.5})
    baseline = save_run(tmp_path / "b", {"en": 0.5, "de": 0.5}, seed=1)
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["compare", str(baseline), str(run), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert "All items" in ran.output
    assert "Difference: run a minus baseline b" in ran.output
    compared = (out / "compare.json").read_text(encoding="utf-8")
    other = tmp_path / "other"
    ran = CliRunner().invoke(app, ["compare", str(run), "--baseline", str(baseline), "--out", str(other)])
    assert ran.exit_code == 0, ran.output
    undated = [
        re.sub('"date": "[^"]*"', "", text) for text in (compared, (other / "compare.json").read_text())
    ]
    assert undated[0] == undated[1]
    for words in (["compare", str(run)], ["compare", str(run), str(run), "--baseline", str(baseline)]):
        ran = CliRunner().invoke(app, words)
        assert (ran.exit_code, "2 are compared: BASELINE RUN" in ran.output) == (2, True)
    page = (out / "report.html").read_text(encoding="utf-8")
    told = "Of 2 languages, a is better than its baseline b in 1 and worse in 0 by Accuracy; in the others no"
    for piece in (
        "Difference by language",
        "All items",
        "Holm",
        ">a against b<",
        told,
        "Languages with a ahead",
    ):
        assert piece in page, piece
    lines = list(csv.DictReader(io.StringIO((out / "compare.csv").read_text(encoding="utf-8"))))
    assert [line["code"] for line in lines] == ["en", "de", "all"]
    saved = json.loads((out / "compare.json").read_text(encoding="utf-8"))["comparison"]["measures"][
        "accuracy"
    ]
    assert float(lines[0]["difference"]) == saved["en"]["difference"] > 0
    with Image.open(out / "differences.png") as figure:
        assert figure.width == 2160


def test_only_common_items_count_and_the_rest_is_said(tmp_path: Path) -> None:
    first = save_run(tmp_path / "a", {"en": 0.9, "de": 0.5}, n=50)
    second = save_run(tmp_path / "b", {"en": 0.9}, n=40, settings={"data_sha256": "y"})
    results = compare_runs(read_run(first), read_run(second))
    assert results["comparison"]["measures"]["accuracy"]["en"]["n"] == 40
    assert any("40 items are compared; 60 of the baseline and 0" in note for note in results["notes"])
    assert any("data_sha256" in note for note in results["notes"])


def test_runs_that_cannot_be_compared_are_one_sentence(tmp_path: Path) -> None:
    first = save_run(tmp_path / "a", {"en": 0.9})
    with pytest.raises(UserError, match="'toy' and 'other'"):
        compare_runs(read_run(first), read_run(save_run(tmp_path / "b", {"en": 1}, benchmark="other")))
    with pytest.raises(UserError, match="no item in common"):
        compare_runs(read_run(first), read_run(save_run(tmp_path / "c", {"de": 1})))
    with pytest.raises(UserError, match=r"no results\.json"):
        read_run(tmp_path)
    (first / "items.jsonl").unlink()
    with pytest.raises(UserError, match=r"no items\.jsonl"):
        read_run(first)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


@given(st.dictionaries(st.integers(), st.floats(0, 1), min_size=1))
def test_holm_keeps_order_and_bounds(p_values: dict[Any, float]) -> None:
    adjusted = holm(p_values)
    assert all(p_values[key] <= adjusted[key] <= 1 for key in p_values)
    ordered = sorted(p_values, key=p_values.__getitem__)
    assert [adjusted[key] for key in ordered] == sorted(adjusted.values())


def test_benchmarks_side_by_side(tmp_path: Path) -> None:
    first = save_run(tmp_path / "a", {"en": 0.9, "de": 0.5}, title="First, protocol raw", protocol="raw")
    second = save_run(
        tmp_path / "b", {"de": 0.5, "sw": 0.2}, benchmark="second", title="Second", notes=["few"]
    )
    results = overview([first, second])
    page = write_overview(results, tmp_path / "out").read_text(encoding="utf-8")
    for piece in ("2 benchmarks", "By benchmark", "First", "Second", "Swahili", "Second: few"):
        assert piece in page, piece
    with Image.open(tmp_path / "out" / "heatmap.png") as figure:
        assert figure.width == 2160
    header = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8").split("\n")[0]
    assert "benchmarks.toy.accuracy" in header
    with pytest.raises(UserError, match="is given twice"):
        overview([first, first])
    with pytest.raises(UserError, match=r"no results\.json"):
        overview([tmp_path])


def test_several_runs_of_one_benchmark_stand_in_one_table(tmp_path: Path) -> None:
    runs = [
        save_run(tmp_path / "x" / "100", {"en": 0.1, "de": 0.1}, model="mine"),
        save_run(tmp_path / "x" / "200", {"en": 0.5, "de": 0.2}, model="mine", settings={"data_sha256": "y"}),
        save_run(tmp_path / "theirs", {"en": 0.9}),
        save_run(tmp_path / "other", {"en": 0.9, "sw": 0.3}, benchmark="second", model="mine"),
    ]
    ran = CliRunner().invoke(
        app, ["report", *map(str, runs), "--out", str(tmp_path / "out")], env={"COLUMNS": "200"}
    )
    assert ran.exit_code == 0, ran.output
    for piece in ("toy, mine (100)", "toy, mine (200)", "toy, theirs", "second", "Swahili", "Mean of those"):
        assert piece in ran.output, piece
    assert "differ in more than the model: data_sha256" in ran.output
    results = json.loads((tmp_path / "out" / "overview.json").read_text())
    assert results["title"] == "2 benchmarks, 4 runs"
    english = [one["languages"]["en"]["accuracy"] for one in results["benchmarks"].values()]
    assert english == [
        json.loads((run / "results.json").read_text())["languages"]["en"]["accuracy"] for run in runs
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "toy, mine (200)" in page


def test_items_of_one_id_are_refused(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "a", {"en": 0.5}, n=2)
    path = folder / "items.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(UserError, match=r"items.jsonl, line 3: the id 'en-0' is in line 1 too"):
        read_run(folder)
    path.write_text('{"id": "1", "language": "en", "pictures": []}\n')
    with pytest.raises(UserError, match="line 1 is no scored item: 'scores' is missing"):
        read_run(folder)


def test_comparing_twice_writes_the_same(tmp_path: Path) -> None:
    runs = [read_run(save_run(tmp_path / name, {"en": 0.5}, seed=seed)) for seed, name in enumerate("ab")]
    tables = []
    for name in ("x", "y"):
        write_comparison(compare_runs(*runs), tmp_path / name)
        tables.append((tmp_path / name / "compare.csv").read_bytes())
    assert tables[0] == tables[1]
