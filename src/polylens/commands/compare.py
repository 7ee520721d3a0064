"""`polylens compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from polylens.commands.common import Json, complain, consoles, folder_name, print_json, say
from polylens.errors import UserError


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[BASELINE] RUN",
            help="Folders of finished evaluations: the baseline first, then the run.",
        ),
    ],
    baseline: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The baseline, where only RUN is given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results are written; by default runs/compare_BASELINE_RUN.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare a run with its baseline on one benchmark: run minus baseline, language by language.

    Differences are of the items that both runs answered, with intervals and a paired test. Pictures are resampled, not
    single items, and p-values are corrected for the number of languages (Holm). Writes report.html with figures,
    compare.csv and compare.json.

    \b
    Examples
      polylens evaluate BEFORE --data FOLDER --out runs/before
      polylens evaluate AFTER --data FOLDER --out runs/after
      polylens compare runs/before runs/after
      polylens compare runs/after --baseline runs/before
    """
    from polylens.evaluation.compare import compare_runs, read_run, write_comparison
    from polylens.evaluation.report import print_whole

    console, _ = consoles(as_json)
    folders = [*([baseline] if baseline is not None else []), *runs]
    if len(folders) != 2:
        raise UserError(
            f"{len(folders)} runs are given, and 2 are compared: BASELINE RUN, or RUN --baseline FOLDER. "
            "For several runs in one table: polylens report."
        )
    out = out or Path("runs") / folder_name("compare", *(folder.resolve().name for folder in folders))
    results = compare_runs(*map(read_run, folders), seed=seed)
    page = write_comparison(results, out)
    print_whole(_table(results), console)
    comparison = results["comparison"]
    say(console, f"Difference: run {comparison['run']} minus baseline {comparison['baseline']}")
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
    metric = metric_of(measure, results)
    table = Table(box=SIMPLE_HEAD, header_style="bold", title=metric.heading, title_justify="left")
    table.add_column("Language", no_wrap=True)
    names = [f"baseline: {comparison['baseline']}", f"run: {comparison['run']}"]
    for name in [*names, "run minus baseline", "95% interval", "p", "p (Holm)", "items"]:
        table.add_column(Text(name), justify="right")
    for code, row in comparison["measures"][measure].items():
        name = "All items" if code == ALL else language_name(code)
        ends = f"{metric.signed(row['low'])} to {metric.signed(row['high'])}"
        numbers = [
            metric.number(row["baseline"]),
            metric.number(row["run"]),
            metric.signed(row["difference"]),
        ]
        table.add_row(name, *numbers, ends, f"{row['p_value']:.3f}", f"{row['p_holm']:.3f}", f"{row['n']:,}")
    return table
