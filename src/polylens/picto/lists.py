"""Names in a list, as each language separates them: "dog, tree", "犬、木"; and how well two lists agree."""

import re
from collections.abc import Sequence

from polylens.text import normalise

# The separator between the middle items of a list in CLDR 48.2 (cldr-misc-full, listPattern-type-standard), without
# direction marks. Arabic joins by a prefixed "and" and Thai by a space there, which could not be told from a name's
# own letters: they get the comma of their script.
SEPARATORS = {"ar": "، ", "fa": "، ", "am": "፣ ", "zh": "、", "ja": "、"}
COMMA = ", "
_ANY = re.compile(r"[,،፣、，]")


def separator(code: str) -> str:
    """What stands between two names of a list in that language."""
    return SEPARATORS.get(code, COMMA)


def joined(names: Sequence[str], code: str) -> str:
    """The names as one list in that language."""
    return separator(code).join(names)


def parts(text: str) -> set[str]:
    """The normalised items of a list, whatever its separator."""
    return {normalise(item) for item in _ANY.split(text) if item.strip()}


def set_match(said: str, wanted: str) -> float:
    """1.0 if both lists have the same items, in any order."""
    return float(parts(said) == parts(wanted))


def set_f1(said: str, wanted: str) -> float:
    """F1 of the two sets of items."""
    mine, theirs = parts(said), parts(wanted)
    common = len(mine & theirs)
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0
