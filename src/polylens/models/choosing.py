"""The likeliest of many candidate answers, exactly, without scoring them all.

The candidates of a sample are a tree of beginnings. What follows a beginning only lowers its score, so one that
is not above the best whole candidate cannot win and is never read. The tree is walked in passes, level by
level, that keep the most promising beginnings of every level: few at first, which soon end at a good whole
candidate, then more each time, until nothing is left in question.

    prompts read once -> a pass of width 2 -> of width 8 -> 32 ... -> the index of the best whole candidate

A sample that is read in several ways has a tree for all of them: a beginning is as likely as they say together. One
that could add next to nothing to the best whole candidate is not read further there.

Shapes: S samples read together, R rows of the language model (a beginning, read in one way), K vocabulary.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from polylens.data.sample import Sample
from polylens.models.decoding import Reader
from polylens.models.scoring import ROWS, Prompts, read_prompts
from polylens.models.vocabulary import normaliser

if TYPE_CHECKING:
    from polylens.models.visual import Visual
    from polylens.models.vlm import VisionLanguageModel

# Wider passes read more in vain, more passes walk more often over what was read.
FIRST_WIDTH, WIDENED = 2, 4
# Nats below the best whole candidate at which one way to read a beginning counts no more: a thousandth of it.
NEXT_TO_NOTHING = 7.0


def choose_candidates(
    model: "VisionLanguageModel",
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    visual: "Visual",
    batch_size: int,
) -> list[int]:
    """For every sample the index of its likeliest candidate; see `VisionLanguageModel.choose`."""
    collator = model.collator(with_pictures=False)
    ids = collator.all_answer_ids({text for texts in candidates for text in texts})
    chosen: list[int] = []
    first = 0
    for start in range(0, len(samples), batch_size):
        chunk = samples[start : start + batch_size]
        prompts = read_prompts(model, model.visual_batch(chunk, visual, first))
        first += sum(len(sample.images) for sample in chunk)
        answers = [[ids[text] for text in texts] for texts in candidates[start : start + batch_size]]
        chosen += choose_answers(model, prompts, answers)
    return chosen


def choose_answers(
    model: "VisionLanguageModel", prompts: Prompts, answers: Sequence[Sequence[list[int]]]
) -> list[int]:
    """For every prompt the index of its likeliest answer, given as tokens; `prompts` can be used again."""
    count = prompts.num_readings
    shares = [[0.0]] * len(answers) if prompts.log_shares is None else prompts.log_shares.tolist()
    trees = [_Tree(texts, dict(enumerate(logs))) for texts, logs in zip(answers, shares, strict=True)]
    roots: _Level = [
        (tree, tree.root, {way: at * count + way for way in range(count)}) for at, tree in enumerate(trees)
    ]
    _grow(roots, prompts.logits, depth=0)
    longest = max((len(answer) for texts in answers for answer in texts), default=1)
    width = FIRST_WIDTH
    while going := sum(tree.in_question for tree in trees):
        reader = Reader(model, prompts.copy(), longest)
        _walk(reader, roots, min(width, max(1, ROWS // (going * count))))
        width *= WIDENED
    return [-tree.best[1] for tree in trees]


@dataclass(slots=True)
class _Beginning:
    """Candidates that begin alike and go on; `children` go one token further, None until this one was read."""

    token: int
    candidates: Sequence[int]
    logprobs: Mapping[int, float]  # in every way that it was read
    bound: float  # no candidate of these whose score is not known yet has a higher one
    children: "list[_Beginning] | None" = None


@dataclass(slots=True, eq=False)
class _Tree:
    """One sample's candidates; `best` is the score of the best whole one so far, and its index, negated."""

    answers: Sequence[Sequence[int]]
    log_shares: Mapping[int, float]
    best: tuple[float, int] = (-float("inf"), 0)
    root: _Beginning = field(init=False)

    def __post_init__(self) -> None:
        self.root = _Beginning(-1, range(len(self.answers)), self.log_shares, 0.0, [])

    @property
    def in_question(self) -> bool:
        return any(child.bound > self.best[0] for child in self.root.children or ())

    def next_tokens(self, node: _Beginning, depth: int) -> dict[int, list[int]]:
        """What may follow a beginning of `depth` tokens, each with the candidates that go on so."""
        following: dict[int, list[int]] = {}
        for candidate in node.candidates:
            following.setdefault(self.answers[candidate][depth], []).append(candidate)
        return following

    def ways(self, node: _Beginning) -> list[int]:
        """The ways to read a beginning that still count."""
        return [way for way, log in node.logprobs.items() if log > self.best[0] - NEXT_TO_NOTHING]

    def add(
        self,
        node: _Beginning,
        token: int,
        candidates: Sequence[int],
        logprobs: Mapping[int, float],
        depth: int,
    ) -> None:
        """Go on from a beginning to one of `depth` tokens, at which some candidates may end."""
        score = _log_sum_exp(logprobs.values())
        longer = [c for c in candidates if len(self.answers[c]) > depth]
        if len(longer) < len(candidates):
            ended = next(c for c in candidates if len(self.answers[c]) == depth)
            self.best = max(self.best, (score, -ended))
        if longer:
            assert node.children is not None
            node.children.append(_Beginning(token, longer, logprobs, score))


