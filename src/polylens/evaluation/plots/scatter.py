"""A scatter: does a language do as well as its share of the pretraining corpus lets expect?"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from polylens.evaluation.plots.style import (
    FONT_SIZE,
    LIGHT,
    NARROW,
    WIDE,
    Theme,
    new_figure,
    png,
    script_colours,
)
from polylens.evaluation.summary import main_column, pretraining_points, rows

# Fewer points say nothing about a trend.
FEWEST = 4


def share_scatter(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """The main measure of each language against its share of mC4, on a logarithmic axis, coloured by script.

    None where fewer than four languages have both.
    """
    points, main = pretraining_points(results), main_column(results)
    if main is None or len(points) < FEWEST:
        return None
    table = [row for row in rows(results) if row.code in points]
    colours = script_colours(rows(results))
    shown = dict.fromkeys(row.script for row in table)
    legend_columns = 2 if narrow else 7
    foot = 0.5 + 0.19 * -(-len(shown) // legend_columns)
    width, height = (NARROW, 3.1 + foot) if narrow else (WIDE, 3.9 + foot)
    figure = new_figure(width, height, theme)
    axes = figure.add_axes((0.55 / width, foot / height, 1 - 0.75 / width, 1 - (foot + 0.15) / height))
    axes.set_facecolor("none")
    axes.set_xscale("log")
    axes.grid(color=theme.line, linewidth=0.8, zorder=0)
    axes.spines[:].set_visible(False)
    for row in table:
        share, value = points[row.code]
        if row.code in main.intervals:
            axes.plot([share, share], main.intervals[row.code], color=theme.line, linewidth=2.4, zorder=1)
        axes.plot(
            [share], [value], "o", markersize=5.5, color=colours[row.script], markeredgewidth=0, zorder=2
        )
    _label(axes, [(row.code, *points[row.code]) for row in table], theme)
    axes.margins(x=0.05, y=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * main.metric.scale:g}"))
    axes.tick_params(colors=theme.muted, labelsize=FONT_SIZE - 0.5, length=0, pad=4)
    axes.set_xlabel("Share of the language in mC4", color=theme.muted, fontsize=FONT_SIZE, labelpad=3)
    axes.set_ylabel(main.heading, color=theme.muted, fontsize=FONT_SIZE, labelpad=4)
    dots = [
        Line2D([], [], marker="o", linestyle="none", color=colours[script], label=script) for script in shown
    ]
    figure.legend(
        handles=dots,
        loc="lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=FONT_SIZE - 0.5,
        labelcolor=theme.muted,
        handletextpad=0.1,
        columnspacing=1.2,
        borderaxespad=0.1,
    )
    return png(figure, theme)


def _label(axes: Any, points: Sequence[tuple[str, float, float]], theme: Theme) -> None:
    """Codes beside their points, on the side away from the nearest neighbour."""
    values = [value for _, _, value in points]
    span = (max(values) - min(values)) or 1.0
    for code, share, value in points:
        near = [other for name, beside, other in points if name != code and 0.6 < beside / share < 1.7]
        above = not any(0 <= other - value < 0.05 * span for other in near)
        axes.annotate(
            code,
            (share, value),
            xytext=(0, 4 if above else -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=FONT_SIZE - 1.5,
            color=theme.ink,
        )
