"""The likeliest of many candidate answers, exactly, without scoring them all.

Every further token lowers a candidate's score. So a candidate whose beginning scores no more than the best whole
candidate cannot win, and is not read to its end. Candidates that begin alike are read together. They are walked
through in passes, token by token. A pass keeps the most promising beginnings of each length: few at first, which soon
reach a good whole candidate, then more in each pass, until no candidate can still win.

    prompts read once -> a pass of width 1 -> of width 4 -> 16 ... -> the index of the best whole candidate

Measured on 2026-12-01: choosing among 100 German names for 16 pictures is 9.9 times as fast as scoring all (9.9 to
10.6), with a small model in float32, in processor time of one thread of an AMD EPYC.

Shapes: S samples, P pairs of a sample and a candidate, Q of these, D distinct candidates, A tokens of the longest,
N distinct beginnings of all candidates, G of the pairs, each a row of the language model.
"""

import math
from collections.abc import Sequence

import torch

from polylens.data.collate import pad_rows
from polylens.models.decoding.interface import Decodable
from polylens.models.decoding.scoring import ROWS, Prompts
from polylens.models.decoding.search import Reader
from polylens.models.decoding.vocabulary import normaliser

# Wider passes read more in vain, more passes walk more often over what was read.
FIRST_WIDTH, WIDENED = 1, 4


def choose_texts(model: Decodable, prompts: Prompts, candidates: Sequence[Sequence[str]]) -> list[int]:
    """For every sample the index of its likeliest candidate, of which there is at least one."""
    collator = model.collator(with_pictures=False)
    ids = collator.all_answer_ids({text for texts in candidates for text in texts})
    return choose_answers(model, prompts, [[ids[text] for text in texts] for texts in candidates])


