"""The text that Picto's language models learn from: names and keywords only, never a picture.

A document gives one concept: a source (a name or some keywords, in an unnamed language), then its names in other
languages, each announced by its language and ended by </s>:

    gato German: Katze</s> Swahili: paka</s> ...

Half of the sources are repeated until they are as long as a picture's visual tokens, which will later stand in
their place:

    gato gato gato gato gato gato gato gato Spanish: gato</s> German: Katze</s> ...

Only these are asked for their own language too: a text is to be translated, a picture to be named in any language.

Pictures are not always clear. So some repeated sources are mixed, token by token and more or less, with the names of
up to three other concepts, half of them of the same kind. Which one is meant is drawn by how much of each is read: what
is not likely to be meant is to stay possible.

The last stage adds lists, since pictures may show several things: two or three concepts, always in the same order:

    dog, tree German: Hund, Baum</s> Japanese: 犬、木</s>
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polylens.picto.lists import separator
from polylens.picto.prompts import MAX_KEYWORDS, keyword_prompt, prompt
from polylens.picto.world import concepts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REPEATED_LENGTH = 8
REPEATED_SHARE = 0.5
MAX_OTHERS = 3
# How many concepts a list has, and how often.
LIST_SIZES = (2, 2, 3)


def repeated(ids: Sequence[int], count: int) -> list[int]:
    """The first `count` of the tokens, said again and again: how visual tokens say a caption."""
    return [ids[at % len(ids)] for at in range(count)]


def texts(languages: Sequence[str]) -> list[str]:
    """Every name, keyword and prompt, as the tokenizer is trained on them."""
    rows = []
    for code in languages:
        for concept in concepts():
            name = concept.name(code)
            if name:
                rows += [name, ", ".join(concept.keywords(code))]
        rows += [prompt(code), keyword_prompt(code)] * 20
    return rows


@dataclass(frozen=True)
class Document:
    """Token ids; whether each is a target (prompts are not); and what it is mixed with, and how much of that."""

    ids: list[int]
    targets: list[bool]
    mixed: list[int]
    shares: list[float]


class Corpus:
    """Draws documents. The names are tokenized once; `lines` is the mean number of names per document."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", languages: Sequence[str]):
        self.languages = list(languages)
        self.eos = tokenizer.eos_token_id
        self.comma = tokenizer.convert_tokens_to_ids(",")

        def encode(rows: list[str]) -> list[list[int]]:
            return tokenizer(rows, add_special_tokens=False)["input_ids"]

        self.prompts = dict(zip(self.languages, encode([prompt(c) for c in self.languages]), strict=True))
        self.keyword_prompts = dict(
            zip(self.languages, encode([keyword_prompt(c) for c in self.languages]), strict=True)
        )
        everyone = list(enumerate(concepts()))
        self.kin = [
            [i for i, other in everyone if other.subgroup == concept.subgroup and i != index]
            for index, concept in everyone
        ]
        self.names: list[dict[str, list[int]]] = [{} for _ in concepts()]
        self.keywords: list[dict[str, list[list[int]]]] = [{} for _ in concepts()]
        for code in self.languages:
            known = [(i, c) for i, c in enumerate(concepts()) if c.name(code)]
            for (i, _), ids in zip(known, encode([c.name(code) or "" for _, c in known]), strict=True):
                self.names[i][code] = ids
            for i, concept in known:
                name = concept.name(code)
                words = [word for word in concept.keywords(code) if word != name]
                if words:
                    self.keywords[i][code] = encode(words)
        # What follows a name in a list: the separator's tokens, then the name as it is cut after them.
        mark = encode(["x"])[0]
        self.following: list[dict[str, list[int]]] = [{} for _ in concepts()]
        for code in self.languages:
            named = [i for i in range(len(self.names)) if code in self.names[i]]
            rows = encode([f"x{separator(code)}{concepts()[i].name(code)}" for i in named])
            for i, ids in zip(named, rows, strict=True):
                self.following[i][code] = ids[len(mark) :]

    def document(
        self,
        rng: random.Random,
        lines: float,
        english_share: float,
        mixed_share: float = 0.0,
        to_english_share: float = 0.0,
        keyword_share: float = 0.25,
    ) -> Document:
        """One concept: a source, then names (now and then keywords) in other languages.

        `english_share` of the sources are English; of the others, `to_english_share` ask for English first. Of the
        repeated sources, `mixed_share` are mixed with other names.
        """
        index = rng.randrange(len(self.names))
        names, keywords = self.names[index], self.keywords[index]
        source = "en" if rng.random() < english_share else rng.choice(list(names))
        alone = len(names) == 1
        from_keywords = source in keywords and (alone or rng.random() < keyword_share)
        if from_keywords:
            ids = self._list(rng, keywords[source], rng.randint(2, MAX_KEYWORDS))
        else:
            ids = list(names[source])
        is_repeated = not from_keywords and rng.random() < REPEATED_SHARE
        if is_repeated:
            ids = repeated(ids, max(REPEATED_LENGTH, len(ids)))
        mixed, shares = list(ids), [0.0] * len(ids)
        if is_repeated and mixed_share and rng.random() < mixed_share:
            others = [self._other(rng, index, source) for _ in range(rng.randint(1, MAX_OTHERS))]
            beside = rng.choices(others, k=len(ids))
            mixed = [(name := self.names[other][source])[at % len(name)] for at, other in enumerate(beside)]
            strength = max(rng.random(), rng.random())
            shares = [strength * rng.random() for _ in ids]
            (index,) = rng.choices([index, *beside], [len(ids) - sum(shares), *shares])
            names, keywords = self.names[index], self.keywords[index]
        targets = [False] * len(ids)
        asked = [code for code in names if code != source or from_keywords or is_repeated]
        count = min(len(asked), 1 + int(rng.expovariate(1 / max(lines - 1, 1e-6))))
        wanted = rng.sample(asked, count)
        if to_english_share and source != "en" and "en" in names and rng.random() < to_english_share:
            wanted = ["en", *(code for code in wanted if code != "en")]
        for code in wanted:
            if code in keywords and code != source and rng.random() < 0.1:
                asked_ids, answer = self.keyword_prompts[code], self._list(rng, keywords[code], MAX_KEYWORDS)
            else:
                asked_ids, answer = self.prompts[code], names[code]
            ids += [*asked_ids, *answer, self.eos]
            targets += [False] * len(asked_ids) + [True] * (len(answer) + 1)
        # Only the source is mixed with anything.
        beyond = len(ids) - len(shares)
        return Document(ids, targets, mixed + ids[len(shares) :], shares + [0.0] * beyond)

    def list_document(self, rng: random.Random, lines: float, english_share: float) -> Document:
        """Two or three concepts: their names as a list in one language, then as lists in others."""
        size = rng.choice(LIST_SIZES)
        picked: list[int] = []
        while len(picked) < size or not (known := self._common(picked)):
            picked = rng.sample(range(len(self.names)), size)
        source = "en" if "en" in known and rng.random() < english_share else rng.choice(known)
        ids = self._names(picked, source)
        targets = [False] * len(ids)
        count = min(len(known), 1 + int(rng.expovariate(1 / max(lines - 1, 1e-6))))
        for code in rng.sample(known, count):
            answer = self._names(picked, code)
            ids += [*self.prompts[code], *answer, self.eos]
            targets += [False] * len(self.prompts[code]) + [True] * (len(answer) + 1)
        return Document(ids, targets, list(ids), [0.0] * len(ids))

    def _common(self, picked: Sequence[int]) -> list[str]:
        """The languages in which all of these concepts have names."""
        return [code for code in self.languages if all(code in self.names[i] for i in picked)]

    def _names(self, picked: Sequence[int], code: str) -> list[int]:
        first, *others = picked
        return self.names[first][code] + [token for i in others for token in self.following[i][code]]

    def _other(self, rng: random.Random, index: int, code: str) -> int:
        """Another concept with a name in that language, every second time one of the same kind."""
        kin = [other for other in self.kin[index] if code in self.names[other]]
        if kin and rng.random() < 0.5:
            return rng.choice(kin)
        while code not in self.names[other := rng.randrange(len(self.names))]:
            pass
        return other

    def _list(self, rng: random.Random, words: list[list[int]], most: int) -> list[int]:
        """At most `most` of the words in random order, joined by commas."""
        ids: list[int] = []
        for word in rng.sample(words, min(len(words), most)):
            ids += [self.comma, *word] if ids else word
        return ids


