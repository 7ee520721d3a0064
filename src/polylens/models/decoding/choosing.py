"""The likeliest of many candidate answers, exactly, without scoring them all.

What follows the beginning of a candidate only lowers its score, so one whose beginning is not above the best whole
candidate cannot win and is never read to its end. Candidates that begin alike are read together. They are walked
through in passes, token by token, that keep the most promising beginnings of every length: few at first, which soon end
at a good whole candidate, then more each time, until nothing is left in question.

    prompts read once -> a pass of width 1 -> of width 4 -> 16 ... -> the index of the best whole candidate

Where a sample is read in several ways, a pass reads every beginning in those that are nearly as likely there as the
likeliest. In a way that has not read it, it is as likely as what came before, at most: most ways are never read, since
that cannot make up for what the best candidate has, or could add next to nothing.

Shapes: S samples, J ways to read them, P pairs of a sample and a candidate, Q of these, D distinct candidates, A tokens
of the longest, N distinct beginnings of all candidates, G of the pairs, R rows of the language model, each a beginning
that is read in one way.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from polylens.data.collate import pad_rows
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.models.decoding.scoring import ROWS, Prompts, read_prompts
from polylens.models.decoding.search import Reader
from polylens.models.decoding.vocabulary import normaliser
from polylens.models.readings import NEXT_TO_NOTHING

if TYPE_CHECKING:
    from polylens.models.visual import Visual
    from polylens.models.vlm import VisionLanguageModel

# Wider passes read more in vain, more passes walk more often over what was read.
FIRST_WIDTH, WIDENED = 1, 4
# Nats below the likeliest way to read a beginning at which another is left for a later pass.
NEARLY = 3.0


def choose_candidates(
    model: "VisionLanguageModel",
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    visual: "Visual",
    batch_size: int,
) -> list[int]:
    """For every sample the index of its likeliest candidate; see `VisionLanguageModel.choose`."""
    chosen: list[int] = []
    first = 0
    for start in range(0, len(samples), batch_size):
        chunk = samples[start : start + batch_size]
        prompts = read_prompts(model, model.visual_batch(chunk, visual, first))
        first += sum(len(sample.images) for sample in chunk)
        chosen += choose_texts(model, prompts, candidates[start : start + batch_size])
    return chosen


def choose_texts(
    model: "VisionLanguageModel", prompts: Prompts, candidates: Sequence[Sequence[str]]
) -> list[int]:
    """For every sample the index of its likeliest candidate; `prompts` can be used again.

    Raises `UserError` for a sample without candidates.
    """
    for number, texts in enumerate(candidates):
        if not texts:
            raise UserError(f"Sample {number} has no candidates to choose from: give at least one.")
    collator = model.collator(with_pictures=False)
    ids = collator.all_answer_ids({text for texts in candidates for text in texts})
    return choose_answers(model, prompts, [[ids[text] for text in texts] for texts in candidates])


def choose_answers(
    model: "VisionLanguageModel", prompts: Prompts, answers: Sequence[Sequence[list[int]]]
) -> list[int]:
    """For every sample the index of its likeliest answer, given as tokens."""
    field = _Field(prompts, answers)
    pairs_Q = torch.arange(len(field.sample_P), device=field.sample_P.device)
    field.find_best(pairs_Q)
    width = FIRST_WIDTH
    while True:
        open_Q = field.in_question(pairs_Q)[0] > -math.inf
        num_samples = len(field.sample_P[pairs_Q[open_Q]].unique())
        if not num_samples:
            return (field.best_S - field.first_S).tolist()
        # The best ones may be overtaken, and are in question then.
        pairs_Q = pairs_Q[open_Q | field.is_best(pairs_Q)]
        reader = Reader(model, prompts.copy(), field.node_DA.shape[1])
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
        ways = prompts.readings
        self.prompt_SJ = pad_rows([[row for row, _ in each] for each in ways], 0, left=False).to(device)
        num_ways = self.prompt_SJ.shape[1]
        share_SJ = torch.tensor(
            [[log for _, log in each] + [-math.inf] * (num_ways - len(each)) for each in ways], device=device
        )
        prompt_JP, share_JP = self.prompt_SJ[self.sample_P].T, share_SJ[self.sample_P].T
        # The log-probability of the first tokens, in every way of so many.
        self.known_JP = torch.ones(num_ways, len(answer_P), dtype=torch.long, device=device)
        first_JP = prompts.logits[prompt_JP, self.token_N[self.node_DA[self.answer_P, 0]]]
        self.log_JP = first_JP - normaliser(prompts.logits)[prompt_JP, 0] + share_JP
        self.log_JP[:, self.length_D[self.answer_P] == 0] = -math.inf
        self.best_S = self.first_S.clone()  # as a pair
        self.score_S = torch.full((len(answers),), -math.inf, device=device)

    def whole(self, pairs_Q: torch.Tensor) -> torch.Tensor:
        """(J, Q) whether all tokens are known."""
        return self.known_JP[:, pairs_Q] >= self.length_D[self.answer_P[pairs_Q]]

    def is_best(self, pairs_Q: torch.Tensor) -> torch.Tensor:
        """(Q,) whether it is the best whole candidate of its sample."""
        samples_Q = self.sample_P[pairs_Q]
        return (self.best_S[samples_Q] == pairs_Q) & (self.score_S[samples_Q] > -math.inf)

    def find_best(self, pairs_Q: torch.Tensor) -> None:
        """Let the best whole ones of these pairs, by what is known of their scores, count from now on."""
        samples_Q = self.sample_P[pairs_Q]
        score_Q = self.log_JP[:, pairs_Q].masked_fill(~self.whole(pairs_Q), -math.inf).logsumexp(0)
        score_S = self.score_S.scatter_reduce(0, samples_Q, score_Q, "amax")
        better_Q = (score_Q == score_S[samples_Q]) & (score_Q > self.score_S[samples_Q])
        none = len(self.sample_P)
        # Of equals the first.
        found_S = torch.full_like(self.best_S, none)
        found_S = found_S.scatter_reduce(0, samples_Q[better_Q], pairs_Q[better_Q], "amin")
        self.best_S = torch.where(found_S < none, found_S, self.best_S)
        self.score_S = score_S

    def in_question(self, pairs_Q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(Q,) bounds of the scores of those that could still win, -inf of others, and (J, Q) the ways in which these
        are to be read on.
        """
        log_JQ, whole_JQ = self.log_JP[:, pairs_Q], self.whole(pairs_Q)
        score_Q = self.score_S[self.sample_P[pairs_Q]]
        on_JQ = (log_JQ > score_Q - NEXT_TO_NOTHING) & ~whole_JQ
        bound_Q = log_JQ.masked_fill(~on_JQ & ~whole_JQ, -math.inf).logsumexp(0)
        # More of the best one would change nothing.
        open_Q = (bound_Q > score_Q) & on_JQ.any(0) & ~self.is_best(pairs_Q)
        return bound_Q.masked_fill(~open_Q, -math.inf), on_JQ & open_Q


