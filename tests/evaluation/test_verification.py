"""The manifest of released checkpoints: whole, runnable in form, compared as it says, and shown in the docs."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from typer.main import get_command

from polylens.errors import UserError
from polylens.evaluation.benchmarks.interface import find_benchmark
from polylens.evaluation.verification import fill, find_check, read_checks, run_check, verification_page

RELEASED = ("mblip-mt0-xl", "mblip-bloomz-7b", "blip2-", "viscpm-chat", "viscpm-paint")
DOCS = Path(__file__).parents[2] / "docs"
GIVEN = {"model": "m", "data": "d", "images": "i", "judge": "http://h/v1#j", "out": "o"}


def test_every_released_checkpoint_is_there_with_commands_that_exist() -> None:
    from polylens.cli import app

    checks = read_checks()
    assert len({check.name for check in checks}) == len(checks)
    assert all(any(check.name.startswith(name) for check in checks) for name in RELEASED)
    group = get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    for check in checks:
        for expectation in check.expect:
            assert expectation.value is None or expectation.same_as is None
        for command in check.commands:
            name, *words = fill(command, GIVEN)
            known = {option for parameter in group.commands[name].params for option in parameter.opts}  # type: ignore[union-attr]
            assert {word for word in words if word.startswith("--")} <= known, command
            if "--benchmark" in words:
                find_benchmark(words[words.index("--benchmark") + 1])


def results(xgqa: float) -> dict[str, object]:
    rows = {"en": {"accuracy": xgqa}, "de": {"accuracy": 0.4}}
    means = {"accuracy": {"all": 0.42, "without_en": 0.399}}
    return {"main_measure": "accuracy", "languages": rows, "means": means}


def test_numbers_are_compared_within_their_tolerance(tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        ran.append(list(words))
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results(0.442 if len(ran) == 1 else 0.36)))
        return 0

    check = find_check("mblip-mt0-xl-xgqa")
    first = run_check(check, tmp_path, data=Path("d"), images=Path("i"), run=run)
    assert [round(verdict.found, 1) for verdict in first] == [44.2, 39.9]
    assert all(verdict.passed for verdict in first)
    assert ran[0][:4] == ["evaluate", "Gregor/mblip-mt0-xl", "--benchmark", "xgqa"]
    second = run_check(check, tmp_path, data=Path("d"), images=Path("i"), run=run)
    assert [verdict.passed for verdict in second] == [False, True]
    assert json.loads((tmp_path / "verdict.json").read_text())["verdicts"][0]["passed"] is False


def test_a_reference_is_run_beside(tmp_path: Path) -> None:
    def run(words: Sequence[str]) -> int:
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        share = 0.5 if words[1].startswith("transformers:") else 0.52
        (out / "results.json").write_text(json.dumps(results(share)))
        return 0

    (verdict,) = run_check(
        find_check("blip2-opt-2.7b-vqav2"), tmp_path, data=Path("d"), images=Path("i"), run=run
    )
    assert (round(verdict.expected, 1), round(verdict.found, 1), verdict.passed) == (50.0, 52.0, False)


def test_mblips_own_tables_are_all_there_and_nothing_unconfirmed_is_written(tmp_path: Path) -> None:
    names = {check.name for check in read_checks()}
    benchmarks = ("xm3600", "xflickrco", "xvnli", "xgqa", "maxm", "marvl", "pope", "chair", "chair-detail")
    for model in ("mt0-xl", "bloomz-7b"):
        assert {f"mblip-{model}-{benchmark}-own-table" for benchmark in benchmarks} <= names
    assert {f"mblip-mt0-xl-{name}-fine-tuned" for name in ("xgqa", "xvnli", "marvl", "xflickrco")} <= names
    for check in read_checks():
        if check.name.endswith(("-own-table", "-fine-tuned")):
            assert check.status == "not yet run"
            assert all(e.value is None and e.same_as is None for e in check.expect)

    def run(words: Sequence[str]) -> int:
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(results(0.5)))
        return 0

    check = find_check("mblip-mt0-xl-xgqa-fine-tuned")
    with pytest.raises(UserError, match="needs --model"):
        run_check(check, tmp_path, data=Path("d"), images=Path("i"), run=run)
    first, _ = run_check(check, tmp_path, "runs/mine/model", Path("d"), Path("i"), run=run)
    assert (first.expected, round(first.found, 1), first.passed) == (None, 50.0, True)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    check = find_check("mblip-mt0-xl-xgqa")
    with pytest.raises(UserError, match="needs --data"):
        run_check(check, tmp_path)
    with pytest.raises(UserError, match="exit code 2"):
        run_check(check, tmp_path, data=Path("d"), images=Path("i"), run=lambda words: 2)
    with pytest.raises(UserError, match="no check 'nothing'"):
        find_check("nothing")
    with pytest.raises(UserError, match="needs --model"):
        run_check(find_check("viscpm-chat-balance-qa90-en"), tmp_path)
    with pytest.raises(UserError, match="needs --model"):
        run_check(find_check("viscpm-paint-zhplus-fid"), tmp_path)
    with pytest.raises(UserError, match="cannot be run yet"):
        run_check(check.model_copy(update={"commands": []}), tmp_path)


def test_a_painter_is_drawn_and_scored_by_the_named_measure(tmp_path: Path) -> None:
    asked = []

    def run(words: Sequence[str]) -> int:
        asked.append(words[0])
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        rows = {code: {"n": 30_000, "fid": 9.7, "fd_picto": 1.0} for code in ("en", "zh")}
        (out / "results.json").write_text(json.dumps({"languages": rows}))
        return 0

    given = {"model": "m", "data": Path("d"), "images": Path("i")}
    verdicts = run_check(find_check("viscpm-paint-balance-fid"), tmp_path, **given, run=run)
    assert asked == ["paint", "score-paintings"]
    assert [(verdict.found, verdict.passed) for verdict in verdicts] == [(9.7, True), (9.7, False)]


def test_the_page_in_the_docs_is_this_manifest() -> None:
    assert (DOCS / "verification.md").read_text(encoding="utf-8") == verification_page()
