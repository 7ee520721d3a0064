"""Own data: a folder with `captions.jsonl` and its images. One line is one image:

    {"image": "dog.jpg", "captions": {"de": ["Ein Hund.", "Ein brauner Hund."], "en": ["A dog."]}, "year": 2}

`image` is a path in the folder, in its `images` folder, or anywhere when absolute. Other fields are kept.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from polylens.data.images import FilePicture, StoredPicture
from polylens.data.prompts import caption_prompt
from polylens.data.rows import check_text, json_lines
from polylens.data.sample import Picture, Sample, Turn
from polylens.data.unreadable import Policy, Unreadable
from polylens.errors import UserError
from polylens.files import find_file
from polylens.languages import language, language_codes

logger = logging.getLogger(__name__)

FILE_NAME = "captions.jsonl"
# What is no language: how many captions, the first line, and what may be meant.
Strange = dict[str, tuple[int, int, str]]


def read_captions(
    folder: str | Path,
    languages: Iterable[str] | None = None,
    prompt: Callable[[str], str] = caption_prompt,
    policy: Policy = "error",
    unknown: Policy | None = None,
) -> list[Sample]:
    """One sample per caption, in the file's order; only those in `languages` (any spelling) if given.

    `prompt` gives the question for a language's code; `Layout.ask_caption` asks as a model is used to.
    Captions stay as they are written, also in their Unicode normalisation. With the `policy` "skip", images that are
    missing and captions that cannot be read are left out and counted aloud; so are, by `unknown`, those in languages
    that are not known: where `languages` are given, else as `policy` says. Raises `UserError`, with the line, for
    what is not as described above, for an image in two lines, and when nothing is left; and one for all languages
    that are not known.
    """
    unreadable = Unreadable(policy)
    samples = list(_samples(Path(folder) / FILE_NAME, languages, prompt, unreadable, unknown))
    unreadable.report(str(folder))
    return samples


def captions(
    *, path: str | Path, languages: Sequence[str] | None = None, unreadable: Unreadable | None = None
) -> Iterator[Sample]:
    """One's own captions as the source of a mix; `extra["image"]` names the picture. Errors are those of
    `read_captions`.
    """
    for sample in _samples(
        Path(path) / FILE_NAME, languages, caption_prompt, unreadable or Unreadable(), None
    ):
        yield replace(sample, extra=sample.extra | {"image": sample.id.rsplit(":", 2)[0]})


def _samples(
    path: Path,
    languages: Iterable[str] | None,
    prompt: Callable[[str], str],
    unreadable: Unreadable,
    unknown: Policy | None,
) -> Iterator[Sample]:
    wanted = None if languages is None else set(language_codes(languages))
    unknown = unknown or (unreadable.policy if wanted is None else "skip")
    prompt = cache(prompt)  # once for all rows
    found: set[str] = set()
    strange: Strange = {}
    lines: dict[Path, int] = {}
    some = False
    source = path.parent.resolve().name
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        picture = unreadable.made(partial(_picture, row, path.parent, where))
        if picture is None:
            continue
        first = lines.setdefault(picture.path, number)
        if first != number:
            raise UserError(
                f"{where}: the image '{row['image']}' is also in line {first}: put its captions together."
            )
        extra = {key: value for key, value in row.items() if key not in ("image", "captions")}
        for code, texts in _captions(row, where, strange, number).items():
            found.add(code)
            if wanted is not None and code not in wanted:
                continue
            for i, text in enumerate(texts):
                told = f"{where}: caption {i + 1} in '{code}'"
                if unreadable.made(partial(_check_caption, text, told)) is None:
                    continue
                some = True
                yield Sample(
                    id=f"{row['image']}:{code}:{i}",
                    images=(picture,),
                    turns=(Turn(prompt(code), text),),
                    language=code,
                    task="caption",
                    source=source,
                    extra=extra,
                )
    if strange:
        told = ", ".join(
            f"'{key}' ({count} captions, first in line {line}; {hint})"
            for key, (count, line, hint) in strange.items()
        )
        if unknown == "error":
            raise UserError(
                f"{path} has captions in what are no languages here: {told}. Write their codes as in BCP 47, name the "
                "languages that you want, or leave these out with data.unreadable=skip."
            )
        logger.warning("%s: left out captions in what are no languages here: %s.", path, told)
    if not some:
        there = f"it has {', '.join(sorted(found))}" if found else "the file is empty"
        asked = f" in {', '.join(sorted(wanted))}" if wanted is not None else ""
        raise UserError(f"{path} has no captions{asked}: {there}.")


def with_references(samples: Iterable[Sample]) -> list[tuple[Sample, list[str]]]:
    """Items to score: the first sample of every image, language and question, with the answers of all."""
    grouped: dict[tuple[Any, ...], tuple[Sample, list[str]]] = {}
    for sample in samples:
        pictures, prompts = (p.key for p in sample.images), (turn.prompt for turn in sample.turns)
        key = (tuple(pictures), sample.language, tuple(prompts))
        grouped.setdefault(key, (sample, []))[1].append(sample.turns[-1].answer)
    return list(grouped.values())


def split_by_image(samples: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Split into about `share` for training and the rest for testing, by SHA-256 of the images' bytes.

    An image falls on the same side whatever its name, captions and the rest of the data; low hashes train.
    Raises `UserError` for a share outside 0 to 1, and for a sample without an image.
    """
    if not 0 <= share <= 1:
        raise UserError(f"The share to train on is {share}: it must be from 0 to 1.")
    # Pictures that are one object are read once; the samples keep them alive, so ids do not come twice.
    places: dict[tuple[int, ...], float] = {}
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    for sample in samples:
        if not sample.images:
            raise UserError(f"Sample '{sample.id}' has no image to split by: leave it out of the split.")
        key = tuple(id(picture) for picture in sample.images)
        if key not in places:
            places[key] = place_of(sample.images)
        parts[places[key] >= share].append(sample)
    return parts