def _walk(reader: Reader, field: _Field, pairs_Q: torch.Tensor, width: int) -> None:
    """One pass: `width` beginnings of every length of each sample, in the ways that are likely there."""
    vocabulary, num_nodes = reader.first.shape[1], len(field.token_N)
    row_JQ = field.prompt_SJ[field.sample_P[pairs_Q]].T
    for at in range(field.node_DA.shape[1] - 1):
        longer_Q = field.length_D[field.answer_P[pairs_Q]] > at + 1
        pairs_Q, row_JQ = pairs_Q[longer_Q], row_JQ[:, longer_Q]
        # A beginning is that of all pairs of its sample at the same node.
        node_Q = field.node_DA[field.answer_P[pairs_Q], at]
        beginning_G, group_Q = (field.sample_P[pairs_Q] * num_nodes + node_Q).unique(return_inverse=True)
        bound_Q, on_JQ = field.in_question(pairs_Q)
        on_JQ &= row_JQ >= 0
        bound_G = _highest(bound_Q.masked_fill(~on_JQ.any(0), -math.inf), group_Q, len(beginning_G))
        kept_G = _leads(bound_G, beginning_G // num_nodes, width)
        kept_Q = kept_G[group_Q]
        if not kept_G.any():
            return
        pairs_Q, row_JQ, on_JQ = pairs_Q[kept_Q], row_JQ[:, kept_Q], on_JQ[:, kept_Q]
        beginning_G, group_Q = beginning_G[kept_G], (kept_G.cumsum(0) - 1)[group_Q[kept_Q]]
        log_JG = _highest(field.log_JP[:, pairs_Q].masked_fill(~on_JQ, -math.inf), group_Q, len(beginning_G))
        read_JG = (log_JG > -math.inf) & (log_JG >= log_JG.amax(0) - NEARLY)
        row_JG = torch.full_like(log_JG, -1, dtype=torch.long)
        row_JG[:, group_Q] = row_JQ
        # Samples share what is read after the same prompt.
        tokens = field.token_N[beginning_G % num_nodes].expand_as(row_JG)[read_JG]
        place_R, row_of = (row_JG[read_JG] * vocabulary + tokens).unique(return_inverse=True)
        reader.select((place_R // vocabulary).tolist())
        row_JQ = torch.full_like(row_JG, -1).masked_scatter(read_JG, row_of)[:, group_Q]
        # What was read in an earlier pass is only walked through: its logits are known.
        way, number = ((field.known_JP[:, pairs_Q] == at + 1) & (row_JQ >= 0)).nonzero(as_tuple=True)
        rows = row_JQ[way, number]
        new_R = torch.zeros_like(place_R, dtype=torch.bool)
        new_R[rows] = True
        logits = reader.logits_at((place_R % vocabulary).tolist(), at=new_R.tolist())
        if len(rows):
            pairs = pairs_Q[number]
            rows = (new_R.cumsum(0) - 1)[rows]
            tokens = field.token_N[field.node_DA[field.answer_P[pairs], at + 1]]
            field.log_JP[way, pairs] += logits[rows, tokens].float() - normaliser(logits)[rows, 0]
            field.known_JP[way, pairs] += 1
            field.find_best(pairs_Q)


def _highest(values: torch.Tensor, group_Q: torch.Tensor, count: int) -> torch.Tensor:
    """(..., G) the highest value of each of `count` groups, of values (..., Q)."""
    found = values.new_full((*values.shape[:-1], count), -math.inf)
    return found.scatter_reduce(-1, group_Q.expand_as(values), values, "amax")


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
