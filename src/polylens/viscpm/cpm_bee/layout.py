"""From a dictionary to the arrays that CPM-Bee reads.

    {"question": "Who?", "<ans>": ""}

                      root           0  <s> <root> </s>          key or value, depth first:
                     /    \\             1  <s> question </s>       every segment is one node of a tree
              question    <ans>          2  <s> Who? </s>
                  |         |            3  <s> <ans> </s>
                Who?       (...)         4  <s> ...               no </s>: this is to be predicted

Shapes: B dictionaries, T tokens of the longest, S segments of the one with most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from polylens.errors import UserError
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer

ANSWER = "<ans>"
IMAGE = "image"
IGNORED = -100
MAX_STEPS = 7  # up or down the tree; more count as this many

Data = Mapping[str, "Data | str"]


@dataclass
class Encoded:
    """One dictionary as lists: T tokens, S segments.

    `ids` and `subs` (T) are tokens and their sub-ids, `segments` (T) the segment of each, `context` (T) 0 where a token
    is to be predicted; `relations` (S x S, row by row) the buckets of segment pairs; `images` the places [begin, end)
    that take visual tokens; `words` what (id, sub-id) pairs of unknown words and numbered specials stand for. A row
    that is not `whole` has lost the end of its answer, which is then not trained to stop there.
    """

    ids: list[int] = field(default_factory=list)
    subs: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    context: list[int] = field(default_factory=list)
    relations: list[int] = field(default_factory=list)
    num_segments: int = 0
    images: list[tuple[int, int]] = field(default_factory=list)
    words: dict[tuple[int, int], str] = field(default_factory=dict)
    whole: bool = True

    def first(self, count: int) -> "Encoded":
        """The first `count` tokens."""
        cut: dict[str, Any] = {
            name: getattr(self, name)[:count] for name in ("ids", "subs", "segments", "context")
        }
        return replace(self, whole=False, **cut)

    def without_answer(self) -> "Encoded":
        """The tokens that are read before an answer is generated: all but those to be predicted."""
        kept = [at for at, context in enumerate(self.context) if context]
        cut: dict[str, Any] = {
            name: [getattr(self, name)[at] for at in kept] for name in ("ids", "subs", "segments", "context")
        }
        shifts = [self.context[:begin].count(0) for begin, _ in self.images]
        moved = [(begin - by, end - by) for (begin, end), by in zip(self.images, shifts, strict=True)]
        return replace(self, images=moved, **cut)


@dataclass
class CpmBeeBatch:
    """What a `CpmBee` reads; padded on the right.

    `input_ids`, `input_subs`, `segments` (B, T) int64; `mask` (B, T) True where there is a token; `context` (B, T) True
    where a token is seen by all; `relations` (B, S, S); `image_mask` (B, T) True where a visual token goes, row by row;
    `extension` (E, 2) the (id, sub-id) pairs with a column of logits of their own beyond the vocabulary; `labels`
    (B, T), aligned with the states that predict them, -100 where there is no target.
    """

    input_ids: torch.Tensor
    input_subs: torch.Tensor
    segments: torch.Tensor
    mask: torch.Tensor
    context: torch.Tensor
    relations: torch.Tensor
    image_mask: torch.Tensor
    extension: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> "CpmBeeBatch":
        """The same batch with its tensors on `device`."""
        return CpmBeeBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class _Segment:
    text: str
    parents: tuple[int, ...]  # from the root down to itself
    predicted: bool
    image: bool


def encode_data(tokenizer: CpmBeeTokenizer, data: Data) -> Encoded:
    """The arrays of a dictionary with text, or further dictionaries, as values.

    Values are CPM-Bee's own notation: `<name>` is a special token, `<<` a plain `<`. Raises `UserError` for a special
    token that the vocabulary does not know, and for a value of another type.
    """
    segments = list(_segments(data))
    encoded = Encoded(num_segments=len(segments))
    table: dict[int, str] = {}
    subs_of: dict[int, dict[int, int]] = {}
    for number, segment in enumerate(segments):
        ids, table = tokenizer.encode(segment.text, table)
        tokens = [_known(tokenizer, i, table, subs_of) for i in ids]
        encoded.words |= {
            token: table[i] for i, token in zip(ids, tokens, strict=True) if i >= len(tokenizer)
        }
        begin = len(encoded.ids) + 1
        if segment.image:
            encoded.images.append((begin, begin + len(tokens)))
        tokens = [(tokenizer.bos_id, 0), *tokens]
        if not segment.predicted:
            tokens.append((tokenizer.eos_id, 0))
        encoded.ids += [i for i, _ in tokens]
        encoded.subs += [sub for _, sub in tokens]
        encoded.segments += [number] * len(tokens)
        encoded.context += [0 if segment.predicted else 1] * len(tokens)
    encoded.relations = [_relation(one.parents, other.parents) for one in segments for other in segments]
    return encoded


def _segments(data: Data) -> Iterator[_Segment]:
    """The root, then every key and value below it, depth first."""
    numbers = iter(range(1_000_000_000))

    def below(value: Any, parents: tuple[int, ...], top: str | None) -> Iterator[_Segment]:
        if isinstance(value, str):
            predicted, image = top == ANSWER, top == IMAGE
            yield _Segment(value, (*parents, next(numbers)), predicted, image)
            return
        if not isinstance(value, Mapping):
            raise UserError(
                f"A dictionary for CPM-Bee holds texts and dictionaries, but '{top}' holds {value!r}."
            )
        for key, inner in value.items():
            mine = (*parents, next(numbers))
            yield _Segment(key, mine, False, False)
            yield from below(inner, mine, top or key)

    root = (next(numbers),)
    yield _Segment("<root>", root, False, False)
    yield from below(data, root, None)


def _relation(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """The bucket of a pair of segments, by the steps up to their lowest common ancestor and down again."""
    if one == other:
        return 0
    shared = sum(a == b for a, b in zip(one, other, strict=False))
    up, down = min(len(one) - shared, MAX_STEPS), min(len(other) - shared, MAX_STEPS)
    return up * (MAX_STEPS + 1) + down + 1


def _known(
    tokenizer: CpmBeeTokenizer, i: int, table: Mapping[int, str], subs_of: dict[int, dict[int, int]]
) -> tuple[int, int]:
    """(id in the vocabulary, sub-id); words beyond the vocabulary count by their first appearance."""
    if i < len(tokenizer):
        return i, 0
    word, known = table[i], tokenizer.unk_id
    if word.startswith("<") and word.endswith(">"):
        name = f"<{word[1:-1].split('_', maxsplit=1)[0]}>"
        if name not in tokenizer.ids:
            raise UserError(f"'{word}' is no special token of this vocabulary: write '<<' for a plain '<'.")
        known = tokenizer.ids[name]
    subs = subs_of.setdefault(known, {})
    return known, subs.setdefault(i, len(subs))


def collate_data(
    rows: Sequence[Encoded], tokenizer: CpmBeeTokenizer, length: int | None = None
) -> CpmBeeBatch:
    """One batch of dictionaries, padded to the longest, or to `length`."""
    length = length or max(len(row.ids) for row in rows)
    size = max(row.num_segments for row in rows)
    shape = (len(rows), length)
    batch = CpmBeeBatch(
        input_ids=torch.full(shape, tokenizer.pad_id),
        input_subs=torch.zeros(shape, dtype=torch.long),
        segments=torch.zeros(shape, dtype=torch.long),
        mask=torch.zeros(shape, dtype=torch.bool),
        context=torch.zeros(shape, dtype=torch.bool),
        relations=torch.zeros(len(rows), size, size, dtype=torch.long),
        image_mask=torch.zeros(shape, dtype=torch.bool),
        extension=torch.empty(0),
        labels=torch.full(shape, IGNORED),
    )
    columns: dict[tuple[int, int], int] = {}
    for number, row in enumerate(rows):
        for pair in zip(row.ids, row.subs, strict=True):
            if pair[1]:
                columns.setdefault(pair, len(tokenizer) + len(columns))
        used = slice(0, len(row.ids))
        batch.input_ids[number, used] = torch.tensor(row.ids)
        batch.input_subs[number, used] = torch.tensor(row.subs)
        batch.segments[number, used] = torch.tensor(row.segments)
        batch.mask[number, used] = True
        batch.context[number, used] = torch.tensor(row.context, dtype=torch.bool)
        n = row.num_segments
        batch.relations[number, :n, :n] = torch.tensor(row.relations).view(n, n)
        for begin, end in row.images:
            batch.image_mask[number, begin:end] = True
        targets = _targets(row, tokenizer, columns)
        batch.labels[number, used] = torch.tensor(targets)
    # As the original has it, there is always a column beyond the vocabulary; where no word needs one, it is this.
    batch.extension = torch.tensor(list(columns) or [(tokenizer.pad_id, 1)])
    return batch


def _targets(row: Encoded, tokenizer: CpmBeeTokenizer, columns: Mapping[tuple[int, int], int]) -> list[int]:
    """For every token to be predicted the next one of its segment, and after the last the end."""
    tokens = [columns.get(pair, pair[0]) for pair in zip(row.ids, row.subs, strict=True)]
    targets = []
    for at, context in enumerate(row.context):
        goes_on = at + 1 < len(tokens) and row.segments[at + 1] == row.segments[at]
        end = tokenizer.eos_id if row.whole else IGNORED
        targets.append(IGNORED if context else tokens[at + 1] if goes_on else end)
    return targets
