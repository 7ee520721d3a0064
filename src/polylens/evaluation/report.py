"""Results for people: one HTML page that needs nothing else, figures and a CSV beside it, a terminal table.

`results` is the dict of results.json; nearly every key may be missing, and the page shows what is there.
`notes`, a list of sentences, stands at the top: languages that the model does not know, pictures left out.
"""

import base64
import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    describe_curves,
    describe_differences,
    describe_heat_map,
    describe_scatter,
    facts,
    phases,
    sentences,
    summary_lines,
    tiles,
    words,
)
from polylens.evaluation.measures import METRICS, OWN, metric_of
from polylens.evaluation.plots import (
    DARK,
    LIGHT,
    difference_plot,
    heat_map,
    measure_curves,
    score_bars,
    script_colours,
    share_scatter,
)
from polylens.evaluation.published import PUBLISHED
from polylens.evaluation.summary import (
    Column,
    Row,
    chief_columns,
    columns,
    comparison_columns,
    controls,
    duration,
    language_groups,
    language_name,
    main_column,
    rows,
)
from polylens.files import write_atomic

Draw = Callable[..., bytes | None]
Describe = Callable[[Mapping[str, Any]], tuple[str, str, str]]

PAGE, TABLE = "report.html", "results.csv"
# Shown at half this many CSS pixels, for screens of twice the density.
PICTURE_SIDE = 320
# Answers longer than this are sentences and get wider cells.
LONG_ANSWER = 42
# Measures in the table of parts.
MOST_OF_PARTS = 5
# What the page holds, its anchor, and its name in the list at the top.
SECTIONS = (
    ("differences", "differences", "Differences"),
    ("curves", "curves", "Curves"),
    ("bars", "scores", "Scores"),
    ("controls", "controls", "Controls"),
    ("examples", "examples", "Examples"),
    ("heat", "measures", "All measures"),
    ("table", "languages", "By language"),
    ("scatter", "pretraining", "Pretraining"),
    ("groups", "groups", "Scripts and families"),
    ("parts", "parts", "Parts"),
    ("comparisons", "comparisons", "Comparisons"),
    ("published", "published", "Published numbers"),
    ("next_steps", "next", "What to try next"),
    ("settings", "settings", "Settings"),
)
# Columns of a terminal that has room for spaces between the columns of the table.
WIDE_TERMINAL = 110
MOST_COLUMNS = 10_000
COMPARISONS = {
    "benchmarks": "By benchmark",
    "baselines": "Beside another run",
    "heldout_concepts": "On held-out concepts",
}
# The figures of a page by their place in it: file, how it is drawn, how it is described.
FIGURES: dict[str, tuple[str, Draw, Describe]] = {
    "differences": ("differences.png", difference_plot, describe_differences),
    "curves": ("curves.png", measure_curves, describe_curves),
    "bars": ("scores.png", score_bars, describe_bars),
    "heat": ("heatmap.png", heat_map, describe_heat_map),
    "scatter": ("pretraining.png", share_scatter, describe_scatter),
}


class Answer(TypedDict):
    """What the model said about a picture in one language; without `right` it is shown unmarked. `score` is its
    value as it is shown.
    """

    said: str
    wanted: str
    right: NotRequired[bool | None]
    score: NotRequired[str]


class Example(TypedDict):
    """A picture (or its path), its English name, and the answers by language code; examples side by side that
    have the same `kind` stand under it.
    """

    picture: Image.Image | str | Path
    title: str
    answers: Mapping[str, Answer]
    kind: NotRequired[str]


class Figure(NamedTuple):
    """One figure as data URIs by theme and width, and its file beside the page."""

    file: str
    title: str
    note: str
    alt: str
    sources: dict[str, str]
    size: tuple[int, int]


def write_report(results: Mapping[str, Any], examples: Sequence[Example], folder: str | Path) -> Path:
    """Write report.html, results.csv and the figures that there is something for into `folder`; returns the
    page's path.

    Each file is written whole or not at all, the page last. Raises `UserError` for a folder that cannot be
    written or a picture that cannot be read.
    """
    folder = Path(folder)
    shown = [_example(example, rows(results)) for example in examples]
    figures = {name: _figure(folder, *figure, results) for name, figure in FIGURES.items()}
    write_atomic(folder / TABLE, results_csv(results))
    write_atomic(folder / PAGE, _template().render(_page(results, shown, figures)))
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
    """The table by language with the items scored (n), and beneath it the means, the controls and the time."""
    found = columns(results)
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, int(console.width >= WIDE_TERMINAL)))
    table.add_column("Language", no_wrap=True, vertical="bottom")
    table.add_column("Script", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True, vertical="bottom")
    for column in found:
        label = column.label.replace(" ", "\n").replace("Translate-", "Translate-\n")
        heading = Text(f"{label}\n{column.metric.unit}".rstrip())
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for row in rows(results):
        numbers = [column.metric.number(column.values.get(row.code)) for column in found]
        script = "" if row.script == previous else row.script.split(",")[0]
        table.add_row(Text(row.name), script, "–" if row.n is None else f"{row.n:,}", *numbers)
        previous = row.script
    if title := results.get("title"):
        console.print(Text(str(title), style="bold"))
    print_whole(table, console)
    for line in summary_lines(results):
        console.print(Text(line))


