"""How many samples each language gets: shares of a corpus, flattened by a temperature, cut into whole samples."""

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.languages import LANGUAGES, language, language_codes

TABLES = ("mc4", "mt5", "equal")
Table = Literal["mc4", "mt5", "equal"]
Key = TypeVar("Key", bound=Hashable)


def shares(
    table: str | Path, languages: Iterable[str] | None = None, temperature: float = 1.0
) -> dict[str, float]:
    """{language: share}, adding up to 1, in the order of the table of languages or of the file.

    `table` is "mc4", the corpus as crawled, "mt5", the same smoothed as mT5 drew it, "equal", or a JSON file
    {code: number}. Of `languages`, only those, with their shares among themselves; "equal" without `languages` are
    all of NLLB-200's. A temperature T raises shares to the power 1/T: 1 leaves them, a high one makes them equal.
    Raises `UserError` for a table that is off, or that lacks one of the languages.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UserError(f"The temperature is {temperature}: it must be above 0, and 1 changes nothing.")
    weights = _weights(table)
    if languages is not None:
        codes = language_codes(languages)
        missing = [code for code in codes if code not in weights]
        if missing:
            raise UserError(
                f"The shares '{table}' have no number for {', '.join(missing)}: leave out such languages, or give "
                "a table of your own."
            )
        weights = {code: weights[code] for code in codes}
    elif str(table) == "equal":
        weights = {code: weight for code, weight in weights.items() if LANGUAGES[code].nllb}
    # The largest first divided out, so that no power overflows.
    largest = max(weights.values())
    powers = {code: (weight / largest) ** (1 / temperature) for code, weight in weights.items()}
    total = math.fsum(powers.values())
    return {code: power / total for code, power in powers.items()}


def allocate(shares: Mapping[Key, float], num_samples: int) -> dict[Key, int]:
    """Whole numbers in proportion to the shares, adding up to `num_samples`, by the largest remainders.

    Of equal remainders the first language's is the larger.
    """
    exact = {code: share * num_samples for code, share in shares.items()}
    counts = {code: math.floor(number) for code, number in exact.items()}
    by_remainder = sorted(exact, key=lambda code: counts[code] - exact[code])
    for code in by_remainder[: num_samples - sum(counts.values())]:
        counts[code] += 1
    return counts


def assign(ids: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """The language of each sample, in order. It depends on the ids and the seed, not on their order.

    Ids must differ from each other.
    """

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{seed}/{ids[number]}".encode()).digest()

    languages = [""] * len(ids)
    order = iter(sorted(range(len(ids)), key=place))
    for code, count in allocate(shares, len(ids)).items():
        for _ in range(count):
            languages[next(order)] = code
    return languages


def _weights(table: str | Path) -> dict[str, float]:
    if str(table) == "equal":
        return dict.fromkeys(LANGUAGES, 1.0)
    if str(table) in TABLES:
        by_code = {code: getattr(entry, f"{table}_share") for code, entry in LANGUAGES.items()}
        return {code: share for code, share in by_code.items() if share is not None}
    if not Path(table).is_file():
        raise UserError(f"No shares '{table}': give {', '.join(TABLES)}, or a JSON file of your own.")
    return _own_weights(Path(table))


def _own_weights(path: Path) -> dict[str, float]:
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"'{path}' holds no shares: write {json.dumps({'de': 3, 'sw': 1})}.")
    weights: dict[str, float] = {}
    for spelling, number in content.items():
        code = language(spelling).code
        if code in weights:
            raise UserError(f"'{path}': '{spelling}' is a second spelling of '{code}': give it one share.")
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
            raise UserError(f"'{path}': the share of '{spelling}' is {json.dumps(number)}: give one above 0.")
        weights[code] = float(number)
    return weights
