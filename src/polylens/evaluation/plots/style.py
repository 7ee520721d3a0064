"""What all figures share: themes, colours of scripts, sizes, and how a figure becomes a small PNG.

Labels are in English, so that the font that comes with matplotlib has every letter. Nothing of pyplot's
global state is touched. One inch is 100 CSS pixels in the page.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image

from polylens.evaluation.summary import Row

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


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; `ramp` goes from the lowest to the highest value of a heat map."""

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


def inches(texts: Sequence[str]) -> float:
    """Width of the longest text at the labels' size."""
    return max(map(_width, texts)) / 72


@cache
def _width(text: str) -> float:
    """In points; the same languages are named in every figure, and outlines take long."""
    return float(TextPath((0, 0), text, size=FONT_SIZE).get_extents().width)


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """An empty figure of that many inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper)


def png(figure: Figure, theme: Theme) -> bytes:
    """The figure in 256 colours, which the eye cannot tell from all and take a third of the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=theme.paper)
    small = (
        Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    packed = io.BytesIO()
    small.save(packed, format="PNG", optimize=True, dpi=(DPI, DPI))
    return packed.getvalue()


def by_script(table: Iterable[Row]) -> list[list[Row]]:
    """Rows side by side that share a script."""
    return [list(group) for _, group in groupby(table, key=lambda row: row.script)]


def group_starts(groups: Sequence[Sequence[Any]], gap: float, single_gap: float) -> list[float]:
    """Where each group starts when members take 1 and groups are `gap` apart, two of one `single_gap`."""
    starts: list[float] = []
    for place, group in enumerate(groups):
        if not place:
            starts.append(0.0)
            continue
        before = groups[place - 1]
        starts.append(starts[-1] + len(before) + (gap if max(len(before), len(group)) > 1 else single_gap))
    return starts


def places_of(groups: Sequence[Sequence[Any]], gap: float, single_gap: float) -> list[float]:
    """Where each member of all groups starts."""
    starts = group_starts(groups, gap, single_gap)
    return [start + step for start, group in zip(starts, groups, strict=True) for step in range(len(group))]
