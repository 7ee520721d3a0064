"""`polylens evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import (
    Json,
    MaxNewTokens,
    Model,
    NumBeams,
    complain,
    consoles,
    folder_name,
    open_model,
    print_json,
    quiet_libraries,
    say,
)


def evaluate(
    model: Model,
    data: Annotated[
        Path, typer.Option(metavar="FOLDER", help="A folder with captions.jsonl and its pictures.")
    ],
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages, as in de,sw; all: those of the data.")
    ] = "all",
    split: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Score only the pictures above this share: those training left out."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first N pictures only: quick, but not comparable.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Also score apart by an extra field of the rows.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results are written; by default runs/evaluate_MODEL_FOLDER.")
    ] = None,
    num_beams: NumBeams = 1,
    max_new_tokens: MaxNewTokens = 32,
    length_penalty: Annotated[
        float, typer.Option(help="Above 0 beams prefer longer captions, below 0 shorter.")
    ] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 repeated tokens are less likely.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Moves speed and memory, never a score.")] = 64,
    as_json: Json = False,
) -> None:
    """Caption the pictures of a folder and score them against its captions, language by language.

    Writes results.json, results.csv, report.html with figures, and predictions.jsonl; a run that was stopped
    goes on where it was. A picture without captions in a language is left out of that language.

    \b
    A row of captions.jsonl
      {"image": "a.png", "captions": {"en": ["a dog"], "de": ["ein Hund", "ein brauner Hund"]}, "year": 2}

    \b
    Examples
      polylens evaluate picto --data FOLDER --lang de,sw
      polylens evaluate runs/mine/model --data FOLDER --split 0.9 --group-by year
    """
    from polylens.evaluation.captions import Selection, evaluate_captions
    from polylens.evaluation.predictor import Generation
    from polylens.evaluation.report import print_table
    from polylens.files import sha256_folder
    from polylens.models.registry import resolve_model

    quiet_libraries()
    console, stderr = consoles(as_json)
    out = out or Path("runs") / folder_name("evaluate", model, data.resolve().name)
    results = evaluate_captions(
        open_model(model),
        data,
        out,
        model_name=model,
        model_sha256=sha256_folder(resolve_model(model)),
        selection=Selection(languages=lang, split=split, limit=limit, group_by=group_by),
        generation=Generation(num_beams, max_new_tokens, length_penalty, repetition_penalty, batch_size),
        console=stderr,
    )
    print_table(results, console)
    if group_by:
        console.print(_groups(results, group_by))
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {out / 'report.html'}")
    if as_json:
        print_json(results)


def _groups(results: dict[str, Any], field: str) -> Table:
    """chrF by group (rows) and language (columns)."""
    table = Table(title=f"chrF by {field}", title_justify="left")
    table.add_column(Text(field))
    codes = list(results["languages"])
    for code in codes:
        table.add_column(code, justify="right")
    for value, scores in results["groups"].items():
        cells = [
            f"{scores[code]['chrf']:.1f} (n={scores[code]['n']})" if code in scores else "" for code in codes
        ]
        table.add_row(Text(value), *cells)
    return table
