"""Differences of two runs by language, with their intervals."""

from collections.abc import Mapping
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from polylens.evaluation.measures import metric_of
from polylens.evaluation.plots.style import (
    FONT_SIZE,
    LIGHT,
    NARROW,
    WIDE,
    Theme,
    inches,
    new_figure,
    png,
)
from polylens.evaluation.summary import language_name

ROW_HEIGHT = 0.23
BETTER, WORSE = "#2a9474", "#cf5965"


def difference_plot(
    results: Mapping[str, Any], *, theme: Theme = LIGHT, narrow: bool = False
) -> bytes | None:
    """Run minus baseline by language, the largest difference on top; colour where the test finds one.

    None for results that compare nothing.
    """
    comparison = results.get("comparison") or {}
    found = {code: row for code, row in (comparison.get("languages") or {}).items() if row}
    if not found:
        return None
    name = comparison["measure"]
    metric = metric_of(name, results)
    order = sorted(found, key=lambda code: -found[code]["difference"])
    names = {code: language_name(code) for code in order}
    width = NARROW if narrow else WIDE
    left, head, foot = inches(list(names.values())) + 0.25, 0.45 if narrow else 0.3, 0.55
    height = head + ROW_HEIGHT * len(order) + foot
    figure = new_figure(width, height, theme)
    axes = figure.add_axes(
        (left / width, foot / height, 1 - (left + 0.3) / width, 1 - (head + foot) / height)
    )
    axes.set_facecolor("none")
    axes.set_ylim(len(order), 0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color=theme.line, linewidth=0.8, zorder=0)
    axes.axvline(0, color=theme.muted, linewidth=1.2, zorder=1)
    for place, code in enumerate(order):
        row, y = found[code], place + 0.5
        colour = theme.muted
        if row["p_holm"] < comparison["level"]:
            colour = BETTER if row["difference"] * (1 if metric.higher_is_better else -1) > 0 else WORSE
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2, zorder=2)
        axes.plot([row["difference"]], [y], "o", color=colour, markersize=5, markeredgewidth=0, zorder=3)
    axes.set_yticks([place + 0.5 for place in range(len(order))], [names[code] for code in order])
    axes.tick_params(axis="y", colors=theme.ink, labelsize=FONT_SIZE, length=0, pad=5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if narrow else 8, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * metric.scale:+g}"))
    axes.tick_params(axis="x", colors=theme.muted, labelsize=FONT_SIZE - 0.5, length=0, pad=5)
    axes.set_xlabel(f"Difference in {metric.heading}", color=theme.muted, fontsize=FONT_SIZE, labelpad=4)
    kinds = ((BETTER, "run is better"), (WORSE, "baseline is better"), (theme.muted, "no difference shown"))
    dots = [Line2D([], [], marker="o", color=colour, markersize=5, label=label) for colour, label in kinds]
    figure.legend(
        handles=dots,
        loc="upper left",
        ncols=2 if narrow else 3,
        frameon=False,
        fontsize=FONT_SIZE - 0.5,
        labelcolor=theme.ink,
        borderaxespad=0.1,
        columnspacing=1.4,
    )
    return png(figure, theme)
