"""`polylens download`, `balance`, `mix` and `neighbours`: what stands before training."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polylens.commands.common import Json, Overrides, Recipe, consoles, print_json, quiet_libraries, say


def download(
    urls: Annotated[
        Path,
        typer.Argument(
            metavar="LIST", help="A .json array or .jsonl of rows with a 'url', or one URL a line."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the pictures; give the same one to go on.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Draw so many of the URLs, by the seed.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="What --limit draws by.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time, to all hosts.")] = 64,
    per_host: Annotated[int, typer.Option(min=1, help="Requests at a time to one host.")] = 2,
    delay: Annotated[float, typer.Option(min=0, help="Seconds between two requests to one host.")] = 0.25,
    retries: Annotated[int, typer.Option(min=0, help="How often a host in trouble is asked again.")] = 4,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds without an answer that end a request.")
    ] = 30,
    again: Annotated[bool, typer.Option("--again", help="Ask dead URLs once more.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch the pictures of a list of URLs, such as BLIP's captions of the web.

    Stop it whenever you like: the same command goes on, and fetches nothing twice. What is dead stands in
    OUT/dead.jsonl, with the reason; OUT/report.json counts. A recipe reads the pictures with the source
    'capfilt' and the option images: OUT.

    \b
    Examples
      polylens download ccs_synthetic_filtered_large.json --out data/capfilt --limit 2273005
      polylens download urls.txt --out pictures --per-host 1 --delay 1
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from polylens.data.download import Manners, Outcome, draw_urls, read_urls
    from polylens.data.download import download as fetch

    console, stderr = consoles(as_json)
    wanted = draw_urls(lambda: read_urls(urls), limit, seed)
    manners = Manners(
        concurrency=concurrency, per_host=per_host, delay=delay, retries=retries, timeout=timeout
    )
    counts = {"ok": 0, "dead": 0, "failed": 0}
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[counts]}"), TimeRemainingColumn())
    with Progress(*columns, console=stderr, refresh_per_second=2) as progress:
        bar = progress.add_task("", total=len(wanted), counts="")

        def hear(outcome: Outcome) -> None:
            counts[outcome.state] += 1
            shown = "  ".join(f"{count:,} {state}" for state, count in counts.items())
            progress.update(bar, advance=1, counts=shown)

        report = fetch(wanted, out, manners, again, hear)
    if as_json:
        print_json(report)
        return
    say(
        console,
        f"{report['ok']:,} of {report['urls']:,} pictures are in {out} ({report['bytes'] / 1e6:,.1f} MB).",
    )
    for reason, count in report["reasons"].items():
        say(console, f"  {count:,} {reason}")
    if report["dead"] or report["failed"]:
        say(
            console,
            f"{out / 'dead.jsonl'} lists {report['dead']:,} dead and {report['failed']:,} failed ones.",
        )
    if report["failed"]:
        say(console, "The same command asks the failed ones again.")
    for sha256, count in report["same_picture"].items():
        say(
            console,
            f"  {count:,} URLs gave the same picture (sha256 {sha256[:12]}...): is it one that says 'removed'?",
        )


def balance(
    captions: Annotated[
        Path, typer.Argument(metavar="FILE", help="A JSON array of rows with a 'caption', such as BLIP's.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The rows that are kept, as they were.")],
    minimum: Annotated[
        int, typer.Option(min=1, help="A phrase that is rarer keeps no caption by itself.")
    ] = 10,
    maximum: Annotated[int, typer.Option(min=1, help="Of a commoner phrase so many are drawn.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="What is drawn by.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; as many as there are cores.")] = None,
) -> None:
    """Balance English captions by the noun phrases in them, so that rare things are seen as well.

    mBLIP took 10 to 30 captions of each phrase. Needs 'polylens[phrases]'.

    \b
    Examples
      polylens balance ccs_synthetic_filtered_large.json --out data/balanced.json
      polylens download data/balanced.json --out data/capfilt
    """
    import os

    from polylens.data.phrases import balance_file
    from polylens.progress import progress_bar

    console, stderr = consoles()
    with progress_bar(stderr) as progress:
        bar = progress.add_task("captions", total=None)
        kept, total = balance_file(
            captions,
            out,
            minimum,
            maximum,
            seed,
            workers or os.cpu_count() or 1,
            lambda count: progress.advance(bar, count),
        )
    say(console, f"{out} has {kept:,} of {total:,} captions.")


def mix(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the shards; the recipe's data.shards.")
    ] = None,
    format: Annotated[
        Literal["tar", "parquet"] | None,
        typer.Option(
            "--format", help="tar (WebDataset) or parquet (datasets); the recipe's data.shard_format."
        ),
    ] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help="Write OUT/PART.jsonl instead, to look at or to translate.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Like seed=N.")] = None,
) -> None:
    """Write the mix of a recipe as shards, which training then streams; or as JSON Lines.

    'polylens train' does the same before its first step where the recipe has data.shards. Stop it whenever you
    like: the same command goes on.

    \b
    Examples
      polylens mix mine.yaml --out data/shards
      polylens mix mine.yaml --out data/parquet --format parquet
      polylens mix pairs.yaml --jsonl data/pairs
    """
    from polylens.data.mix import part_samples, read_mix
    from polylens.data.readers.jsonl import write_jsonl
    from polylens.data.shared_ids import refuse_shared_ids
    from polylens.data.unreadable import Unreadable
    from polylens.errors import UserError
    from polylens.progress import progress_bar
    from polylens.recipe import load_data

    console, stderr = consoles()
    chosen = load_data(recipe, [*(overrides or []), *([] if seed is None else [f"seed={seed}"])])
    data = chosen.data
    if data.mix is None:
        raise UserError(f"The recipe '{recipe}' has no mix: list the parts in data.mix.")
    if jsonl is not None:
        refuse_shared_ids(data.mix, data.unreadable)
        for part in data.mix:
            unreadable = Unreadable(data.unreadable)
            count = write_jsonl(part_samples(part, chosen.seed, unreadable), jsonl / f"{part.name}.jsonl")
            unreadable.report(part.name)
            say(console, f"{count:,} samples in {jsonl / part.name}.jsonl")
        return
    folder = out or data.shards
    if folder is None:
        raise UserError("Where to? Give --out FOLDER, or data.shards in the recipe.")
    with progress_bar(stderr) as progress:
        bars = {part.name: progress.add_task(part.name, total=None) for part in data.mix}
        written = read_mix(
            data.mix,
            chosen.seed,
            data.unreadable,
            folder,
            lambda name, count: progress.update(bars[name], completed=count),
            format or data.shard_format,
        )
    for done in written.parts:
        say(console, f"{len(done.samples):,} samples of {done.name} in {folder / done.name}")


def neighbours(
    recipe: Recipe,
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="A CLIP-like dual encoder: a folder or a hub id.")] = "",
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("neighbours.jsonl"),
    part: Annotated[str | None, typer.Option(help="The part of the mix to look at; else its first.")] = None,
    by: Annotated[
        Literal["caption", "label"],
        typer.Option(help="Captions near each picture, or classes near each class by their names."),
    ] = "caption",
    device: Annotated[str | None, typer.Option(help="Where the encoder runs, as torch names it.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures or names at once.")] = 64,
) -> None:
    """Find which captions lie near each picture, for the hard negatives of matching, or which classes near each class.

    Reads the plain samples of one part of a mix (what it builds does not matter). For every picture it writes those
    whose captions the encoder finds near it, for every class those whose English names are near its own.

    \b
    Examples
      polylens neighbours pairs.yaml --model openai/clip-vit-large-patch14 --out data/near.jsonl
      polylens neighbours mix.yaml --part imagenet-verification --by label --model CLIP --out classes.jsonl
    """
    from polylens.errors import UserError
    from polylens.recipe import load_data

    if not model:
        raise UserError("Which encoder? Give --model FOLDER, a CLIP or SigLIP.")
    console, stderr = consoles()
    quiet_libraries()
    chosen = load_data(recipe, overrides or [])
    parts = {each.name: each for each in chosen.data.parts}
    if part is not None and part not in parts:
        raise UserError(f"The recipe has no part '{part}': choose from {', '.join(parts)}.")
    wanted = parts[part] if part is not None else next(iter(parts.values()))
    # A wrong recipe is told before torch is imported.
    import torch

    from polylens.data.neighbours import DualEncoder, find_neighbours
    from polylens.progress import progress_bar

    encoder = DualEncoder(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with progress_bar(stderr) as progress:
        bar = progress.add_task("embedding", total=None)
        count = find_neighbours(
            wanted, by, encoder, out, chosen.data.unreadable, batch_size, lambda n: progress.advance(bar, n)
        )
    say(console, f"{out} holds the neighbours of {count:,} {'pictures' if by == 'caption' else 'classes'}.")