def choose_answers(model: Decodable, prompts: Prompts, answers: Sequence[Sequence[list[int]]]) -> list[int]:
    """For every sample the index of its likeliest answer, given as tokens."""
    field = _Field(prompts, answers)
    pairs_Q = torch.arange(len(field.sample_P), device=field.sample_P.device)
    field.find_best(pairs_Q)
    width = FIRST_WIDTH
    while True:
        open_Q = field.bounds(pairs_Q) > -math.inf
        num_samples = len(field.sample_P[pairs_Q[open_Q]].unique())
        if not num_samples:
            return (field.best_S - field.first_S).tolist()
        pairs_Q = pairs_Q[open_Q]
        reader = Reader(model, prompts.copy())
        _walk(reader, field, pairs_Q, min(width, max(WIDENED, ROWS // num_samples)))
        width *= WIDENED


class _Field:
    """All pairs of a sample and a candidate, what is known of them, and the best candidates found so far."""

    def __init__(self, prompts: Prompts, answers: Sequence[Sequence[list[int]]]) -> None:
        """Of every candidate the first token is known."""
        device = prompts.logits.device
        distinct: dict[tuple[int, ...], int] = {}
        answer_P = [distinct.setdefault((*ids,), len(distinct)) for texts in answers for ids in texts]
        nodes: dict[tuple[int, ...], int] = {(): 0}
        node_DA = [
            [nodes.setdefault(ids[: at + 1], len(nodes)) for at in range(len(ids))] for ids in distinct
        ]
        # The distinct beginnings are the nodes of a tree, and a candidate is the path to its own.
        self.node_DA = pad_rows(node_DA, 0, left=False).to(device)
        self.token_N = torch.tensor([0, *(ids[-1] for ids in nodes if ids)], device=device)
        self.length_D = torch.tensor([*map(len, distinct)], device=device)
        count_S = torch.tensor([*map(len, answers)], device=device)
        self.first_S = count_S.cumsum(0) - count_S  # a sample's first pair
        self.sample_P = torch.arange(len(answers), device=device).repeat_interleave(count_S)
        self.answer_P = torch.tensor(answer_P, device=device)
        # The log-probability of so many of the first tokens.
        self.known_P = torch.ones_like(self.answer_P)
        first_P = prompts.logits[self.sample_P, self.token_N[self.node_DA[self.answer_P, 0]]]
        self.log_P = first_P - normaliser(prompts.logits)[self.sample_P, 0]
        self.best_S = self.first_S.clone()  # as a pair
        self.score_S = torch.full((len(answers),), -math.inf, device=device)

    def is_whole(self, pairs_Q: torch.Tensor) -> torch.Tensor:
        """(Q,) whether all tokens are known."""
        return self.known_P[pairs_Q] >= self.length_D[self.answer_P[pairs_Q]]

    def find_best(self, pairs_Q: torch.Tensor) -> None:
        """Take the best whole ones of these pairs into account."""
        samples_Q = self.sample_P[pairs_Q]
        score_Q = self.log_P[pairs_Q].masked_fill(~self.is_whole(pairs_Q), -math.inf)
        score_S = self.score_S.scatter_reduce(0, samples_Q, score_Q, "amax")
        reached_Q = (score_Q == score_S[samples_Q]) & (score_Q > -math.inf)
        # Of equals the first; the best so far may be one of them.
        found_S = torch.where(score_S > self.score_S, len(self.sample_P), self.best_S)
        self.best_S = found_S.scatter_reduce(0, samples_Q[reached_Q], pairs_Q[reached_Q], "amin")
        self.score_S = score_S

    def bounds(self, pairs_Q: torch.Tensor) -> torch.Tensor:
        """(Q,) the most that each can still score, -inf of those that are whole or cannot win."""
        log_Q = self.log_P[pairs_Q]
        can_win_Q = (log_Q > self.score_S[self.sample_P[pairs_Q]]) & ~self.is_whole(pairs_Q)
        return log_Q.masked_fill(~can_win_Q, -math.inf)


def _walk(reader: Reader, field: _Field, pairs_Q: torch.Tensor, width: int) -> None:
    """One pass: `width` beginnings of every length of each sample are read."""
    num_nodes = len(field.token_N)
    row_Q = field.sample_P[pairs_Q]  # of the reader
    for at in range(field.node_DA.shape[1] - 1):
        # A beginning is that of all pairs of its sample at the same node.
        longer_Q = field.length_D[field.answer_P[pairs_Q]] > at + 1
        pairs_Q, row_Q = pairs_Q[longer_Q], row_Q[longer_Q]
        node_Q = field.node_DA[field.answer_P[pairs_Q], at]
        beginning_G, group_Q = (field.sample_P[pairs_Q] * num_nodes + node_Q).unique(return_inverse=True)
        bound_G = torch.full(beginning_G.shape, -math.inf, device=beginning_G.device)
        bound_G = bound_G.scatter_reduce(0, group_Q, field.bounds(pairs_Q), "amax")
        kept_G = _leads(bound_G, beginning_G // num_nodes, width)
        if not kept_G.any():
            return
        kept_Q = kept_G[group_Q]
        pairs_Q, row_Q = pairs_Q[kept_Q], row_Q[kept_Q]
        beginning_G, group_Q = beginning_G[kept_G], (kept_G.cumsum(0) - 1)[group_Q[kept_Q]]
        # All pairs of a beginning come from one row.
        reader.select(torch.empty_like(beginning_G).scatter_(0, group_Q, row_Q).tolist())
        row_Q = group_Q
        # What was read in an earlier pass is only walked through: its logits are known.
        new_Q = field.known_P[pairs_Q] == at + 1
        new_G = torch.zeros_like(beginning_G, dtype=torch.bool)
        new_G[row_Q[new_Q]] = True
        tokens = field.token_N[beginning_G % num_nodes].tolist()
        logits = reader.logits_at(tokens, at=new_G.tolist())
        if new_Q.any():
            pairs = pairs_Q[new_Q]
            rows = (new_G.cumsum(0) - 1)[row_Q[new_Q]]
            following = field.token_N[field.node_DA[field.answer_P[pairs], at + 1]]
            field.log_P[pairs] += logits[rows, following].float() - normaliser(logits)[rows, 0]
            field.known_P[pairs] += 1
            field.find_best(pairs_Q)


def _leads(bound_G: torch.Tensor, sample_G: torch.Tensor, width: int) -> torch.Tensor:
    """(G,) whether it is among the `width` of its sample with the highest bounds, and has one at all.

    `sample_G` ascend.
    """
    order_G = bound_G.argsort(descending=True, stable=True)
    order_G = order_G[sample_G[order_G].argsort(stable=True)]
    # In this order samples lie where they lay, with the highest bound first.
    place_G = torch.arange(len(sample_G), device=sample_G.device)
    rank_G = place_G - torch.searchsorted(sample_G, sample_G)
    leads_G = torch.empty_like(bound_G, dtype=torch.bool)
    leads_G[order_G] = rank_G < width
    return leads_G & (bound_G > -math.inf)
