"""The example page is executed as it stands, and the table of benchmarks has a row for each."""

import re
import sys
import tomllib
from pathlib import Path

from tests.evaluation.benchmarks.stand_ins import ByRule, draw

from polylens.evaluation.benchmarks.interface import benchmarks
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.settings import EvaluationSettings

DOCS = Path(__file__).parents[3] / "docs"


def test_the_benchmark_of_the_page_runs(tmp_path, monkeypatch):
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    files = re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', page, re.DOTALL)
    assert [name for name, _ in files] == ["colours/de.jsonl", "colours.py", "pyproject.toml"]
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    # What an installer writes down of the page's entry point.
    [(group, points)] = tomllib.loads(files[-1][1])["project"]["entry-points"].items()
    info = tmp_path / "colours-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (info / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")
    monkeypatch.syspath_prepend(tmp_path)
    assert "colours" in benchmarks()

    draw(tmp_path / "colours" / "images", ["apple.png", "lemon.png"])
    predictor = ByRule(lambda sample: "ROT")
    results = evaluate_benchmark(
        predictor,
        EvaluationSettings(
            benchmark="colours",
            data=tmp_path / "colours",
            images=(tmp_path / "colours" / "images",),
            languages="de",
        ),
        tmp_path / "out",
    )
    assert results["languages"]["de"]["accuracy"] == 0.5
    assert {sample.turns[-1].prompt for sample in predictor.asked} == {
        "Question: Welche Farbe hat der Apfel? Short answer in German:",
        "Question: Welche Farbe hat die Zitrone? Short answer in German:",
    }
    sys.modules.pop("colours", None)


def test_the_table_has_every_benchmark():
    page = (DOCS / "evaluate.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| ((?:`\w[\w-]*`(?:, )?)+) \|", page.split("## The benchmarks")[1], re.MULTILINE)
    assert sorted(name for cell in named for name in re.findall(r"`([\w-]+)`", cell)) == benchmarks()
