"""The figures of a report as PNG bytes: bars by language and script, and a heat map of all measures.

Labels are in English, so that the font that comes with matplotlib has every letter. Nothing of pyplot's
global state is touched. One inch is 100 CSS pixels in the page.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from polylens.evaluation.summary import Column, Row, columns, comparison_columns, controls, main_column, rows

WIDE, NARROW = 10.8, 3.58
DPI = 200
FONT_SIZE = 8.5
# Each tells from a white and from a dark ground (3:1 at least); neighbours in the cycle differ most.
SCRIPT_COLOURS = (
    "#4878d0",
    "#d0672a",
    "#2a9474",
    "#bf559c",
    "#a6812a",
    "#2f93b8",
    "#8a68cf",
    "#cf5965",
    "#6b8e3a",
)
ROW_HEIGHT, GROUP_GAP = 0.245, 0.4
SCRIPT_SPACE = 0.8
# More languages than this take another band of the heat map.
MOST_ACROSS = 45


@dataclass(frozen=True)
class Theme:
    paper: str
    ink: str
    muted: str
    line: str
    ramp: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1c2130", "#5a6172", "#e2e5eb", ("#f1f7f7", "#c3e2e1", "#6fb7b9", "#1b7d86", "#0a4a55")
)
DARK = Theme(
    "#171b23", "#e9ebf1", "#a4acbc", "#2d3442", ("#1f2833", "#1e4751", "#21737d", "#45aeb4", "#b5efe9")
)


def script_colours(table: Sequence[Row]) -> dict[str, str]:
    """A colour per script, in the order of the rows."""
    scripts = list(dict.fromkeys(row.script for row in table))
    return {script: SCRIPT_COLOURS[place % len(SCRIPT_COLOURS)] for place, script in enumerate(scripts)}


def score_bars(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """The main measure by language, grouped and coloured by script, with yardsticks and controls.

    None where no language was scored.
    """
    table, main = rows(results), main_column(results)
    if main is None:
        return None
    marks = [column for column in columns(results) if column.key in ("text_ceiling", "translate_test")]
    lines = controls(results)
    if main.metric.name != "exact_match":
        marks, lines = [], []
    panels = _panels(table, 1 if narrow else 2)
    heights = [_height(panel) for panel in panels]
    legend, legend_columns = _score_legend(main, marks, lines, theme, 1 if narrow else 3)
    head = 0.26 + 0.175 * -(-len(legend) // legend_columns)
    width = NARROW if narrow else WIDE
    height = head + max(heights) * ROW_HEIGHT + 0.55
    figure = _figure(width, height, theme)
    label_space = SCRIPT_SPACE + 0.22 + _inches([row.name for row in table])
    value_space, gap = 0.42, 0.0 if narrow else 0.35
    each = (width - gap * (len(panels) - 1)) / len(panels)
    shown = [value for column in (main, *marks) for value in column.values.values()]
    shown += [high for _, high in main.intervals.values()]
    limit = max(0.0, *shown) * 1.04 or 1.0
    bound = main.metric.high
    limit = min(limit, bound * 1.02) if bound is not None and max(shown) <= bound else limit
    colours = script_colours(table)
    for place, (panel, rows_high) in enumerate(zip(panels, heights, strict=True)):
        panel_height = rows_high * ROW_HEIGHT
        left = place * (each + gap) + label_space
        box = (left, height - head - panel_height, each - label_space - value_space, panel_height)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.set_xlim(0, limit)
        axes.set_ylim(rows_high, 0)
        _style_score_axes(axes, main, theme)
        for position, (_, _, value) in enumerate(lines):
            axes.axvline(value, **_control_style(position, theme), zorder=3)
        _draw_panel(axes, panel, main, marks, colours, theme, label_space)
    figure.legend(
        handles=legend,
        loc="upper left",
        bbox_to_anchor=(0.0, 1 - 0.04 / height),
        ncols=legend_columns,
        frameon=False,
        fontsize=FONT_SIZE,
        labelcolor=theme.ink,
        handlelength=1.6,
        columnspacing=2.2,
        labelspacing=0.42,
        borderaxespad=0,
        borderpad=0.2,
    )
    return _png(figure, theme)


def heat_map(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """Languages x measures, yardsticks, baselines; every measure is coloured from 0 to its highest value.

    None where no language was scored.
    """
    table, blocks = rows(results), _heat_blocks(results, narrow)
    if main_column(results) is None:
        return None
    flat = [column for block in blocks for column in block]
    highest: dict[str, float] = {}
    for column in flat:
        highest[column.metric.name] = max(
            [highest.get(column.metric.name, 0.0), *(abs(value) for value in column.values.values())]
        )
    across = not narrow
    band_count = -(-len(table) // MOST_ACROSS) if across else 1
    size = -(-len(table) // band_count)
    bands = [table[at : at + size] for at in range(0, len(table), size)]
    places = _places(blocks, 0.3, 0.3)
    names, measures = _inches([row.name for row in table]), _inches([_heat_name(one) for one in flat])
    labels, heads = (measures + 0.15, names + 0.2) if across else (names + 0.2, measures + 0.2)
    width = NARROW if narrow else WIDE
    cell_height = 0.27 if across else 0.235
    alongs = [_places(_by_script(band), 0.2, 0.0) for band in bands]
    most = max(along[-1] + 1 for along in alongs) if across else places[-1] + 1
    cell_width = min((width - labels - 0.06) / most, 0.8)
    deep = (places[-1] + 1 if across else alongs[0][-1] + 1) * cell_height
    height = len(bands) * (heads + deep + 0.1)
    figure = _figure(width, height, theme)
    ramp = LinearSegmentedColormap.from_list("ramp", theme.ramp)
    colours = script_colours(table)
    for number, (band, along) in enumerate(zip(bands, alongs, strict=True)):
        bottom = height - (number + 1) * (heads + deep + 0.1) + 0.05
        box = (labels / width, bottom / height, most * cell_width / width, deep / height)
        axes = figure.add_axes(box)
        axes.set_xlim(0, most)
        axes.set_ylim(deep / cell_height, 0)
        axes.axis("off")
        tiles = {}
        for place, column in zip(places, flat, strict=True):
            _heat_label(axes, column, place, across, theme)
            for row, step in zip(band, along, strict=True):
                value = column.values.get(row.code)
                colour = None if value is None else _shade(ramp, column, value, highest[column.metric.name])
                x, y = (step, place) if across else (place, step)
                if colour is not None:
                    tiles[x + 0.03, y + 0.04] = colour
                _heat_number(axes, x, y, _short(column, value), colour, min(7.2, cell_width * 25), theme)
        # One collection draws several times faster than as many single patches.
        squares = [Rectangle(corner, 0.94, 0.92) for corner in tiles]
        axes.add_collection(PatchCollection(squares, facecolors=list(tiles.values()), linewidths=0))
        for row, step in zip(band, along, strict=True):
            _heat_language(axes, row, step, across, colours[row.script], theme)
    return _png(figure, theme)


def _inches(texts: Sequence[str]) -> float:
    """Width of the longest text at the labels' size."""
    return max(float(TextPath((0, 0), text, size=FONT_SIZE).get_extents().width) for text in texts) / 72