# Beginnings of like depth, each with its rows: {way to read it: row}.
_Level = list[tuple[_Tree, _Beginning, dict[int, int]]]


def _walk(reader: Reader, roots: _Level, width: int) -> None:
    """One pass, `width` beginnings of each sample at every level."""
    levels = [roots]
    while kept := list(_most_promising(levels[-1], width)):
        level: _Level = []
        before: list[int] = []
        for tree, node, rows in kept:
            ways = tree.ways(node)
            level.append((tree, node, {way: len(before) + at for at, way in enumerate(ways)}))
            before += [rows[way] for way in ways]
        reader.select(before)
        # What was read in an earlier pass is only walked through: its logits are known.
        new = [one for one in level if one[1].children is None]
        read = [(node.token, node.children is None) for _, node, rows in level for _ in rows]
        logits = reader.logits_at([token for token, _ in read], at=[is_new for _, is_new in read])
        _grow(new, logits, depth=len(levels))
        levels.append(level)
    for level in reversed(levels[1:]):
        for _, node, _ in level:
            node.bound = max((child.bound for child in node.children or ()), default=-math.inf)


def _most_promising(level: _Level, width: int) -> Iterator[tuple[_Tree, _Beginning, dict[int, int]]]:
    """(tree, beginning that goes on from the level, rows that it goes on from), best first of every tree."""
    for tree, ones in groupby(level, key=lambda one: one[0]):
        least = tree.best[0]
        found = [
            (tree, child, rows)
            for _, node, rows in ones
            for child in node.children or ()
            if child.bound > least
        ]
        yield from sorted(found, key=lambda one: one[1].bound, reverse=True)[:width]


def _grow(level: _Level, logits_RK: torch.Tensor, depth: int) -> None:
    """Go on from beginnings of `depth` tokens, by the logits of the next, in the order of their rows."""
    if not level:
        return
    following = [tree.next_tokens(node, depth) for tree, node, _ in level]
    width = max(len(each) for each in following)
    padded = [[*each, *[0] * (width - len(each))] for each in following]
    tokens = [row for row, (_, _, rows) in zip(padded, level, strict=True) for _ in rows]
    found = logits_RK.gather(1, torch.tensor(tokens, device=logits_RK.device))
    values = iter((found - normaliser(logits_RK)).tolist())
    for (tree, node, rows), each in zip(level, following, strict=True):
        node.children = []
        by_way = {way: [node.logprobs[way] + value for value in next(values)] for way in rows}
        for at, (token, candidates) in enumerate(each.items()):
            tree.add(node, token, candidates, {way: logs[at] for way, logs in by_way.items()}, depth + 1)


def _log_sum_exp(values: Collection[float]) -> float:
    most = max(values)
    return most if len(values) == 1 else most + math.log(sum(math.exp(value - most) for value in values))
