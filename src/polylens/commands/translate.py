"""`polylens translate`, `polylens translate-prompts` and `polylens plan-languages`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from polylens.commands.common import Json, consoles, print_json, quiet_libraries, say
from polylens.errors import UserError
from polylens.languages import LANGUAGES, language, parse_languages

if TYPE_CHECKING:
    from polylens.data.sample import Sample
    from polylens.data.translation.cache import TranslationCache
    from polylens.data.translation.engine import Engine, EngineSettings
    from polylens.data.translation.run import Counts

# Fields of a mix's part; what else is set are options of the source.
PART_FIELDS = ("path", "split", "languages", "tasks")
MANY = 12

EngineName = Annotated[str, typer.Option(help="nllb, transformers, picto, or a package's own.")]
EngineModel = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="NLLB as a folder of transformers or CTranslate2, or a hub id."),
]
Beams = Annotated[int, typer.Option(min=1, help="Beams of the search; 1 is greedy.")]
Precision = Annotated[str | None, typer.Option(help="A compute type of CTranslate2; int8 if not given.")]
CacheFolder = Annotated[Path | None, typer.Option(help="Where translations are kept for good.")]
Shares = Annotated[
    str | None,
    typer.Option(
        metavar="mc4|mt5|equal|FILE",
        help="Give each sample one language, by these shares (a JSON file of your own: {code: number}).",
    ),
]
Temperature = Annotated[
    float, typer.Option(help="Raise shares to 1/T: 1 leaves them, a high one makes them equal.")
]


def translate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Samples as JSON Lines (a file or a folder), a folder with captions.jsonl, or a source's name.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for translated samples, rejects and summary.")],
    lang: Annotated[
        str | None,
        typer.Option(metavar="CODES|all", help="The languages to translate into; with --shares, all of it."),
    ] = None,
    engine: EngineName = "nllb",
    model: EngineModel = None,
    shares: Shares = None,
    temperature: Temperature = 1.0,
    origin: Annotated[
        str, typer.Option("--from", metavar="CODE", help="Translate the samples of this language.")
    ] = "en",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What a source needs, such as path= and images=."),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=WHAT",
            help="What of a task of your own is translated: prompt, answer, label, prompt+answer, prompt+label, none.",
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words that are never translated, one a line.")
    ] = None,
    check_labels: Annotated[
        bool,
        typer.Option(
            "--check-labels", help="Translate labels back; where another comes back, the English one is kept."
        ),
    ] = False,
    beams: Beams = 4,
    precision: Precision = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences at once; changes no result.")] = 64,
    cache: CacheFolder = None,
    ray: Annotated[
        int | None, typer.Option(min=1, metavar="WORKERS", help="Translate on a Ray cluster, same result.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which sample gets which language.")] = 0,
    as_json: Json = False,
) -> None:
    """Translate samples into other languages, each sentence once and for good.

    OUT gets samples.jsonl (accepted, and what stays as it is), rejects/rejects.jsonl (what the quality gate kept
    apart, with reasons) and summary.json. A run that was stopped or killed goes on where it was. Give plain samples,
    as the readers of sources do: prompts are put around them later.

    \b
    Examples
      polylens translate FOLDER --lang de,sw --model NLLB --out translated
      polylens translate coco.jsonl --shares mc4 --model facebook/nllb-200-distilled-1.3B --out translated
      polylens translate vqav2 --set path=QUESTIONS.json --set images=train2014 \\
                         --lang sw --model NLLB --out translated
      polylens translate picto --set 'languages=[en]' --lang de,sw --engine picto --out translated
    """
    from polylens.data.translation.run import SAMPLES, Plan, translate_samples
    from polylens.data.translation.texts import parse_tasks

    quiet_libraries()
    results, notes = consoles(as_json)
    source = language(origin).code
    read = _reader(data, settings or [], source)
    plan = Plan(**_languages(lang, shares, temperature), seed=seed, tasks=parse_tasks(texts or []))
    kept = _words(keep) if keep else []
    chosen = _settings(engine, model, beams, precision)
    with _opened(chosen, cache) as (opened, translations), _bars(notes) as bars:
        counts = translate_samples(
            read,
            plan,
            opened,
            translations,
            out,
            kept=kept,
            check_labels=check_labels,
            batch_size=batch_size,
            translate=_cluster(chosen, ray) if ray else None,
            started=bars.start,
            progress=bars.advance,
        )
    if as_json:
        print_json({code: counts[code].row() for code in sorted(counts)})
        return
    results.print(_table(counts))
    say(results, f"{out / SAMPLES}: a mix reads it as the source 'jsonl'.")


def translate_prompts(
    out: Annotated[Path, typer.Option(help="The folder for templates.json, rejects and summary.")],
    lang: Annotated[str, typer.Option(metavar="CODES|all", help="The languages to translate into.")],
    tasks: Annotated[
        str | None,
        typer.Option(metavar="TASKS", help="Of these tasks only, with commas; a wrong name lists them."),
    ] = None,
    engine: EngineName = "nllb",
    model: EngineModel = None,
    beams: Beams = 4,
    precision: Precision = None,
    cache: CacheFolder = None,
    as_json: Json = False,
) -> None:
    """Translate the prompts that task builders put around samples.

    OUT/templates.json is what a recipe names as a build's `templates`. It is short: let somebody who speaks the
    language read it, and change it by hand. What the quality gate did not let pass stands in OUT/rejects; such
    prompts stay English. Fields such as {question} come out as they went in.

    \b
    Examples
      polylens translate-prompts --lang de,sw --model facebook/nllb-200-distilled-1.3B --out data/prompts
      polylens translate-prompts --lang sw --tasks caption,vqa --model NLLB --out data/prompts
    """
    from polylens.data.translation.prompts import TASKS, TEXTS, collect_templates, prompt_samples
    from polylens.data.translation.run import Plan, translate_samples

    quiet_libraries()
    results, notes = consoles(as_json)
    wanted = [task.strip() for task in tasks.split(",")] if tasks else TASKS
    samples = list(prompt_samples(wanted))
    plan = Plan(**_languages(lang, None, 1.0), tasks=TEXTS)
    chosen = _settings(engine, model, beams, precision)
    with _opened(chosen, cache) as (opened, translations), _bars(notes) as bars:
        counts = translate_samples(
            lambda: samples, plan, opened, translations, out, started=bars.start, progress=bars.advance
        )
    path = collect_templates(out)
    if as_json:
        print_json({code: counts[code].row() for code in sorted(counts)})
        return
    results.print(_table(counts, "Translated prompts"))
    say(results, f"A build reads them: {{task: caption, templates: {path}}}.")


def plan_languages(
    num: Annotated[int, typer.Option(min=1, help="How many samples there are to give out.")],
    shares: Annotated[str, typer.Option(metavar="mc4|mt5|equal|FILE", help="Whose shares.")] = "mc4",
    lang: Annotated[
        str | None, typer.Option(metavar="CODES|all", help="Only these languages, among themselves.")
    ] = None,
    temperature: Temperature = 1.0,
    as_json: Json = False,
) -> None:
    """Show how many samples each language gets, as `polylens translate --shares` gives them out.

    The JSON can be changed and given back as --shares FILE.

    \b
    Examples
      polylens plan-languages --num 2273005
      polylens plan-languages --num 100000 --shares mt5 --lang de,sw,yo --temperature 3
      polylens plan-languages --num 1000 --json > mine.json
    """
    from polylens.data.language_plan import allocate
    from polylens.data.language_plan import shares as shares_of

    found = shares_of(shares, parse_languages(lang) if lang and lang != "all" else None, temperature)
    counts = allocate(found, num)
    if as_json:
        print_json(counts)
        return
    table = Table(title=f"{num:,} samples in {len(counts)} languages", title_justify="left")
    for heading in ("code", "language", "share %", "samples"):
        table.add_column(heading, justify="right" if heading in ("share %", "samples") else "left")
    for code, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(code, LANGUAGES[code].name, f"{100 * found[code]:.3f}", f"{count:,}")
    consoles()[0].print(table)


def _reader(data: str, settings: list[str], source: str) -> "Callable[[], Iterable[Sample]]":
    """What reads the samples of one language, each time anew."""
    from polylens.data.captions import FILE_NAME, read_captions
    from polylens.data.sources import opened, read_part
    from polylens.data.spec import Part
    from polylens.recipe_text import validated

    values: dict[str, Any] = {}
    for key, value in map(_setting, settings):
        if key in values:
            raise UserError(f"--set {key} is there twice: give one value.")
        values[key] = value
    path = Path(data).expanduser()
    if values and path.exists():
        raise UserError(f"--set {next(iter(values))} is for a source, and '{data}' is a path: leave it out.")
    if path.is_dir() and (path / FILE_NAME).is_file():
        return lambda: read_captions(path, [source])
    if path.exists():
        part = Part(source="jsonl", path=path, languages=[source])
    elif path.suffix or "/" in data:
        raise UserError(f"There is no '{data}': give samples, a folder with {FILE_NAME}, or a source's name.")
    else:
        fields = {key: values.pop(key) for key in PART_FIELDS if key in values}
        chosen = {"source": data, "languages": [source], "options": values} | fields
        part = validated(Part, chosen, f"'{data}'")
    opened(part)

    def read() -> "Iterator[Sample]":
        found = False
        for sample in read_part(part):
            if sample.language == source:
                found = True
                yield sample
        if not found:
            raise UserError(f"'{data}' has no samples in '{source}': name their language with --from.")

    return read


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"'{text}' must look like key=value, such as path=FILE.")
    from polylens.recipe_text import parse_value

    return key, parse_value(value, f"The value of '{text}'")


def _languages(lang: str | None, shares: str | None, temperature: float) -> dict[str, Any]:
    from polylens.data.language_plan import shares as shares_of

    asked = parse_languages(lang) if lang and lang.strip().lower() != "all" else None
    if shares is not None:
        found = shares_of(shares, asked, temperature)
        return {"languages": list(found), "shares": found}
    if lang is None:
        raise UserError("No languages to translate into: give --lang de,sw, or --shares mc4.")
    return {"languages": asked or [code for code, entry in LANGUAGES.items() if entry.nllb]}


def _words(path: Path) -> list[str]:
    from polylens.data.rows import text_lines

    if not path.is_file():
        raise UserError(f"There is no file '{path}' with words to keep: check --keep.")
    return [line for _, line in text_lines(path)]


def _cluster(settings: "EngineSettings", workers: int) -> Any:
    from polylens.data.translation.cluster import on_cluster

    return on_cluster(settings, workers)


class _Bars:
    """A bar for each language; of many languages only those at work."""

    def __init__(self, progress: Any):
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._hide = False

    def start(self, totals: Mapping[str, int]) -> None:
        self._hide = len(totals) > MANY
        self._tasks = {
            code: self._progress.add_task(LANGUAGES[code].name, total=total, visible=not self._hide)
            for code, total in totals.items()
        }

    def advance(self, code: str, amount: float) -> None:
        task = self._tasks[code]
        self._progress.update(task, advance=amount)
        if self._hide:
            self._progress.update(task, visible=not self._progress.tasks[task].finished)


def _settings(engine: str, model: str | None, beams: int, precision: str | None) -> "EngineSettings":
    from polylens.data.translation.engine import EngineSettings
    from polylens.models.checkpoints.registry import resolve_model

    return EngineSettings(engine, resolve_model(model) if model else None, beams=beams, precision=precision)


@contextmanager
def _opened(settings: "EngineSettings", cache: Path | None) -> "Iterator[tuple[Engine, TranslationCache]]":
    """An engine, and what it has translated before."""
    from polylens.data.translation.cache import TranslationCache
    from polylens.data.translation.engines import open_engine
    from polylens.files import cache_folder

    opened = open_engine(settings)
    with TranslationCache(cache or cache_folder("translations"), opened.fingerprint) as translations:
        yield opened, translations


@contextmanager
def _bars(console: Console) -> Iterator[_Bars]:
    from polylens.progress import progress_bar

    with progress_bar(console) as progress:
        yield _Bars(progress)


def _table(counts: "Mapping[str, Counts]", title: str = "Translated samples") -> Table:
    from polylens.data.translation.gate import REASONS

    table = Table(title=title, title_justify="left")
    for heading in ("language", "accepted", "unidentified", "rejected", "unchanged", "why rejected"):
        table.add_column(heading, justify="left" if heading in ("language", "why rejected") else "right")
    for code in sorted(counts):
        row = counts[code]
        reasons = ", ".join(f"{count} {reason}" for reason, count in row.reasons.most_common())
        numbers = (row.accepted, row.unidentified, row.rejected, row.unchanged)
        table.add_row(LANGUAGES[code].name, *(f"{number:,}" for number in numbers), reasons)
    given = {reason for row in counts.values() for reason in row.reasons}
    table.caption = "; ".join(f"{reason}: {text}" for reason, text in REASONS.items() if reason in given)
    table.caption_justify = "left"
    return table
