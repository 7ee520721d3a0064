"""`polylens evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import (
    Json,
    Precision,
    complain,
    consoles,
    folder_name,
    open_model,
    print_json,
    quiet_libraries,
    say,
)
from polylens.errors import UserError

QUESTIONS, ANSWERS, GENERATION = "Questions", "Answers", "Generation (default: the protocol's)"
ENDPOINTS = "Endpoints"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, a packaged name, a hub id; transformers:FOLDER, or https://HOST/v1#NAME.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The benchmark's official files, or captions.jsonl and its pictures."
        ),
    ] = None,
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages, as in de,sw; all: those of the data.")
    ] = "all",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Score the first N questions of each language only: quick, but not comparable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where results are written; by default runs/evaluate_MODEL_BENCHMARK (or _FOLDER)."
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A benchmark, as in xm3600; see `polylens benchmarks`. Default: captions, your own in --data.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Its pictures; may be given several times.", rich_help_panel=QUESTIONS
        ),
    ] = None,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing", help="Leave questions without their picture out.", rich_help_panel=QUESTIONS
        ),
    ] = False,
    split: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Score only the pictures above this share: those that training with data.split left out.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Also score apart by a further field of the rows.",
            rich_help_panel=QUESTIONS,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How it is asked and cleaned: mblip, paligemma or raw; default: the benchmark's own, or the first "
            "that has its task.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    likelihood: Annotated[
        bool,
        typer.Option(
            "--likelihood", help="Take the likeliest label instead of generating.", rich_help_panel=ANSWERS
        ),
    ] = False,
    choices: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Of captions: also let the model choose each picture's own among N of that language.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Shown beside the score: majority, text-only, translate-test, text-ceiling, with commas; default: "
            "majority, of own captions none.",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    translator: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE[:FOLDER]",
            help="What translate-test translates with, as in nllb:FOLDER; model: the model itself (captions).",
            rich_help_panel=ANSWERS,
        ),
    ] = None,
    num_beams: Annotated[
        int | None, typer.Option(min=1, help="Beams of the search; 1 is greedy.", rich_help_panel=GENERATION)
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer, in tokens.", rich_help_panel=GENERATION)
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            help="Above 0 beams prefer longer answers, below 0 shorter.", rich_help_panel=GENERATION
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Above 1 repeated tokens are less likely.", rich_help_panel=GENERATION),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="VisCPM: divides the scores that beams compare.", rich_help_panel=GENERATION),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Moves speed and memory, never a score.", rich_help_panel=GENERATION),
    ] = 64,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the visual tokens of pictures there, for further runs of this model.",
            rich_help_panel=GENERATION,
        ),
    ] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IN OUT",
            help="Dollars for a million tokens read and written, to estimate costs before the start.",
            rich_help_panel=ENDPOINTS,
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.", rich_help_panel=ENDPOINTS)] = 8,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for an answer.", rich_help_panel=ENDPOINTS)
    ] = 120,
    retries: Annotated[
        int, typer.Option(min=0, help="Further tries after a fault.", rich_help_panel=ENDPOINTS)
    ] = 6,
    precision: Precision = "float32",
    as_json: Json = False,
) -> None:
    """Score a model language by language: on a benchmark, or on a folder of your own captions.

    Writes results.json, results.csv, report.html with figures, predictions.jsonl and items.jsonl. A run that was
    stopped goes on where it was. A missing picture or a question that cannot be scored stops it before it begins.

    \b
    A row of captions.jsonl
      {"image": "a.png", "captions": {"en": ["a dog"], "de": ["ein Hund", "ein brauner Hund"]}, "year": 2}

    \b
    Examples
      polylens evaluate MODEL --benchmark xm3600 --data FOLDER --images FOLDER --lang de,sw,zh --protocol mblip
      polylens evaluate MODEL --benchmark xgqa --data FOLDER --images FOLDER --baselines text-only,majority
      polylens evaluate picto --benchmark picto --lang de,sw --limit 50
      polylens evaluate runs/mine/model --data FOLDER --split 0.9 --group-by year
      polylens evaluate runs/mine/model --data FOLDER --choices 100 --baselines text-ceiling
      polylens evaluate https://HOST/v1#NAME --benchmark xgqa --data FOLDER --images FOLDER --protocol raw
      accelerate launch -m polylens evaluate MODEL --benchmark xm3600 --data FOLDER --images FOLDER
    """
    quiet_libraries()
    _check_names(model, benchmark)
    from polylens.evaluation.evaluate import evaluate as run
    from polylens.evaluation.processes import is_main
    from polylens.evaluation.settings import OWN_CAPTIONS, EvaluationSettings

    if benchmark is None and data is None:
        raise UserError("Nothing to score: give --benchmark NAME, or --data FOLDER with your own captions.")
    settings = EvaluationSettings(
        model=model,
        benchmark=benchmark or OWN_CAPTIONS,
        data=data,
        images=tuple(images or ()),
        languages=lang,
        split=split,
        limit=limit,
        group_by=group_by,
        skip_missing=skip_missing,
        protocol=protocol,
        likelihood=likelihood,
        choices=choices,
        baselines=None if baselines is None else _names(baselines),
        translator=translator,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        length_penalty=length_penalty,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        batch_size=batch_size,
        precision=precision,
        cache=cache,
        price=price,
        concurrency=concurrency,
        timeout=timeout,
        retries=retries,
    )
    console, stderr = consoles(as_json)
    stderr.quiet = not is_main()
    named = benchmark if data is None or benchmark not in (None, OWN_CAPTIONS) else data.resolve().name
    out = out or Path("runs") / folder_name("evaluate", settings.told_model, str(named))
    results = run(settings, out, open_model, stderr)
    if results is None:
        return
    from polylens.evaluation.report import print_table, print_whole

    print_table(results, console)
    if group_by and results.get("groups"):
        print_whole(_groups(results, group_by), console)
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {out / 'report.html'}")
    if as_json:
        print_json(results)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _check_names(model: str, benchmark: str | None) -> None:
    """Raises `UserError` for a model or a benchmark that is not there, before torch is imported."""
    from polylens.evaluation.benchmarks.interface import find_benchmark
    from polylens.evaluation.peers import is_peer
    from polylens.models.checkpoints.registry import check_model

    if benchmark is not None:
        find_benchmark(benchmark)
    if not is_peer(model):
        check_model(model)


def _groups(results: dict[str, Any], field: str) -> Table:
    """The main measure by group (rows) and language (columns)."""
    from polylens.evaluation.measures import metric_of

    measure = results["main_measure"]
    metric = metric_of(measure, results)
    table = Table(title=f"{metric.heading} by {field}", title_justify="left")
    table.add_column(Text(field))
    codes = list(results["languages"])
    for code in codes:
        table.add_column(code, justify="right")
    for value, scores in results["groups"].items():
        cells = [
            f"{metric.number(scores[code].get(measure))} (n={scores[code]['n']})" if code in scores else ""
            for code in codes
        ]
        table.add_row(Text(value), *cells)
    return table
