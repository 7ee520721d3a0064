"""The likeliest of many candidate answers, exactly, without scoring them all.

The candidates of a sample are a tree of beginnings. What follows a beginning only lowers its score, so one that
is not above the best whole candidate cannot win and is never read. The tree is walked in passes, level by
level, that keep the most promising beginnings of every level: few at first, which soon end at a good whole
candidate, then more each time, until nothing is left in question.

    prompts read once -> a pass of width 2 -> of width 8 -> 32 ... -> the index of the best whole candidate

Shapes: S samples read together, R beginnings read together, K vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from polylens.data.sample import Sample
from polylens.models.decoding import Reader
from polylens.models.scoring import ROWS, Prompts, read_prompts

if TYPE_CHECKING:
    from polylens.models.visual import Visual
    from polylens.models.vlm import VisionLanguageModel

# Wider passes read more in vain, more passes walk more often over what was read.
FIRST_WIDTH, WIDENED = 2, 4


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
    trees = [_Tree(texts) for texts in answers]
    _grow([(tree, tree.root) for tree in trees], prompts.logits, depth=0)
    longest = max((len(answer) for texts in answers for answer in texts), default=1)
    width = FIRST_WIDTH
    while going := sum(tree.in_question for tree in trees):
        reader = Reader(model, prompts.copy(), longest)
        _walk(reader, trees, min(width, max(1, ROWS // going)))
        width *= WIDENED
    return [-tree.best[1] for tree in trees]


@dataclass(slots=True)
class _Beginning:
    """Candidates that begin alike and go on; `children` go one token further, None until this one was read."""

    token: int
    candidates: Sequence[int]
    bound: float  # no candidate of these whose score is not known yet has a higher one
    children: "list[_Beginning] | None" = None


@dataclass(slots=True, eq=False)
class _Tree:
    """One sample's candidates; `best` is the score of the best whole one so far, and its index, negated."""

    answers: Sequence[Sequence[int]]
    best: tuple[float, int] = (-float("inf"), 0)
    root: _Beginning = field(init=False)

    def __post_init__(self) -> None:
        self.root = _Beginning(-1, range(len(self.answers)), 0.0, [])

    @property
    def in_question(self) -> bool:
        return any(child.bound > self.best[0] for child in self.root.children or ())

    def next_tokens(self, node: _Beginning, depth: int) -> dict[int, list[int]]:
        """What may follow a beginning of `depth` tokens, each with the candidates that go on so."""
        following: dict[int, list[int]] = {}
        for candidate in node.candidates:
            following.setdefault(self.answers[candidate][depth], []).append(candidate)
        return following

    def add(
        self, node: _Beginning, token: int, candidates: Sequence[int], logprob: float, depth: int
    ) -> None:
        """Go on from a beginning to one of `depth` tokens, at which some candidates may end."""
        score = node.bound + logprob
        longer = [c for c in candidates if len(self.answers[c]) > depth]
        if len(longer) < len(candidates):
            ended = next(c for c in candidates if len(self.answers[c]) == depth)
            self.best = max(self.best, (score, -ended))
        if longer:
            assert node.children is not None
            node.children.append(_Beginning(token, longer, score))


_Level = list[tuple[_Tree, _Beginning]]


def _walk(reader: Reader, trees: Sequence[_Tree], width: int) -> None:
    """One pass, `width` beginnings of each sample at every level."""
    levels: list[_Level] = [[(tree, tree.root) for tree in trees]]
    while kept := list(_most_promising(levels[-1], width)):
        level = [(tree, node) for _, tree, node in kept]
        new = [node.children is None for _, node in level]
        reader.select([row for row, _, _ in kept])
        # What was read in an earlier pass is only walked through: its logits are known.
        logits = reader([node.token for _, node in level], at=new)
        _grow([one for one, is_new in zip(level, new, strict=True) if is_new], logits, depth=len(levels))
        levels.append(level)
    for level in reversed(levels[1:]):
        for _, node in level:
            node.bound = max((child.bound for child in node.children or ()), default=-float("inf"))


def _most_promising(level: _Level, width: int) -> Iterator[tuple[int, _Tree, _Beginning]]:
    """(row of the level, tree, beginning that goes on from there), best first of every tree."""
    for tree, rows in groupby(enumerate(level), key=lambda one: one[1][0]):
        least = tree.best[0]
        found = [
            (row, tree, child)
            for row, (_, node) in rows
            for child in node.children or ()
            if child.bound > least
        ]
        yield from sorted(found, key=lambda one: one[2].bound, reverse=True)[:width]


def _grow(level: _Level, logits_RK: torch.Tensor, depth: int) -> None:
    """Go on from beginnings of `depth` tokens, by the logits of the next."""
    if not level:
        return
    following = [tree.next_tokens(node, depth) for tree, node in level]
    width = max(len(each) for each in following)
    padded = torch.tensor(
        [[*each, *[0] * (width - len(each))] for each in following], device=logits_RK.device
    )
    logprobs = logits_RK.log_softmax(1).gather(1, padded).tolist()
    for (tree, node), each, values in zip(level, following, logprobs, strict=True):
        node.children = []
        for (token, candidates), logprob in zip(each.items(), values, strict=False):
            tree.add(node, token, candidates, logprob, depth + 1)
