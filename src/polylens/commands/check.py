"""`polylens check`."""

from pathlib import Path
from typing import Annotated

import typer

from polylens.commands.common import Json, complain, consoles, print_json, quiet_libraries, say
from polylens.languages import parse_languages


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Your own data: captions.jsonl and its pictures.")
    ],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Whose language model is to write the captions.")
    ] = "picto",
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Look at these languages only, as in de,sw.")
    ] = "all",
    as_json: Json = False,
) -> None:
    """Look over your own data before you train on it.

    Says which languages the language model knows, what share of the captions its tokenizer can write, how long
    captions are, and which pictures are broken or copies of others. Ends with 1 where something is to be mended.

    \b
    Examples
      polylens check FOLDER --model google/gemma-3-1b-it
      polylens check FOLDER --lang de,sw --json
    """
    from polylens.data.captions import read_captions
    from polylens.models.checkpoints.registry import find_model
    from polylens.progress import progress_bar

    quiet_libraries()
    console, stderr = consoles(as_json)
    find_model(model)
    samples = read_captions(folder, None if lang.strip().lower() == "all" else parse_languages(lang))
    from polylens.data.check import as_json as as_rows
    from polylens.data.check import check_pictures
    from polylens.training.check import check_named, fit_table

    texts = check_named(model, samples)
    with progress_bar(stderr) as progress:
        bar = progress.add_task("pictures", total=len({id(p) for s in samples for p in s.images}))
        pictures = check_pictures(samples, lambda count: progress.advance(bar, count))
    warnings = as_rows(texts, pictures)["warnings"]
    if as_json:
        print_json(as_rows(texts, pictures))
    else:
        console.print(fit_table(texts))
        say(console, f"{pictures.files:,} pictures, {pictures.distinct:,} of them distinct")
    for sentence in warnings:
        complain(sentence, "warning")
    if warnings:
        raise typer.Exit(1)
    say(console, "Nothing to mend.")
