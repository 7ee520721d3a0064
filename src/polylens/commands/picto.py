"""`polylens demo` and `polylens picto ...`: the embedded world."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from polylens.commands.common import Json, consoles, print_json, quiet_libraries, say
from polylens.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Picto, the embedded world: pictograms in several people's drawing styles, named in many languages.",
)


def demo(
    full: Annotated[
        bool, typer.Option("--full", help="Three seeds and every test picture: well over half an hour.")
    ] = False,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="Instead, measure the packaged model once in the final style; see the page 'Picto'.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the report and the runs are written.")] = Path("runs/demo"),
    llm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Align to a real language model, gemma or smollm2: a package of its own."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed; with --full the first of three.")] = 0,
    mblip: Annotated[
        bool,
        typer.Option(
            "--mblip",
            help="Instead, mBLIP's whole way in small: a translated mix of tasks, LoRA, merge, export, scores.",
        ),
    ] = False,
    mpm: Annotated[
        bool,
        typer.Option(
            "--mpm", help="Instead, MPM's way in small, and its three claims measured: half an hour."
        ),
    ] = False,
    paint: Annotated[
        bool, typer.Option("--paint", help="Instead, draw concepts from their names in every language.")
    ] = False,
    painter: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --paint: a painter of your own, such as `polylens train picto-paint` makes.",
        ),
    ] = None,
    concepts: Annotated[int, typer.Option(min=1, help="With --paint: how many concepts to draw.")] = 100,
) -> None:
    """Align on English captions and on a mix of languages, and caption an unseen drawing style in every language.

    Prints a table of both beside baselines, ceilings and controls, and writes report.html, figures and
    results.json: a few minutes on two CPU cores, and nothing is downloaded.

    \b
    Examples
      polylens demo
      polylens demo --full --out runs/demo-full
      polylens demo --llm gemma --out runs/demo-gemma
      polylens demo --final --out runs/demo      (the arms that were trained there)
      polylens demo --mblip --out runs/demo-mblip
      polylens demo --mpm --out runs/demo-mpm
      polylens demo --paint
    """
    quiet_libraries()
    chosen = [
        flag
        for flag, given in (
            ("--mblip", mblip),
            ("--mpm", mpm),
            ("--paint", paint),
            ("--full, --final or --llm", bool(full or final or llm)),
        )
        if given
    ]
    if len(chosen) > 1:
        raise UserError(f"{chosen[0]} and {chosen[1]} are demos of their own: give one of them.")
    if paint:
        _paint(out, seed, painter, concepts)
        return
    console, _ = consoles()
    if mblip:
        from polylens.picto.mblip_demo import MblipDemo

        results = MblipDemo(out, console, seed=seed).run()
    elif mpm:
        from polylens.picto.mpm_demo import MpmDemo

        results = MpmDemo(out, console, seed=seed).run()
    else:
        from polylens.picto.demo import Demo
        from polylens.picto.llms import LLMS, llm_file
        from polylens.picto.table import ALL, FEW, SIZES
        from polylens.picto.world import DEVELOPMENT_STYLE, FINAL_STYLE

        style = FINAL_STYLE if final else DEVELOPMENT_STYLE
        if final:
            say(
                console,
                "The final style is measured once for a released model: choose nothing by these scores.",
            )
        if llm:
            llm_file(llm)
            say(console, f"{LLMS[llm].title}: {LLMS[llm].licence}")
        demo = Demo(out, console, style=style, sizes=FEW if llm else ALL if full else SIZES, llm=llm)
        results = demo.run(range(seed, seed + 3) if full else (seed,))
    say(console, f"The report is {(out / 'final' if final else out) / 'report.html'}")
    for number, step in enumerate(results["next_steps"], start=1):
        say(console, f"{number}. {step}")


def _paint(out: Path, seed: int, painter: str | None, concepts: int) -> None:
    try:
        from polylens.picto.paint_demo import PAINTER, run_paint_demo
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise UserError(
            "Painting needs diffusers, which is not installed: pip install 'polylens[paint]'."
        ) from error
    console, _ = consoles()
    run_paint_demo(out, console, painter=painter or PAINTER, seed=seed, num_concepts=concepts)
    say(console, f"The pictures are {out / 'grid.png'}, the scores {out / 'results.json'}")


@app.command()
def info(as_json: Json = False) -> None:
    """Count what is packaged: concepts by split, drawings, names by language, models.

    \b
    Examples
      polylens picto info
      polylens picto info --json
    """
    from polylens.picto.info import summary

    facts = summary()
    if as_json:
        print_json(facts)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count:,}" for key, count in value.items())
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value)
    consoles()[0].print(table)
