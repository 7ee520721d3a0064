"""The verification manifest: for every released checkpoint what to run, and the number that should come out.

One data file, `verification.yaml`, is what `polylens verify` lists and runs and what docs/verification.md shows.
"""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.files import json_text, make_writable_folder, write_atomic

RESULTS = "results.json"
Runner = Callable[[Sequence[str]], int]


class Expectation(BaseModel):
    """A place in results.json, and the published value, or the model whose value it must equal.

    With neither, the number is shown beside its source: a published value that is not confirmed is not written down.
    """

    model_config = ConfigDict(extra="forbid")

    where: str
    value: float | None = None
    same_as: str | None = None


class Check(BaseModel):
    """One checkpoint on one benchmark."""

    model_config = ConfigDict(extra="forbid")

    name: str
    model: str
    needs: str
    commands: list[str]
    expect: list[Expectation] = Field(min_length=1)
    scale: float
    tolerance: float = Field(gt=0)
    why: str
    source: str
    status: str


@dataclass(frozen=True)
class Verdict:
    """What came out at one place, and whether it is within the tolerance; nothing is expected where none is written."""

    where: str
    expected: float | None
    found: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.expected is None or abs(self.found - self.expected) <= self.tolerance


def read_checks() -> list[Check]:
    """All checks of the manifest."""
    text = (resources.files("polylens.evaluation") / "verification.yaml").read_text(encoding="utf-8")
    return [Check.model_validate(row) for row in yaml.safe_load(text)["checks"]]


def find_check(name: str) -> Check:
    """The check of that name. Raises `UserError` naming them all."""
    checks = {check.name: check for check in read_checks()}
    if name not in checks:
        raise UserError(f"There is no check '{name}': choose from {', '.join(checks)}.")
    return checks[name]


def fill(command: str, values: Mapping[str, str]) -> list[str]:
    """The words of a command with its places filled in. Raises `UserError` for a value that is not given."""
    words = []
    for word in shlex.split(command):
        for key in ("model", "data", "images", "judge", "out"):
            if f"{{{key}}}" in word:
                if not values.get(key):
                    raise UserError(f"This check needs --{key}: `polylens verify` says what it is.")
                word = word.replace(f"{{{key}}}", values[key])
        words.append(word)
    return words


def run_check(
    check: Check,
    out: Path,
    model: str | None = None,
    data: Path | None = None,
    images: Path | None = None,
    judge: str | None = None,
    run: Runner | None = None,
) -> list[Verdict]:
    """Run a check's commands and compare; the verdict is kept as `verdict.json` in `out`.

    Raises `UserError` when something that it needs is not given, when a command fails, and when its results lack
    a number.
    """
    if not check.commands:
        raise UserError(f"'{check.name}' cannot be run yet: {check.why}.")
    if model is None and "--model" in check.model:
        raise UserError(f"'{check.name}' needs --model: {check.model}.")
    out = make_writable_folder(out)
    values = {"model": model or check.model, "data": str(data or ""), "images": str(images or "")}
    values |= {"judge": judge or ""}
    execute = run or _execute
    found = _results(check, values | {"out": str(out / "polylens")}, execute)
    verdicts = []
    for expectation in check.expect:
        expected = expectation.value
        if expectation.same_as is not None:
            other = expectation.same_as.replace("{model}", values["model"])
            reference = _results(check, values | {"model": other, "out": str(out / "reference")}, execute)
            expected = _number(reference, expectation.where) * check.scale
        number = _number(found, expectation.where) * check.scale
        verdicts.append(Verdict(expectation.where, expected, number, check.tolerance))
    rows = [vars(verdict) | {"passed": verdict.passed} for verdict in verdicts]
    write_atomic(out / "verdict.json", json_text({"check": check.model_dump(), "verdicts": rows}, indent=1))
    return verdicts


def _results(check: Check, values: Mapping[str, str], execute: Runner) -> dict[str, Any]:
    for command in check.commands:
        words = fill(command, values)
        if code := execute(words):
            raise UserError(
                f"`polylens {shlex.join(words)}` ended with exit code {code}: see what it printed."
            )
    results: dict[str, Any] = read_json(Path(values["out"]) / RESULTS)
    return results


def _execute(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "polylens", *words], check=False).returncode


def _number(results: Mapping[str, Any], where: str) -> float:
    """`languages.de` is that language's main measure, `languages.de.fid` another one, `means.without_en` the main
    measure's mean.
    """
    section, _, place = where.partition(".")
    key, _, named = place.partition(".")
    measure = named or results.get("main_measure")
    node = results.get(section) or {}
    row = (node.get(measure) or {}).get(key) if section == "means" else node.get(key)
    if isinstance(row, Mapping):
        row = (
            row.get(measure)
            if measure
            else next((v for v in row.values() if isinstance(v, int | float)), None)
        )
    if not isinstance(row, int | float):
        raise UserError(f"The results have no number at '{where}': was every language there?")
    return float(row)


def verification_page() -> str:
    """docs/verification.md."""
    lines = [
        "# Verification",
        "",
        "The released checkpoints: what to run where weights and data are at hand, and the number to expect. This",
        "page is written out of `src/polylens/evaluation/verification.yaml`, which `polylens verify` lists and runs.",
        "",
        "```sh",
        "polylens verify                                               # the list",
        "polylens verify mblip-mt0-xl-xgqa --data xgqa --images gqa    # runs it, compares, ends with 1 if it is off",
        "```",
        "",
    ]
    for check in read_checks():
        expected = "; ".join(_expected(expectation) for expectation in check.expect)
        lines += [
            f"## {check.name}",
            "",
            f"- **Checkpoint**: {check.model}",
            f"- **Needs**: {check.needs}",
            f"- **Expected**: {expected}, within {check.tolerance:g} ({check.why})",
            f"- **Source**: {check.source}",
            f"- **Status**: {check.status}",
            "",
        ]
        if check.commands:
            lines += ["```sh", *(f"polylens {command}" for command in check.commands), "```", ""]
    return "\n".join(lines)


def _expected(expectation: Expectation) -> str:
    section, _, key = expectation.where.partition(".")
    means = {"without_en": "mean of all languages but English", "all": "mean of all languages"}
    place = means.get(key, key) if section == "means" else key
    if expectation.same_as is not None:
        return f"{place}: what `{expectation.same_as}` gets"
    return f"{place}: {'see the source' if expectation.value is None else f'{expectation.value:g}'}"
