"""`polylens verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from polylens.commands.common import Json, consoles, print_json, say

if TYPE_CHECKING:
    from polylens.evaluation.verification import Expectation

OFF = 1


def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[CHECK]", help="The check to run; without it, the list of all.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The benchmark's official files.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Its pictures.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The checkpoint, where it is no hub id.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="URL#MODEL", help="The judge, for checks that need one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results are kept; by default runs/verify/CHECK.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a released checkpoint against its published number, or list what can be checked.

    A check runs the commands of its entry and compares; it ends with 0 when every number is within its tolerance, else
    with 1.

    \b
    Examples
      polylens verify
      polylens verify mblip-mt0-xl-xgqa --data xgqa --images gqa/images
    """
    from polylens.evaluation.verification import find_check, read_checks, run_check

    console, _ = consoles(as_json)
    if name is None:
        checks = read_checks()
        if as_json:
            print_json([check.model_dump() for check in checks])
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("check", "checkpoint", "expected", "status"):
            table.add_column(heading)
        for check in checks:
            table.add_row(check.name, check.model, ", ".join(map(_expected, check.expect)), check.status)
        console.print(table)
        return
    verdicts = run_check(find_check(name), out or Path("runs") / "verify" / name, model, data, images, judge)
    if as_json:
        print_json([vars(verdict) | {"passed": verdict.passed} for verdict in verdicts])
    for verdict in verdicts:
        if verdict.expected is None:
            say(console, f"{verdict.where}: {verdict.found:.1f}, to be compared with the source")
            continue
        word = "passed" if verdict.passed else "OFF"
        say(console, f"{verdict.where}: {verdict.found:.1f}, expected {verdict.expected:.1f}: {word}")
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(OFF)


def _expected(expectation: "Expectation") -> str:
    if expectation.same_as is not None:
        return "as transformers"
    return "see the source" if expectation.value is None else f"{expectation.value:g}"