def print_whole(table: Table, console: Console) -> None:
    """The table, in a terminal as wide as that is; a file or a pipe takes lines of any length, and nothing is cut."""
    before = console.width
    whole = console.measure(table, options=console.options.update(max_width=MOST_COLUMNS)).maximum
    if not console.is_terminal:
        console.width = max(before, whole)
    console.print(table)
    console.width = before


def _page(
    results: Mapping[str, Any], examples: Sequence[Any], figures: Mapping[str, Figure | None]
) -> dict[str, Any]:
    table = rows(results)
    found = columns(results) if table else []
    others = comparison_columns(results) if table else []
    page = {
        **figures,
        "figures": [figure for figure in figures.values() if figure],
        "main": main_column(results),
        "groups": [
            (
                group,
                ", ".join(map(language_name, group.codes)),
                language_name(group.best[0]),
                language_name(group.worst[0]),
            )
            for group in language_groups(results)
        ],
        "parts": _parts(results),
        "published": PUBLISHED.get(str(results.get("benchmark") or ""), ()),
        "differing": _differing(results),
        "title": str(results.get("title") or "Evaluation"),
        "model": str(results.get("model") or ""),
        "facts": facts(results),
        "version": str(results.get("polylens_version") or __version__),
        "sentences": sentences(results),
        "notes": [str(note) for note in results.get("notes") or []],
        "tiles": tiles(results),
        "controls": [
            (label, meaning, METRICS["exact_match"].text(value))
            for label, meaning, value in controls(results)
        ],
        "rows": table,
        "colours": script_colours(table),
        "table": found,
        "comparisons": _comparison(found, others),
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


def _comparison(found: Sequence[Column], others: Sequence[Column]) -> dict[str, Any] | None:
    """The chief measures of this run beside those of single benchmarks, baselines and held-out concepts."""
    runs = {"This run": chief_columns([column for column in found if column.key == column.metric.name])}
    for group in dict.fromkeys(column.group for column in others):
        runs[group] = chief_columns([column for column in others if column.group == group])
    runs = {run: measures for run, measures in runs.items() if measures}
    if not others or not runs:
        return None
    titles = [title for key, title in COMPARISONS.items() if any(one.key.startswith(key) for one in others)]
    return {
        "title": ", ".join(titles).capitalize(),
        "heads": [(run, len(measures)) for run, measures in runs.items()],
        "columns": [column for measures in runs.values() for column in measures],
    }


def _parts(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parts of the data, or what else `groups_title` calls them, that were scored apart: means over languages."""
    groups = results.get("groups") or {}
    described = {key: results.get(key) for key in (OWN, "main_measure")}
    found = {name: columns(described | {"languages": scores}) for name, scores in groups.items()}
    shown = {column.key: column for measures in found.values() for column in measures[:MOST_OF_PARTS]}
    if not shown:
        return None
    lines = []
    for name, measures in found.items():
        means = {column.key: column.mean() for column in measures}
        counts = [row.n for row in rows({"languages": groups[name]}) if row.n is not None]
        lines.append((name, [means.get(key) for key in shown], sum(counts)))
    title = str(results.get("groups_title") or "By part of the data")
    return {"title": title, "columns": list(shown.values()), "rows": lines}


def _differing(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of a comparison's main measure."""
    comparison = results.get("comparison")
    if not comparison:
        return None
    name = comparison["measure"]
    table = comparison["measures"][name]
    return {
        "metric": metric_of(name, results),
        "names": [comparison["baseline"], comparison["run"]],
        "rows": [("All items" if code == "all" else language_name(code), row) for code, row in table.items()],
        "level": comparison["level"],
    }


def _figure(
    folder: Path,
    file: str,
    draw: Draw,
    describe: Describe,
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
        "kind": example.get("kind", ""),
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
