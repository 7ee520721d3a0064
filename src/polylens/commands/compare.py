"""`polylens compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from polylens.commands.common import Json, complain, consoles, folder_name, print_json, say

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished evaluation.")]


def compare(
    first: Run,
    second: Run,
    out: Annotated[
        Path | None, typer.Option(help="Where results are written; by default runs/compare_FIRST_SECOND.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two runs of one benchmark, language by language, with intervals and a paired test.

    Differences are of the items that both runs answered. Pictures are resampled, not single items, and p-values are
    corrected for the number of languages (Holm). Writes report.html with figures, compare.csv and compare.json.

    \b
    Example
      polylens evaluate A --data FOLDER --out runs/a
      polylens evaluate B --data FOLDER --out runs/b
      polylens compare runs/a runs/b
    """
    from polylens.evaluation.compare import compare_runs, read_run, write_comparison

    console, _ = consoles(as_json)
    out = out or Path("runs") / folder_name("compare", first.resolve().name, second.resolve().name)
    results = compare_runs(read_run(first), read_run(second), seed=seed)
    page = write_comparison(results, out)
    console.print(_table(results))
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {page}")
    if as_json:
        print_json(results)


def _table(results: dict[str, Any]) -> Table:
    from polylens.evaluation.compare import ALL
    from polylens.evaluation.measures import metric_of
    from polylens.evaluation.summary import language_name

    comparison = results["comparison"]
    measure = comparison["measure"]
    metric = metric_of(measure)
    table = Table(box=SIMPLE_HEAD, header_style="bold", title=metric.heading, title_justify="left")
    table.add_column("Language", no_wrap=True)
    for name in [*comparison["names"], "difference", "95% interval", "p", "p (Holm)", "items"]:
        table.add_column(Text(name), justify="right")
    for code, row in comparison["measures"][measure].items():
        name = "All items" if code == ALL else language_name(code)
        ends = f"{metric.signed(row['low'])} to {metric.signed(row['high'])}"
        numbers = [
            metric.number(row["first"]),
            metric.number(row["second"]),
            metric.signed(row["difference"]),
        ]
        table.add_row(name, *numbers, ends, f"{row['p_value']:.3f}", f"{row['p_holm']:.3f}", f"{row['n']:,}")
    return table
