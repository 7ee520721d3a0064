"""`polylens verify`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from polylens.commands.common import Json, consoles, print_json, say

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
            values = ", ".join("as transformers" if e.value is None else f"{e.value:g}" for e in check.expect)
            table.add_row(check.name, check.model, values, check.status)
        console.print(table)
        return
    verdicts = run_check(find_check(name), out or Path("runs") / "verify" / name, model, data, images, judge)
    if as_json:
        print_json([vars(verdict) | {"passed": verdict.passed} for verdict in verdicts])
    for verdict in verdicts:
        word = "passed" if verdict.passed else "OFF"
        say(console, f"{verdict.where}: {verdict.found:.1f}, expected {verdict.expected:.1f}: {word}")
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(OFF)
