"""Results for people: one HTML page that needs nothing else, figures and a CSV beside it, a terminal table.

`results` is the dict of results.json; nearly every key may be missing, and the page shows what is there.
`notes`, a list of sentences, stands at the top: languages that the model does not know, pictures left out.
"""

import base64
import csv
import io
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from polylens import __version__
from polylens.data.images import FilePicture
from polylens.evaluation.findings import (
    describe_bars,
    describe_heat_map,
    facts,
    phases,
    sentences,
    summary_lines,
    tiles,
    words,
)
from polylens.evaluation.plots import DARK, LIGHT, heat_map, score_bars, script_colours
from polylens.evaluation.summary import (
    METRICS,
    Column,
    Row,
    columns,
    comparison_columns,
    controls,
    duration,
    language_name,
    rows,
)
from polylens.files import write_atomic

PAGE, TABLE = "report.html", "results.csv"
# Shown at half this many CSS pixels, for screens of twice the density.
PICTURE_SIDE = 320
# Answers longer than this are sentences and get wider cells.
LONG_ANSWER = 42
# What the page holds, its anchor, and its name in the list at the top.
SECTIONS = (
    ("bars", "scores", "Scores"),
    ("controls", "controls", "Controls"),
    ("examples", "examples", "Examples"),
    ("heat", "measures", "All measures"),
    ("table", "languages", "By language"),
    ("comparisons", "comparisons", "Comparisons"),
    ("next_steps", "next", "What to try next"),
    ("settings", "settings", "Settings"),
)
# Columns of a terminal that has room for spaces between the columns of the table.
WIDE_TERMINAL = 110
COMPARISONS = {"baselines": "Beside other training", "heldout_concepts": "On held-out concepts"}


class Answer(TypedDict):
    """What the model said about a picture in one language; without `right` it is shown unmarked."""

    said: str
    wanted: str
    right: NotRequired[bool | None]


class Example(TypedDict):
    """A picture (or its path), its English name, and the answers by language code."""

    picture: Image.Image | str | Path
    title: str
    answers: Mapping[str, Answer]


class Figure(NamedTuple):
    """One figure as data URIs by theme and width, and its file beside the page."""

    file: str
    title: str
    note: str
    alt: str
    sources: dict[str, str]
    size: tuple[int, int]


def write_report(results: Mapping[str, Any], examples: Sequence[Example], folder: str | Path) -> Path:
    """Write report.html, results.csv, scores.png and heatmap.png into `folder`; returns the page's path.

    Each file is written whole or not at all, the page last. Raises `UserError` for a folder that cannot be
    written or a picture that cannot be read.
    """
    folder = Path(folder)
    shown = [_example(example, rows(results)) for example in examples]
    bars = _figure(folder, "scores.png", score_bars, describe_bars, results)
    heat = _figure(folder, "heatmap.png", heat_map, describe_heat_map, results)
    write_atomic(folder / TABLE, results_csv(results))
    write_atomic(folder / PAGE, _template().render(_page(results, shown, bars, heat)))
    return folder / PAGE


def results_csv(results: Mapping[str, Any]) -> str:
    """A line per language: every measure with its interval, yardsticks, baselines; numbers not rounded."""
    found = [*columns(results), *comparison_columns(results)]
    header = ["code", "language", "script", "family", "n", "n_ratio"]
    for column in found:
        header.append(column.key)
        header += [f"{column.key}.low", f"{column.key}.high"] if column.intervals else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows(results):
        line: list[Any] = [row.code, row.name, row.script, row.family, row.n, row.n_ratio]
        for column in found:
            line.append(column.values.get(row.code))
            line += column.intervals.get(row.code, (None, None)) if column.intervals else []
        writer.writerow(line)
    return text.getvalue()


def print_table(results: Mapping[str, Any], console: Console) -> None:
    """The table by language, and beneath it the means, the controls and the time."""
    found = columns(results)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, int(console.width >= WIDE_TERMINAL)))
    table.add_column("Language", no_wrap=True, vertical="bottom")
    table.add_column("Script", no_wrap=True)
    for column in found:
        label = column.label.replace(" ", "\n").replace("Translate-", "Translate-\n")
        heading = Text(f"{label}\n{column.metric.unit}".rstrip())
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for row in rows(results):
        numbers = [column.metric.number(column.values.get(row.code)) for column in found]
        script = "" if row.script == previous else row.script.split(",")[0]
        table.add_row(Text(row.name), script, *numbers)
        previous = row.script
    if title := results.get("title"):
        console.print(Text(str(title), style="bold"))
    console.print(table)
    for line in summary_lines(results):
        console.print(Text(line))


