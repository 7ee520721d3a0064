"""What a model does not know: languages that its language model never read, and pictures of another kind.

A package that brings a model along registers its `Limits` as an entry point of the group `polylens.limits`, under the
model's name. Commands and evaluations say them to whoever uses the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from PIL import Image

from polylens.languages import language

ENTRY_POINTS = "polylens.limits"


@dataclass(frozen=True)
class Limits:
    """`knows` goes on after "the packaged model 'x' knows"; `fits` tells whether a picture is of that kind, which is
    called `kind` ("a pictogram") in messages and `flag` in JSON. An answer whose probability is below `sure` is
    doubtful.
    """

    knows: str
    kind: str
    flag: str
    fits: Callable[[Image.Image], bool]
    sure: float

    def note(self, model: str) -> str:
        """What the model knows, in a sentence."""
        return f"the packaged model '{model}' knows {self.knows}"

    def warning(self, picture: str) -> str:
        """What is said of a picture that does not fit."""
        return f"'{picture}' does not look like {self.kind}, so what the model says of it means little."


def limits_of(model: str) -> Limits | None:
    """The limits of the model of that name, if somebody registered them."""
    for point in entry_points(group=ENTRY_POINTS, name=model):
        return point.load()
    return None


def not_among(known: Sequence[str] | None, codes: Sequence[str]) -> list[str]:
    """Those of `codes` that are not among the `known` ones, however those are spelled; none for None."""
    if known is None:
        return []
    known_codes = {language(code).code for code in known}
    return [code for code in codes if code not in known_codes]
