"""Curves: how a measure goes with something that was varied, such as a share of the training data.

`results["curves"]` holds a `title`, what was varied (`x`) and its values as text (`ticks`), the name of the `measure`,
and `lines`: {name: [[value, low, high] for every tick]}.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from polylens.evaluation.measures import metric_of
from polylens.evaluation.plots.style import (
    FONT_SIZE,
    LIGHT,
    NARROW,
    SCRIPT_COLOURS,
    WIDE,
    Theme,
    new_figure,
    png,
)


def measure_curves(results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False) -> bytes | None:
    """The lines with their intervals, ticks evenly apart; None where results have no curves."""
    curves = results.get("curves")
    if not curves:
        return None
    metric = metric_of(curves["measure"], results)
    width, height, foot = (NARROW, 3.2, 0.75) if narrow else (WIDE, 3.8, 0.75)
    figure = new_figure(width, height, theme)
    axes = figure.add_axes((0.6 / width, foot / height, 1 - 0.8 / width, 1 - (foot + 0.15) / height))
    axes.set_facecolor("none")
    axes.grid(axis="y", color=theme.line, linewidth=0.8, zorder=0)
    axes.spines[:].set_visible(False)
    places = range(len(curves["ticks"]))
    for colour, (name, points) in zip(SCRIPT_COLOURS, curves["lines"].items(), strict=False):
        values, lows, highs = zip(*points, strict=True)
        axes.fill_between(places, lows, highs, color=colour, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(
            places,
            values,
            "o-",
            color=colour,
            markersize=5,
            linewidth=1.8,
            label=name,
            clip_on=False,
            zorder=2,
        )
    if metric.high is not None:
        axes.set_ylim(0, metric.high * 1.02)
    axes.set_xticks(list(places), curves["ticks"])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * metric.scale:g}"))
    axes.tick_params(colors=theme.muted, labelsize=FONT_SIZE - 0.5, length=0, pad=4)
    axes.set_xlabel(curves["x"], color=theme.muted, fontsize=FONT_SIZE, labelpad=3)
    axes.set_ylabel(metric.heading, color=theme.muted, fontsize=FONT_SIZE, labelpad=4)
    figure.legend(
        loc="lower center",
        ncols=len(curves["lines"]),
        frameon=False,
        fontsize=FONT_SIZE - 0.5,
        labelcolor=theme.muted,
        columnspacing=1.6,
        borderaxespad=0.1,
    )
    return png(figure, theme)
