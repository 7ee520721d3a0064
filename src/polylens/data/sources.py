"""Sources by name: the readers of official files, and whatever packages register as `polylens.sources`.

A source is a function of keywords that gives samples; a part of a mix says which, and with what.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from polylens.data.captions import captions
from polylens.data.options import checked_options
from polylens.data.readers.aokvqa import read_aokvqa
from polylens.data.readers.capfilt import read_capfilt
from polylens.data.readers.coco import read_coco
from polylens.data.readers.gqa import read_gqa
from polylens.data.readers.imagenet import read_imagenet
from polylens.data.readers.jsonl import read_jsonl
from polylens.data.readers.karpathy import read_karpathy
from polylens.data.readers.llava import read_llava
from polylens.data.readers.mblip_train import read_mblip_train
from polylens.data.readers.nlvr2 import read_nlvr2
from polylens.data.readers.snli_ve import read_snli_ve
from polylens.data.readers.viscpm_tuning import read_m3it, read_unimm_chat
from polylens.data.readers.vqav2 import read_vqav2
from polylens.data.readers.webdataset import read_webdataset
from polylens.data.sample import Sample
from polylens.data.spec import Part
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError
from polylens.languages import language_codes

GROUP = "polylens.sources"
Source = Callable[..., Iterable[Sample]]
READERS: dict[str, Source] = {
    "aokvqa": read_aokvqa,
    "capfilt": read_capfilt,
    "captions": captions,
    "coco": read_coco,
    "gqa": read_gqa,
    "imagenet": read_imagenet,
    "jsonl": read_jsonl,
    "karpathy": read_karpathy,
    "llava": read_llava,
    "m3it": read_m3it,
    "mblip-train": read_mblip_train,
    "nlvr2": read_nlvr2,
    "snli-ve": read_snli_ve,
    "unimm-chat": read_unimm_chat,
    "vqav2": read_vqav2,
    "webdataset": read_webdataset,
}


def find_source(name: str) -> Source:
    """The source of that name. Raises `UserError` naming the nearest when there is none."""
    if name in READERS:
        return READERS[name]
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = [*READERS, *points]
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(
            f"There is no source '{name}': the nearest is '{nearest}', all are {', '.join(known)}."
        )
    return points[name].load()


def read_part(part: Part) -> Iterator[Sample]:
    """The samples of a part's source, before anything is built out of them. Raises `UserError` as `opened` does."""
    yield from opened(part)(Unreadable())


def opened(part: Part) -> Callable[[Unreadable], Iterable[Sample]]:
    """What reads a part's source, each time anew; it is told what becomes of rows that cannot be read.

    Raises `UserError` for a source that is not there, for options that it needs or does not know or that are of
    another type, and for a language that is not known.
    """
    source = find_source(part.source)
    given: dict[str, Any] = {"path": part.path, "split": part.split, "tasks": part.tasks}
    options = {key: value for key, value in given.items() if value is not None} | part.options
    codes = None if part.languages is None else set(language_codes(part.languages))
    filtered = codes is not None and "languages" not in inspect.signature(source).parameters
    if codes is not None and not filtered:
        options["languages"] = part.languages
    options = checked_options(source, part.source, options)

    def read(unreadable: Unreadable) -> Iterable[Sample]:
        told = {"unreadable": unreadable} if "unreadable" in inspect.signature(source).parameters else {}
        samples = source(**options, **told)
        if codes is None or not filtered:
            return samples
        return (sample for sample in samples if sample.language in codes)

    return read
