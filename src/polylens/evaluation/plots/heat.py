"""A heat map: languages against measures, yardsticks, baselines and benchmarks."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from polylens.evaluation.measures import YARDSTICKS
from polylens.evaluation.plots.style import (
    FONT_SIZE,
    LIGHT,
    NARROW,
    WIDE,
    Theme,
    by_script,
    inches,
    new_figure,
    places_of,
    png,
    script_colours,
)
from polylens.evaluation.summary import (
    BENCHMARKS,
    Column,
    Row,
    chief_columns,
    columns,
    comparison_columns,
    rows,
)

# More languages than this take another band of the heat map.
MOST_ACROSS = 45


def heat_map(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """Languages x measures, yardsticks, baselines; every measure is coloured from 0 to its highest value.

    None where no language was scored.
    """
    table, blocks = rows(results), _heat_blocks(results, narrow)
    if not blocks or not table:
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
    places = places_of(blocks, 0.3, 0.3)
    names, measures = inches([row.name for row in table]), inches([_heat_name(one) for one in flat])
    labels, heads = (measures + 0.15, names + 0.2) if across else (names + 0.2, measures + 0.2)
    width = NARROW if narrow else WIDE
    cell_height = 0.27 if across else 0.235
    alongs = [places_of(by_script(band), 0.2, 0.0) for band in bands]
    most = max(along[-1] + 1 for along in alongs) if across else places[-1] + 1
    # Labels stand a part of a cell away, and wide cells would push them off the edge.
    cell_width = min((width - labels - 0.06) / most, 0.5 if across else 0.36)
    deep = (places[-1] + 1 if across else alongs[0][-1] + 1) * cell_height
    height = len(bands) * (heads + deep + 0.1)
    figure = new_figure(width, height, theme)
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
    return png(figure, theme)


def _heat_blocks(results: Mapping[str, Any], narrow: bool) -> list[list[Column]]:
    """Own measures, yardsticks, benchmarks, then, where there is room, the chief measures of each baseline."""
    own = columns(results)
    yardsticks = [column for column in own if column.key in YARDSTICKS]
    measures = [column for column in own if column not in yardsticks]
    others = [
        chief_columns(list(group))
        for _, group in groupby(comparison_columns(results), key=lambda column: column.group)
    ]
    benchmarks = [column for block in others for column in block if column.key.startswith(BENCHMARKS)]
    rest = [] if narrow else [block for block in others if not block[0].key.startswith(BENCHMARKS)]
    return [block for block in (measures, yardsticks, benchmarks, *rest) if block]


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
    if not column.group:
        return column.label
    # "choice" within a line, but CIDEr-D as it is.
    label = column.label.lower() if column.label[1:].islower() else column.label
    return f"{column.group}: {label}"


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
