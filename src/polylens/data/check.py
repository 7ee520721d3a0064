"""Looks over samples before they are trained on: languages, texts that the model can write, lengths, pictures.

samples -> check_texts    -> one `TextFit` for each language
        -> check_pictures -> `PictureFit`: files, distinct pictures, those that are broken
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from polylens.data.images import FilePicture, StoredPicture
from polylens.data.sample import Picture, Sample, stored_at
from polylens.errors import UserError
from polylens.languages import language

# Answers that are tokenized of each language: enough for a share, and no wait.
SEEN = 2000
SAYABLE = 0.95
FITTING = 0.99
EXAMPLES = 3


@dataclass(frozen=True)
class TextFit:
    """How the answers in one language fit the model.

    `known` says whether the language model names the language, None where it names none. Of up to `SEEN` answers:
    `sayable` is the share that its tokenizer can write (no unknown token), `fitting` the share that is not cut by the
    recipe's `max_length`, `tokens` the median and `longest` the largest number of tokens.
    """

    language: str
    samples: int
    repeated: int
    known: bool | None
    sayable: float
    fitting: float
    tokens: float
    longest: int

    def warnings(self) -> list[str]:
        """What is off with the texts, in sentences."""
        name = f"{language(self.language).name} ({self.language})"
        found = []
        if self.sayable < SAYABLE:
            found.append(f"the tokenizer can write {self.sayable:.0%} of the captions in {name} only.")
        if self.fitting < FITTING:
            found.append(f"{1 - self.fitting:.0%} of the captions in {name} are cut at data.max_length.")
        return found


@dataclass
class PictureFit:
    """The pictures of the samples: `files` named, `distinct` by their bytes, and the sentences about `broken` ones."""

    files: int = 0
    distinct: int = 0
    broken: list[str] = field(default_factory=list)
    repeated: list[list[str]] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """What is likely to spoil the training, in sentences."""
        found = []
        if self.broken:
            shown = " ".join(self.broken[:EXAMPLES])
            found.append(f"{len(self.broken):,} pictures cannot be read, such as: {shown}")
        if self.repeated:
            first = " and ".join(f"'{name}'" for name in self.repeated[0][:2])
            count = self.files - len(self.broken) - self.distinct
            found.append(f"{count:,} pictures are copies of others, such as {first}.")
        return found


def check_texts(
    samples: Iterable[Sample],
    tokenize: Callable[[list[str]], list[list[int]]] | None,
    unknown_token: int | None,
    known: Collection[str] | None,
    max_length: int | None,
) -> list[TextFit]:
    """One row for each language of the answers, in their order; without `tokenize`, texts are not looked at."""
    texts: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    pairs: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for sample in samples:
        code = sample.language
        counts[code] += 1
        pairs[code].add((*(id(picture) for picture in sample.images), sample.turns))
        if len(texts[code]) < SEEN:
            texts[code].append(sample.turns[-1].answer)
    found = []
    for code, answers in texts.items():
        rows = tokenize(answers) if tokenize else [[]]
        lengths = [len(row) for row in rows]
        found.append(
            TextFit(
                language=code,
                samples=counts[code],
                repeated=counts[code] - len(pairs[code]),
                known=None if known is None else code in known,
                sayable=sum(unknown_token not in row for row in rows) / len(rows),
                fitting=1.0 if max_length is None else sum(n <= max_length for n in lengths) / len(rows),
                tokens=median(lengths),
                longest=max(lengths),
            )
        )
    return found


def check_pictures(
    samples: Iterable[Sample], advance: Callable[[int], None] = lambda count: None
) -> PictureFit:
    """Reads and decodes every distinct picture of the samples; `advance` hears how many files are done."""
    found = PictureFit()
    named: dict[str, Picture] = {}
    for sample in samples:
        for picture in sample.images:
            named.setdefault(stored_at(picture), picture)
    contents: dict[str, list[str]] = defaultdict(list)
    bad: dict[str, str] = {}
    for name, picture in named.items():
        found.files += 1
        try:
            content = content_of(picture)
            if content not in contents and content not in bad:
                picture.load()
            if content in bad:
                found.broken.append(bad[content])
            else:
                contents[content].append(name)
        except UserError as error:
            found.broken.append(str(error))
        advance(1)
    found.distinct = len(contents)
    found.repeated = [names for names in contents.values() if len(names) > 1]
    return found


def share_pictures(samples: Sequence[Sample]) -> list[Sample]:
    """The same samples, in which files of one content are one picture: it is encoded and cached once.

    A file that cannot be read stays as it is, for whoever looks at it to refuse.
    """
    seen: dict[int, Picture] = {}
    by_file: dict[tuple[int, ...], Picture] = {}
    by_content: dict[str, Picture] = {}

    def shared(picture: Picture) -> Picture:
        if id(picture) in seen or not isinstance(picture, FilePicture):
            return seen.get(id(picture), picture)
        try:
            status = os.stat(picture.path)
            # Names of one file need not be read again.
            file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if file not in by_file:
                by_file[file] = by_content.setdefault(content_of(picture), picture)
        except (OSError, UserError):
            return picture
        seen[id(picture)] = by_file[file]
        return by_file[file]

    found = []
    for sample in samples:
        images = tuple(shared(picture) for picture in sample.images)
        same = all(new is old for new, old in zip(images, sample.images, strict=True))
        found.append(sample if same else replace(sample, images=images))
    return found


def content_of(picture: Picture) -> str:
    """Names a picture's content: SHA-256 of its bytes, or its key where it is made rather than stored."""
    if isinstance(picture, StoredPicture):
        return hashlib.sha256(picture.read()).hexdigest()
    return picture.key


def text_warnings(texts: Sequence[TextFit]) -> list[str]:
    """What is likely to spoil the training, in sentences; all languages that are not known in one."""
    unknown = [f"{language(each.language).name} ({each.language})" for each in texts if each.known is False]
    found = []
    if unknown:
        found.append(
            f"the language model does not know {', '.join(unknown)}: leave "
            f"{'it' if len(unknown) == 1 else 'them'} out of data.languages."
        )
    return found + [sentence for each in texts for sentence in each.warnings()]


def as_json(texts: Sequence[TextFit], pictures: PictureFit | None = None) -> dict[str, Any]:
    """For JSON: `languages`, `pictures` and `warnings`."""
    warnings = text_warnings(texts)
    found: dict[str, Any] = {"languages": [asdict(each) for each in texts]}
    if pictures is not None:
        found["pictures"] = asdict(pictures)
        warnings += pictures.warnings()
    return found | {"warnings": warnings}