def _figure(width: float, height: float, theme: Theme) -> Figure:
    return Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper)


def _png(figure: Figure, theme: Theme) -> bytes:
    """The figure in 256 colours, which the eye cannot tell from all and take a third of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=theme.paper)
    small = (
        Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    packed = io.BytesIO()
    small.save(packed, format="PNG", optimize=True, dpi=(DPI, DPI))
    return packed.getvalue()


def _panels(table: Sequence[Row], count: int) -> list[list[Row]]:
    """The rows side by side in at most `count` stacks of like height, cut between scripts if near enough."""
    if count == 1 or len(table) < 12:
        return [list(table)]
    half = len(table) / 2
    changes = [at for at in range(1, len(table)) if table[at].script != table[at - 1].script]
    nearest = min(changes, key=lambda at: abs(at - half), default=0)
    cut = nearest if abs(nearest - half) <= len(table) / 12 else round(half)
    return [list(table[:cut]), list(table[cut:])]


def _by_script(table: Iterable[Row]) -> list[list[Row]]:
    return [list(group) for _, group in groupby(table, key=lambda row: row.script)]


def _starts(groups: Sequence[Sequence[Any]], gap: float, single_gap: float) -> list[float]:
    """Where each group starts when members take 1 and groups are `gap` apart, two of one `single_gap`."""
    starts: list[float] = []
    for place, group in enumerate(groups):
        if not place:
            starts.append(0.0)
            continue
        before = groups[place - 1]
        starts.append(starts[-1] + len(before) + (gap if max(len(before), len(group)) > 1 else single_gap))
    return starts


def _places(groups: Sequence[Sequence[Any]], gap: float, single_gap: float) -> list[float]:
    """Where each member of all groups starts."""
    starts = _starts(groups, gap, single_gap)
    return [start + step for start, group in zip(starts, groups, strict=True) for step in range(len(group))]


def _height(panel: Sequence[Row]) -> float:
    return _places(_by_script(panel), GROUP_GAP, 0.0)[-1] + 1


def _control_style(position: int, theme: Theme) -> dict[str, Any]:
    dashes = ((0, (1, 1.2)), (0, (4, 2)), (0, (6, 1.5, 1, 1.5)))
    return {"color": theme.muted, "linewidth": 1.1, "linestyle": dashes[position % len(dashes)]}


def _mark_style(key: str, theme: Theme) -> dict[str, Any]:
    shape = {"text_ceiling": ("D", 4.3), "translate_test": ("o", 5.0)}[key]
    fill = theme.paper if key == "translate_test" else theme.ink
    edge = theme.ink if key == "translate_test" else theme.paper
    width = 1.2 if key == "translate_test" else 0.8
    return {
        "marker": shape[0],
        "markersize": shape[1],
        "markerfacecolor": fill,
        "markeredgecolor": edge,
        "markeredgewidth": width,
        "linestyle": "none",
    }


def _score_legend(
    main: Column,
    marks: Sequence[Column],
    lines: Sequence[tuple[str, str, float]],
    theme: Theme,
    most: int,
) -> tuple[list[Any], int]:
    """Legend entries and the number of columns: marks in the first line, controls in the second."""
    bars = f"{main.label}, 95% interval" if main.intervals else main.label
    first: list[Any] = [Patch(facecolor=theme.muted, label=bars)]
    first += [Line2D([], [], **_mark_style(column.key, theme), label=column.label) for column in marks]
    second: list[Any] = []
    for position, (label, _, value) in enumerate(lines):
        text = f"{label}: {main.metric.text(value)}"
        second.append(Line2D([], [], **_control_style(position, theme), label=text))
    if most > 1 and len(first) == len(second):
        # A legend fills column by column.
        return [entry for pair in zip(first, second, strict=True) for entry in pair], len(first)
    return first + second, min(most, len(first) + len(second))


def _style_score_axes(axes: Axes, main: Column, theme: Theme) -> None:
    axes.set_facecolor("none")
    axes.grid(axis="x", color=theme.line, linewidth=0.8, zorder=0)
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    # A tick is where the shown number is round: 0.1 as a share, 10 as a percentage.
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * main.metric.scale:g}"))
    axes.tick_params(axis="x", colors=theme.muted, labelsize=FONT_SIZE - 0.5, length=0, pad=5)
    axes.set_xlabel(main.heading, color=theme.muted, fontsize=FONT_SIZE, labelpad=4)


def _draw_panel(
    axes: Axes,
    panel: Sequence[Row],
    main: Column,
    marks: Sequence[Column],
    colours: Mapping[str, str],
    theme: Theme,
    label_space: float,
) -> None:
    """Rows from the top: script, a bracket in its colour, language, bar with interval, marks, number."""
    inches = axes.get_window_extent().width / DPI
    bracket = -(label_space - SCRIPT_SPACE) / inches
    style: dict[str, Any] = {"va": "center", "fontsize": FONT_SIZE, "clip_on": False, "parse_math": False}
    style["transform"] = axes.get_yaxis_transform()
    groups = _by_script(panel)
    for top, group in zip(_starts(groups, GROUP_GAP, 0.0), groups, strict=True):
        script = group[0].script
        # "Chinese, simplified" has no room; which of the two it is shows in the table.
        left, shown = (0.02 - label_space) / inches, script.split(",")[0]
        axes.text(left, top + 0.5, shown, ha="left", color=theme.muted, **style)
        axes.add_artist(
            Rectangle(
                (bracket, top + 0.16),
                0.035 / inches,
                len(group) - 0.32,
                transform=style["transform"],
                facecolor=colours[script],
                linewidth=0,
                clip_on=False,
            )
        )
        for offset, row in enumerate(group):
            y = top + offset + 0.5
            value = main.values.get(row.code)
            shown = main.metric.number(value)
            axes.text(bracket + 0.1 / inches, y, row.name, ha="left", color=theme.ink, **style)
            axes.text(1 + 0.4 / inches, y, shown, ha="right", color=theme.ink, **style)
            if value is not None:
                axes.barh(y, value, height=0.62, color=colours[script], zorder=2)
            if row.code in main.intervals:
                ends = main.intervals[row.code]
                axes.plot(ends, [y, y], color=theme.paper, linewidth=3.2, alpha=0.85, zorder=4)
                axes.plot(ends, [y, y], color=theme.ink, linewidth=1.2, zorder=5)
            for column in marks:
                if row.code in column.values:
                    axes.plot(
                        [column.values[row.code]],
                        [y],
                        **_mark_style(column.key, theme),
                        zorder=6,
                        clip_on=False,
                    )


def _heat_blocks(results: Mapping[str, Any], narrow: bool) -> list[list[Column]]:
    """Own measures, yardsticks, then, where there is room, the chief measures of each baseline."""
    own = columns(results)
    yardsticks = [column for column in own if column.key in ("text_ceiling", "translate_test")]
    measures = [column for column in own if column not in yardsticks]
    main = main_column(results)
    kept = {main.metric.name if main else "", "choice_accuracy"}
    others = (
        [] if narrow else [column for column in comparison_columns(results) if column.metric.name in kept]
    )
    grouped = [list(group) for _, group in groupby(others, key=lambda column: column.group)]
    return [block for block in (measures, yardsticks, *grouped) if block]


def _shade(ramp: LinearSegmentedColormap, column: Column, value: float, highest: float) -> tuple[float, ...]:
    share = min(abs(value) / highest, 1) if highest else 0.0
    return ramp(share if column.metric.higher_is_better else 1 - share)[:3]


def _readable(colour: Sequence[float]) -> str:
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Where black and white are equally far: (L + 0.05) / 0.05 = 1.05 / (L + 0.05).
    return "#ffffff" if luminance < 0.179 else "#10141b"


def _short(column: Column, value: float | None) -> str:
    """Two or three characters: whole percents, ratios without the leading zero."""
    if value is None:
        return "–"
    shown = value * column.metric.scale
    if column.metric.digits == 1:
        return f"{shown:.0f}"
    return f"{shown:.2f}".removeprefix("0") if abs(shown) < 10 else f"{shown:.0f}"


def _heat_number(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    colour: tuple[float, ...] | None,
    font_size: float,
    theme: Theme,
) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": font_size, "parse_math": False}
    axes.text(x + 0.5, y + 0.53, text, color=_readable(colour) if colour else theme.muted, **style)


def _heat_name(column: Column) -> str:
    return f"{column.group}: {column.label.lower()}" if column.group else column.label


def _heat_label(axes: Axes, column: Column, place: float, across: bool, theme: Theme) -> None:
    text = _heat_name(column)
    style: dict[str, Any] = {"fontsize": FONT_SIZE, "color": theme.ink, "parse_math": False, "clip_on": False}
    if across:
        axes.text(-0.25, place + 0.53, text, ha="right", va="center", **style)
    else:
        axes.text(place + 0.5, -0.3, text, ha="center", va="bottom", rotation=90, **style)


def _heat_language(axes: Axes, row: Row, step: float, across: bool, colour: str, theme: Theme) -> None:
    style: dict[str, Any] = {"fontsize": FONT_SIZE, "color": theme.ink, "parse_math": False, "clip_on": False}
    if across:
        axes.add_artist(
            Rectangle((step + 0.03, -0.2), 0.94, 0.12, facecolor=colour, linewidth=0, clip_on=False)
        )
        axes.text(step + 0.5, -0.4, row.name, ha="center", va="bottom", rotation=90, **style)
    else:
        axes.add_artist(
            Rectangle((-0.2, step + 0.04), 0.1, 0.92, facecolor=colour, linewidth=0, clip_on=False)
        )
        axes.text(-0.4, step + 0.53, row.name, ha="right", va="center", **style)