def place_of(pictures: Sequence[Picture]) -> float:
    """A number in [0, 1) from the images' content: what splits are made by."""
    digest = hashlib.sha256()
    for picture in pictures:
        # A picture that is made rather than stored has its pixels for bytes.
        digest.update(picture.read() if isinstance(picture, StoredPicture) else picture.load().tobytes())
    # 53 bits fill a float exactly, so the place is below 1.
    return (int.from_bytes(digest.digest()[:8]) >> 11) / 2**53


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(
            f"There is no {FILE_NAME} in '{path.parent}': write one, or give the folder that holds it."
        )
    yield from json_lines(path)


def _picture(row: dict[str, Any], folder: Path, where: str) -> FilePicture:
    name = row.get("image")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f'{where}: no image: write "image": "name.jpg".')
    path = find_file(folder, name) or find_file(folder / "images", name)
    if path is None:
        raise UserError(f"{where}: the image '{name}' is neither in '{folder}' nor in its folder 'images'.")
    if not path.is_file():
        raise UserError(f"{where}: the image '{name}' is not a file.")
    return FilePicture(path)


def _captions(row: dict[str, Any], where: str, strange: Strange, number: int) -> dict[str, list[Any]]:
    """{code: captions} of a row; what is no language is added to `strange`."""
    captions = row.get("captions")
    if not isinstance(captions, dict) or not captions:
        raise UserError(f'{where}: no captions: write "captions": {{"de": ["Ein Hund."]}}.')
    by_language: dict[str, list[Any]] = {}
    for spelling, texts in captions.items():
        if not isinstance(texts, list) or not texts:
            raise UserError(f"{where}: the captions in '{spelling}' are no list: write [\"...\"].")
        try:
            code = language(spelling).code
        except UserError as error:
            count, first, hint = strange.get(
                spelling, (0, number, str(error).partition(": ")[2].rstrip("?."))
            )
            strange[spelling] = count + len(texts), first, hint
            continue
        if code in by_language:
            raise UserError(
                f"{where}: '{spelling}' is a second spelling of '{code}': put its captions together."
            )
        by_language[code] = texts
    return by_language


def _check_caption(text: Any, where: str) -> str:
    if not isinstance(text, str):
        raise UserError(f"{where} is {json.dumps(text)[:40]}: write a text in quotes.")
    return check_text(text, where)
