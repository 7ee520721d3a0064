"""The figures of a report as PNG bytes; each is None where its results have nothing to draw."""

from polylens.evaluation.plots.bars import score_bars
from polylens.evaluation.plots.curves import measure_curves
from polylens.evaluation.plots.differences import difference_plot
from polylens.evaluation.plots.heat import heat_map
from polylens.evaluation.plots.scatter import share_scatter
from polylens.evaluation.plots.style import DARK, LIGHT, SCRIPT_COLOURS, Theme, script_colours

__all__ = [
    "DARK",
    "LIGHT",
    "SCRIPT_COLOURS",
    "Theme",
    "difference_plot",
    "heat_map",
    "measure_curves",
    "score_bars",
    "script_colours",
    "share_scatter",
]
