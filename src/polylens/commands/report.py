"""`polylens report`."""

from pathlib import Path
from typing import Annotated

import typer

from polylens.commands.common import Json, complain, consoles, print_json, say


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished evaluations.")],
    out: Annotated[Path, typer.Option(help="Where the page and its figures are written.")] = Path(
        "runs/report"
    ),
    as_json: Json = False,
) -> None:
    """Put several evaluations in one table and on one page: of several benchmarks, several models, or both.

    \b
    Examples
      polylens report runs/xm3600 runs/xgqa runs/marvl --out runs/overview
      polylens report runs/step-1000 runs/step-2000 runs/step-3000
    """
    from polylens.evaluation.overview import overview, overview_table, write_overview
    from polylens.evaluation.report import print_whole

    console, _ = consoles(as_json)
    results = overview(runs)
    page = write_overview(results, out)
    print_whole(overview_table(results), console)
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {page}")
    if as_json:
        print_json(results)
