"""Sources by name: the readers of official files, and whatever packages register as `polylens.sources`.

A source is a function of keywords that gives samples; a part of a mix says which, and with what.
"""

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Literal

from polylens.data.readers.aokvqa import read_aokvqa
from polylens.data.readers.capfilt import read_capfilt
from polylens.data.readers.coco import read_coco
from polylens.data.readers.imagenet import read_imagenet
from polylens.data.readers.jsonl import read_jsonl
from polylens.data.readers.llava import read_llava
from polylens.data.readers.viscpm_tuning import read_m3it, read_unimm_chat
from polylens.data.readers.vqav2 import read_vqav2
from polylens.data.readers.webdataset import read_webdataset
from polylens.data.sample import Sample
from polylens.data.spec import Part
from polylens.errors import UserError
from polylens.languages import language

logger = logging.getLogger(__name__)

GROUP = "polylens.sources"
Source = Callable[..., Iterable[Sample]]
Policy = Literal["error", "skip"]
READERS: dict[str, Source] = {
    "aokvqa": read_aokvqa,
    "capfilt": read_capfilt,
    "coco": read_coco,
    "imagenet": read_imagenet,
    "jsonl": read_jsonl,
    "llava": read_llava,
    "m3it": read_m3it,
    "unimm-chat": read_unimm_chat,
    "vqav2": read_vqav2,
    "webdataset": read_webdataset,
}


def find_source(name: str) -> Source:
    """The source of that name. Raises `UserError` naming the nearest when there is none."""
    if name in READERS:
        return READERS[name]
    if name == "captions":
        raise UserError("The source 'captions' stands alone, as a recipe's data, and is no part of a mix.")
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = ["captions", *READERS, *points]
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(
            f"There is no source '{name}': the nearest is '{nearest}', all are {', '.join(known)}."
        )
    return points[name].load()


def read_part(part: Part) -> Iterator[Sample]:
    """The samples of a part's source, before anything is built out of them.

    Raises `UserError` for a source that is not there, and for options that it needs or does not know.
    """
    source = find_source(part.source)
    given: dict[str, Any] = {"path": part.path, "split": part.split, "tasks": part.tasks}
    options = {key: value for key, value in given.items() if value is not None} | part.options
    signature = inspect.signature(source)
    filtered = part.languages is not None and "languages" not in signature.parameters
    if part.languages is not None and not filtered:
        options["languages"] = part.languages
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"The source '{part.source}' cannot be read: {error}; see data.options.") from error
    samples = source(**options)
    if not filtered:
        yield from samples
        return
    codes = {language(code).code for code in part.languages or ()}
    yield from (sample for sample in samples if sample.language in codes)


@dataclass
class Unreadable:
    """What becomes of samples whose pictures are missing or broken, and how many there were.

    With `policy` "error" the first ends the reading; with "skip" they are left out and counted.
    """

    policy: Policy = "error"
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def keep(self, sample: Sample, look: Callable[[Sample], Any]) -> bool:
        """Whether `look(sample)` finds its pictures readable. Raises its `UserError` unless they are skipped."""
        try:
            look(sample)
        except UserError as error:
            if self.policy == "error":
                raise UserError(
                    f"{error} (Sample '{sample.id}' of {sample.source}; to leave such samples out, set"
                    " data.unreadable=skip.)"
                ) from error
            self.count += 1
            if len(self.examples) < 3:
                self.examples.append(str(error))
            return False
        return True

    def report(self, what: str) -> None:
        """Warn of what was left out, if anything was."""
        if self.count:
            logger.warning(
                "%s: left out %s samples whose pictures cannot be read, such as: %s",
                what,
                f"{self.count:,}",
                " ".join(self.examples),
            )


def pictures_are_there(sample: Sample) -> None:
    """Raises `UserError` when a picture's file is missing; does not decode it."""
    for picture in sample.images:
        _ = picture.key