@dataclass(frozen=True)
class PackedRows:
    """Documents in rows of one length, none cut but the last of a row. All (B, T) int64, `shares` float32.

    `labels` are -100 where no target, not shifted; `documents` numbers the documents of a row from 0. Of every token
    its share is the one in `mixed`.
    """

    ids: np.ndarray
    mixed: np.ndarray
    shares: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    documents: np.ndarray


def pack(draw: Callable[[], Document], rows: int, length: int) -> PackedRows:
    """Fill `rows` rows of `length` tokens with documents from `draw()`, cutting the last document of each row."""
    shape = (rows, length)
    ids, labels = np.zeros(shape, np.int64), np.full(shape, -100, np.int64)
    mixed, shares = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    positions, documents = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row in range(rows):
        start = number = 0
        while start < length:
            document = draw()
            size = min(len(document.ids), length - start)
            piece = slice(start, start + size)
            ids[row, piece] = document.ids[:size]
            mixed[row, piece] = document.mixed[:size]
            shares[row, piece] = document.shares[:size]
            labels[row, piece] = np.where(document.targets[:size], document.ids[:size], -100)
            positions[row, piece] = np.arange(size)
            documents[row, piece] = number
            start, number = start + size, number + 1
    return PackedRows(ids, mixed, shares, labels, positions, documents)
