"""`polylens evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import (
    Json,
    Precision,
    PrecisionName,
    complain,
    consoles,
    folder_name,
    open_model,
    print_json,
    quiet_libraries,
    say,
)
from polylens.errors import UserError

if TYPE_CHECKING:
    from polylens.evaluation.benchmarks.baselines import Translate
    from polylens.evaluation.predictor import Predictor

# Own captions are scored with these unless others are given; a benchmark's protocol has its own.
DEFAULTS = {"num_beams": 1, "max_new_tokens": 32, "length_penalty": 1.0, "repetition_penalty": 1.0}
OWN, BENCHMARKS, GENERATION = "Own captions", "Benchmarks", "Generation (default: the protocol's)"
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
            help="Score the first N pictures (questions of each language) only: quick, but not comparable.",
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
            help="A benchmark, as in xm3600; see `polylens benchmarks`.",
            rich_help_panel=BENCHMARKS,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Its pictures; may be given several times.", rich_help_panel=BENCHMARKS
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How it is asked and cleaned: mblip, paligemma or raw; by default the first that has its task.",
            rich_help_panel=BENCHMARKS,
        ),
    ] = None,
    likelihood: Annotated[
        bool,
        typer.Option(
            "--likelihood", help="Take the likeliest label instead of generating.", rich_help_panel=BENCHMARKS
        ),
    ] = False,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing", help="Leave questions without their picture out.", rich_help_panel=BENCHMARKS
        ),
    ] = False,
    baselines: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Shown beside the score: majority, text-only, translate-test, with commas.",
            rich_help_panel=BENCHMARKS,
        ),
    ] = "majority",
    translator: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE[:FOLDER]",
            help="What translate-test translates with, as in nllb:FOLDER.",
            rich_help_panel=BENCHMARKS,
        ),
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Score only the pictures above this share: those training left out.",
            rich_help_panel=OWN,
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Also score apart by an extra field of the rows.", rich_help_panel=OWN
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

    Writes results.json, results.csv, report.html with figures, predictions.jsonl and items.jsonl; a run that was
    stopped goes on where it was. A missing picture stops a benchmark before it begins.

    \b
    A row of captions.jsonl
      {"image": "a.png", "captions": {"en": ["a dog"], "de": ["ein Hund", "ein brauner Hund"]}, "year": 2}

    \b
    Examples
      polylens evaluate MODEL --benchmark xm3600 --data FOLDER --images FOLDER --lang de,sw,zh --protocol mblip
      polylens evaluate MODEL --benchmark xgqa --data FOLDER --images FOLDER --baselines text-only,majority
      polylens evaluate picto --benchmark picto --lang de,sw --limit 50
      polylens evaluate runs/mine/model --data FOLDER --split 0.9 --group-by year
      polylens evaluate https://HOST/v1#NAME --benchmark xgqa --data FOLDER --images FOLDER --protocol raw
      accelerate launch -m polylens evaluate MODEL --benchmark xm3600 --data FOLDER --images FOLDER
    """
    given = {
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "length_penalty": length_penalty,
        "repetition_penalty": repetition_penalty,
        "temperature": temperature,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    quiet_libraries()
    from polylens.evaluation.processes import is_main, result_folder, share

    console, stderr = consoles(as_json)
    stderr.quiet = not is_main()
    if benchmark is None:
        _refuse(
            {"--images": images, "--protocol": protocol, "--translator": translator}
            | {"--likelihood": likelihood, "--skip-missing": skip_missing},
            "a benchmark: name it with --benchmark",
        )
        if data is None:
            raise UserError(
                "Nothing to score: give --benchmark NAME, or --data FOLDER with your own captions."
            )
        results, out = _captions(
            model,
            precision,
            data,
            out,
            (lang, split, limit, group_by),
            DEFAULTS | changes,
            batch_size,
            cache,
            stderr,
        )
    else:
        from polylens.evaluation.benchmarks.request import Request
        from polylens.evaluation.benchmarks.run import evaluate_benchmark

        _refuse({"--split": split, "--group-by": group_by}, "own captions: leave it out")
        out = out or Path("runs") / folder_name("evaluate", _told(model, precision), benchmark)
        translate, translator_name = _translator(translator)
        with result_folder(out) as folder:
            results = evaluate_benchmark(
                share(_predictor(model, precision, cache, price, stderr, (concurrency, timeout, retries))),
                Request(
                    benchmark=benchmark,
                    data=data,
                    images=tuple(images or ()),
                    languages=lang,
                    protocol=protocol,
                    limit=limit,
                    skip_missing=skip_missing,
                    likelihood=likelihood,
                    baselines=tuple(name.strip() for name in baselines.split(",") if name.strip()),
                    changes=changes,
                    batch_size=batch_size,
                ),
                folder,
                translate=translate,
                translator=translator_name,
                console=stderr,
            )
    if not is_main():
        return
    from polylens.evaluation.report import print_table

    print_table(results, console)
    if group_by:
        console.print(_groups(results, group_by))
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {out / 'report.html'}")
    if as_json:
        print_json(results)


def _captions(
    model: str,
    precision: PrecisionName,
    data: Path,
    out: Path | None,
    selection: tuple[Any, ...],
    generation: dict[str, Any],
    batch_size: int,
    cache: Path | None,
    console: Any,
) -> tuple[dict[str, Any], Path]:
    from polylens.evaluation.captions import Selection, evaluate_captions
    from polylens.evaluation.peers import is_peer
    from polylens.evaluation.predictor import Generation
    from polylens.evaluation.processes import result_folder
    from polylens.files import sha256_folder
    from polylens.models.checkpoints.registry import resolve_model

    if is_peer(model):
        raise UserError(f"'{model}' is scored on benchmarks only: name one with --benchmark.")
    out = out or Path("runs") / folder_name("evaluate", _told(model, precision), data.resolve().name)
    languages, split, limit, group_by = selection
    with result_folder(out) as folder:
        results = evaluate_captions(
            open_model(model, precision),
            data,
            folder,
            model_name=_told(model, precision),
            model_sha256=sha256_folder(resolve_model(model)),
            selection=Selection(languages=languages, split=split, limit=limit, group_by=group_by),
            generation=Generation(**generation, batch_size=batch_size),
            cache_root=cache,
            console=console,
        )
    return results, out


def _told(model: str, precision: PrecisionName) -> str:
    """What results call the model: another precision gives other numbers."""
    return model if precision == "float32" else f"{model} ({precision})"


def _predictor(
    name: str,
    precision: PrecisionName,
    cache: Path | None,
    price: tuple[float, float] | None,
    console: Any,
    patience: tuple[int, float, int],
) -> "Predictor":
    from polylens.evaluation.peers import is_peer, open_peer
    from polylens.evaluation.peers.chat import Prices
    from polylens.evaluation.predictor import LocalPredictor
    from polylens.files import sha256_folder
    from polylens.models.checkpoints.registry import resolve_model

    if is_peer(name):
        _refuse(
            {"--cache": cache, "--precision": None if precision == "float32" else precision},
            "models of Polylens",
        )
        settings = dict(zip(("concurrency", "timeout", "retries"), patience, strict=True))
        prices = Prices(*price) if price else None
        return open_peer(name, prices, lambda line: say(console, line), **settings)
    opened, told = open_model(name, precision), _told(name, precision)
    return LocalPredictor(opened, told, sha256_folder(resolve_model(name)), cache)


def _translator(name: str | None) -> "tuple[Translate | None, str]":
    """The engine as a function, and what the result file calls it."""
    if name is None:
        return None, ""
    from polylens.data.translation.engines import EngineSettings, open_engine

    engine_name, _, folder = name.partition(":")
    engine = open_engine(EngineSettings(engine=engine_name, model=Path(folder) if folder else None))

    def translate(texts: Sequence[str], source: str, target: str) -> list[str]:
        engine.check(source, [target])
        # What an engine has no translation of is an empty text, which scores nothing.
        return [text or "" for text in engine.translate(texts, source, target)]

    return translate, f"{name} ({engine.fingerprint})"


def _refuse(options: dict[str, Any], of: str) -> None:
    for option, value in options.items():
        if value not in (None, False, []):
            raise UserError(f"{option} is an option of {of}.")


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
