"""Captions of the web, balanced by what they speak of: of every noun phrase at least so many, and at most so many.

    "two men in red shirts" --tagger--> "two men", "red shirts" --> {phrase: rows} --10 to 30 of each--> kept rows

A phrase that is rarer than the minimum keeps no row by itself; of one that is commoner than the maximum rows are drawn
by the seed. mBLIP balanced BLIP's captions in this way (arXiv 2307.06930, appendix on data).
"""

import hashlib
import json
import os
import random
import secrets
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import regex

from polylens.data.rows import json_array, text_field
from polylens.errors import UserError
from polylens.files import make_writable_folder

MODEL = "morphmodel_en.pgz"
WORD = regex.compile(r"[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*|[^\s]")
# Tags of the British National Corpus: adjectives, numbers and nouns make up a phrase, and a noun ends it.
INSIDE = ("AJ", "CRD", "ORD", "NN", "NP")
NOUNS = ("NN", "NP")
AT_ONCE = 2000


def noun_phrases(caption: str) -> list[str]:
    """The distinct noun phrases of an English caption, in small letters, without articles and pronouns.

    Raises `UserError` when the tagger is not installed.
    """
    words = WORD.findall(caption.lower())
    phrases: dict[str, None] = {}
    run: list[tuple[str, str]] = []
    for word, _, tag in [*_tagger().tag_sent(words), ("", "", "")] if words else []:
        if tag.startswith(INSIDE) and word[:1].isalnum():
            run.append((word, tag))
            continue
        while run and not run[-1][1].startswith(NOUNS):
            run.pop()
        if run:
            phrases[" ".join(word for word, _ in run)] = None
        run = []
    return list(phrases)


def balanced_rows(
    captions: Iterator[str],
    minimum: int = 10,
    maximum: int = 30,
    seed: int = 0,
    workers: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> set[int]:
    """The places of the captions that are kept. The result depends on the captions and the seed alone.

    Raises `UserError` for bounds that leave nothing.
    """
    if not 1 <= minimum <= maximum:
        raise UserError(
            f"The bounds are {minimum} and {maximum}: give a minimum from 1 on, and no smaller maximum."
        )
    _tagger()
    rows: dict[str, array[int]] = {}
    place = 0
    for found in _phrases_in_order(captions, workers):
        for phrases in found:
            for phrase in phrases:
                rows.setdefault(phrase, array("I")).append(place)
            place += 1
        advance(len(found))
    kept: set[int] = set()
    for phrase, places in rows.items():
        if len(places) > maximum:
            digest = hashlib.sha256(f"{seed}/{phrase}".encode()).digest()
            kept.update(random.Random(digest).sample(places, maximum))
        elif len(places) >= minimum:
            kept.update(places)
    return kept


def balance_file(
    path: str | Path,
    out: str | Path,
    minimum: int = 10,
    maximum: int = 30,
    seed: int = 0,
    workers: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[int, int]:
    """Write the kept rows of a JSON array of captions to `out`, as they are; returns (kept, all).

    Raises `UserError` for a file without captions, and when no row is left.
    """
    total = 0

    def captions() -> Iterator[str]:
        nonlocal total
        for number, row in json_array(path):
            total = number
            yield text_field(row, "caption", f"{path}, row {number}")

    kept = balanced_rows(captions(), minimum, maximum, seed, workers, advance)
    if not kept:
        raise UserError(f"No phrase in '{path}' comes {minimum} times: lower the minimum.")
    rows = (row for number, row in json_array(path) if number - 1 in kept)
    _write_array(rows, Path(out))
    return len(kept), total


def _write_array(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """One row a line, whole or not at all."""
    temporary = make_writable_folder(path.parent) / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows):
                file.write(("[" if not number else ",") + "\n" + json.dumps(row, ensure_ascii=False))
            file.write("\n]\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _phrases_in_order(captions: Iterator[str], workers: int) -> Iterator[list[list[str]]]:
    """The phrases of portion after portion; of several processes' work only a few portions wait in memory."""
    portions = iter(lambda: list(islice(captions, AT_ONCE)), [])
    if workers == 1:
        yield from map(_phrases_of, portions)
        return
    waiting: deque[Future[list[list[str]]]] = deque()
    with ProcessPoolExecutor(workers) as pool:
        for portion in portions:
            waiting.append(pool.submit(_phrases_of, portion))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _phrases_of(captions: Sequence[str]) -> list[list[str]]:
    return [noun_phrases(caption) for caption in captions]


@cache
def _tagger() -> Any:
    try:
        from HanTa.HanoverTagger import HanoverTagger
    except ImportError as error:
        raise UserError("Noun phrases need a tagger: pip install 'polylens[phrases]'.") from error
    return HanoverTagger(MODEL)
