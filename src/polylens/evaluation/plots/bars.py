"""Bars: the main measure by language and script."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from polylens.evaluation.measures import YARDSTICKS
from polylens.evaluation.plots.style import (
    DPI,
    FONT_SIZE,
    LIGHT,
    NARROW,
    WIDE,
    Theme,
    by_script,
    group_starts,
    inches,
    new_figure,
    places_of,
    png,
    script_colours,
)
from polylens.evaluation.summary import Column, Row, columns, controls, main_column, rows

ROW_HEIGHT, GROUP_GAP = 0.245, 0.4
SCRIPT_SPACE = 0.8


def score_bars(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """The main measure by language, grouped and coloured by script, with yardsticks and controls.

    None where no language was scored.
    """
    table, main = rows(results), main_column(results)
    if main is None:
        return None
    marks = [column for column in columns(results) if column.key in YARDSTICKS]
    # Controls are measured by exact match only.
    lines = controls(results) if main.metric.name == "exact_match" else []
    panels = _panels(table, 1 if narrow else 2)
    heights = [_height(panel) for panel in panels]
    legend, legend_columns = _score_legend(main, marks, lines, theme, 1 if narrow else 3)
    head = 0.26 + 0.175 * -(-len(legend) // legend_columns)
    width = NARROW if narrow else WIDE
    height = head + max(heights) * ROW_HEIGHT + 0.55
    figure = new_figure(width, height, theme)
    label_space = SCRIPT_SPACE + 0.22 + inches([row.name for row in table])
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
    return png(figure, theme)


def _panels(table: Sequence[Row], count: int) -> list[list[Row]]:
    """The rows side by side in at most `count` stacks of like height, cut between scripts if near enough."""
    if count == 1 or len(table) < 12:
        return [list(table)]
    half = len(table) / 2
    changes = [at for at in range(1, len(table)) if table[at].script != table[at - 1].script]
    nearest = min(changes, key=lambda at: abs(at - half), default=0)
    cut = nearest if abs(nearest - half) <= len(table) / 12 else round(half)
    return [list(table[:cut]), list(table[cut:])]


def _height(panel: Sequence[Row]) -> float:
    return places_of(by_script(panel), GROUP_GAP, 0.0)[-1] + 1


def _control_style(position: int, theme: Theme) -> dict[str, Any]:
    dashes = ((0, (1, 1.2)), (0, (4, 2)), (0, (6, 1.5, 1, 1.5)))
    return {"color": theme.muted, "linewidth": 1.1, "linestyle": dashes[position % len(dashes)]}


def _mark_style(key: str, theme: Theme) -> dict[str, Any]:
    """Full marks for what bounds the model from above, open ones for other ways to answer."""
    shape, size = {
        "text_ceiling": ("D", 4.3),
        "translate_test": ("o", 5.0),
        "text_only": ("s", 4.4),
        "majority": ("^", 4.8),
        "english_only": ("o", 5.0),
        "native_only": ("D", 4.3),
    }[key]
    full = key == "text_ceiling"
    return {
        "marker": shape,
        "markersize": size,
        "markerfacecolor": theme.ink if full else theme.paper,
        "markeredgecolor": theme.paper if full else theme.ink,
        "markeredgewidth": 0.8 if full else 1.2,
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
    width = axes.get_window_extent().width / DPI
    bracket = -(label_space - SCRIPT_SPACE) / width
    style: dict[str, Any] = {"va": "center", "fontsize": FONT_SIZE, "clip_on": False, "parse_math": False}
    style["transform"] = axes.get_yaxis_transform()
    groups = by_script(panel)
    for top, group in zip(group_starts(groups, GROUP_GAP, 0.0), groups, strict=True):
        script = group[0].script
        # "Chinese, simplified" has no room; which of the two it is shows in the table.
        left, shown = (0.02 - label_space) / width, script.split(",")[0]
        axes.text(left, top + 0.5, shown, ha="left", color=theme.muted, **style)
        axes.add_artist(
            Rectangle(
                (bracket, top + 0.16),
                0.035 / width,
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
            axes.text(bracket + 0.1 / width, y, row.name, ha="left", color=theme.ink, **style)
            axes.text(1 + 0.4 / width, y, shown, ha="right", color=theme.ink, **style)
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