def _page(
    results: Mapping[str, Any], examples: Sequence[Any], bars: Figure | None, heat: Figure | None
) -> dict[str, Any]:
    table = rows(results)
    found = columns(results) if table else []
    others = comparison_columns(results) if table else []
    kept = {column.metric.name for column in found[:1]} | {"choice_accuracy"}
    page = {
        "title": str(results.get("title") or "Evaluation"),
        "model": str(results.get("model") or ""),
        "facts": facts(results),
        "version": str(results.get("polylens_version") or __version__),
        "sentences": sentences(results),
        "notes": [str(note) for note in results.get("notes") or []],
        "tiles": tiles(results),
        "bars": bars,
        "heat": heat,
        "controls": [
            (label, meaning, METRICS["exact_match"].text(value))
            for label, meaning, value in controls(results)
        ],
        "rows": table,
        "colours": script_colours(table),
        "table": found,
        "comparisons": _comparison(found, others, kept),
        "meanings": [
            (column.label, column.metric.meaning, column.metric.chance, column.metric)
            for column in found
            if column.metric.meaning
        ],
        "examples": examples,
        "seconds": [(words(phase), duration(value)) for phase, value in phases(results).items()],
        "settings": list(_flatten(_settings(results))),
        "next_steps": [_with_code(str(step)) for step in results.get("next_steps") or []],
        "csv": TABLE,
    }
    page["sections"] = [(anchor, label) for key, anchor, label in SECTIONS if page[key]]
    return page


def _comparison(
    found: Sequence[Column], others: Sequence[Column], kept: Container[str]
) -> dict[str, Any] | None:
    """This run beside its baselines and held-out concepts, by the measures in `kept`."""
    runs = {"This run": [column for column in found if column.key in kept]}
    for column in others:
        if column.metric.name in kept:
            runs.setdefault(column.group, []).append(column)
    if len(runs) == 1:
        return None
    titles = [title for key, title in COMPARISONS.items() if any(one.key.startswith(key) for one in others)]
    return {
        "title": ", ".join(titles).capitalize(),
        "heads": [(run, len(measures)) for run, measures in runs.items()],
        "columns": [column for measures in runs.values() for column in measures],
    }


def _figure(
    folder: Path,
    file: str,
    draw: Callable[..., bytes | None],
    describe: Callable[[Mapping[str, Any]], tuple[str, str, str]],
    results: Mapping[str, Any],
) -> Figure | None:
    """The figure in four versions, the wide light one also as a file; None where there is nothing to draw."""
    wide = draw(results)
    if wide is None:
        return None
    write_atomic(folder / file, wide)
    sources = {"wide": _data_uri(wide, "png")}
    for name, theme, narrow in (
        ("wide_dark", DARK, False),
        ("narrow", LIGHT, True),
        ("narrow_dark", DARK, True),
    ):
        sources[name] = _data_uri(draw(results, theme=theme, narrow=narrow) or b"", "png")
    with Image.open(io.BytesIO(wide)) as opened:
        size = (opened.width // 2, opened.height // 2)
    title, note, alt = describe(results)
    return Figure(file, title, note, alt, sources, size)


def _example(example: Example, table: Sequence[Row]) -> dict[str, Any]:
    picture = example["picture"]
    if not isinstance(picture, Image.Image):
        picture = FilePicture(Path(picture)).load()
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=88)
    answers = example["answers"]
    order = [row.code for row in table if row.code in answers]
    order += [code for code in answers if code not in order]
    shown = [{**answers[code], "code": code, "name": language_name(code)} for code in order]
    judged = [answer["right"] for answer in answers.values() if answer.get("right") is not None]
    longest = max((len(answer["said"]) for answer in answers.values()), default=0)
    return {
        "title": example["title"],
        "source": _data_uri(buffer.getvalue(), "webp"),
        "size": picture.size,
        "answers": shown,
        "right": sum(map(bool, judged)),
        "judged": len(judged),
        "long": longest > LONG_ANSWER,
    }


def _settings(results: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(results.get("settings") or {})
    return settings | ({"seeds": results["seeds"]} if results.get("seeds") else {})


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flatten(inner, f"{prefix}{key}.")
        elif isinstance(inner, list | tuple) and not any(isinstance(item, Mapping) for item in inner):
            yield f"{prefix}{key}", ", ".join(map(str, inner)) or "–"
        else:
            yield f"{prefix}{key}", "–" if inner is None or inner == {} else str(inner)


def _with_code(text: str) -> Markup:
    """`text` with what stands between backticks set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    marked = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(marked)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("polylens.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
