"""The likeliest of many candidate answers, exactly, without scoring them all.

One greedy walk through the candidates' tokens ends at a complete answer and its score, and gives every
other candidate a bound: the walk's score up to where the two part, plus the candidate's own next token.
Later tokens only lower a score, so a candidate whose bound is not above the walk's score cannot win. The
others are scored a few tokens deep, which leaves few of them to score whole.

Shapes: S samples read together, K vocabulary.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from polylens.data.sample import Sample
from polylens.models.scoring import ROWS, Prompts, read_prompts, score_rows

FIRST_RIVALS = 4
DEPTHS = (2, 4, 8, None)

if TYPE_CHECKING:
    from polylens.models.vlm import VisionLanguageModel, Visual


def choose_candidates(
    model: "VisionLanguageModel",
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    visual: "Visual",
    batch_size: int,
) -> list[int]:
    """For every sample the index of its likeliest candidate; see `VisionLanguageModel.choose`."""
    collator = model.collator(with_pictures=False)
    ids = {text: collator.answer_ids(text) for text in {text for texts in candidates for text in texts}}
    chosen: list[int] = []
    first = 0
    for start in range(0, len(samples), batch_size):
        chunk = samples[start : start + batch_size]
        prompts = read_prompts(model, model.visual_batch(chunk, visual, first))
        first += sum(len(sample.images) for sample in chunk)
        answers = [[ids[text] for text in texts] for texts in candidates[start : start + batch_size]]
        chosen += _choose(model, prompts, answers)
    return chosen


def _choose(
    model: "VisionLanguageModel", prompts: Prompts, answers: Sequence[Sequence[list[int]]]
) -> list[int]:
    walked, bounds = _walk(model, prompts, answers)
    best = [(bounds[s][c], -c) for s, c in enumerate(walked)]

    def score(places: list[tuple[int, int]], depth: int | None) -> list[tuple[int, int]]:
        """Score places up to `depth` tokens; those that go on, with tighter bounds, are returned."""
        going_on = []
        places = sorted(places, key=lambda place: len(answers[place[0]][place[1]]))
        for start in range(0, len(places), ROWS):
            rows = places[start : start + ROWS]
            begun = [answers[s][c][:depth] for s, c in rows]
            scores = score_rows(model, prompts, [s for s, _ in rows], begun).tolist()
            for (s, c), ids, found in zip(rows, begun, scores, strict=True):
                if len(ids) == len(answers[s][c]):
                    best[s] = max(best[s], (found, -c))
                else:
                    bounds[s][c] = found
                    going_on.append((s, c))
        return going_on

    rivals: list[tuple[int, int]] = []
    first: list[tuple[int, int]] = []
    for s, bound in enumerate(bounds):
        others = sorted((c for c in range(len(bound)) if c != walked[s]), key=bound.__getitem__, reverse=True)
        first += [(s, c) for c in others[:FIRST_RIVALS]]
        rivals += [(s, c) for c in others[FIRST_RIVALS:]]
    # What the most promising score whole leaves fewer of the others in question.
    score([(s, c) for s, c in first if bounds[s][c] > best[s][0]], None)
    for depth in DEPTHS:
        rivals = score([(s, c) for s, c in rivals if bounds[s][c] > best[s][0]], depth)
    return [-place for _, place in best]


def _walk(
    model: "VisionLanguageModel", prompts: Prompts, answers: Sequence[Sequence[list[int]]]
) -> tuple[list[int], list[list[float]]]:
    """The candidate that each sample's greedy walk ends at, and every candidate's bound (that one's is its
    score).
    """
    walked = [0] * len(answers)
    bounds = [[0.0] * len(texts) for texts in answers]
    along = [list(range(len(texts))) for texts in answers]
    path = [0.0] * len(answers)
    step = _Stepper(model, prompts)
    logprobs_SK, depth = prompts.first, 0
    while True:
        tokens = [[answers[s][c][depth] for c in alive] for s, alive in enumerate(along)]
        width = max(len(row) for row in tokens)
        padded = torch.tensor([row + [0] * (width - len(row)) for row in tokens], device=logprobs_SK.device)
        values = logprobs_SK.gather(1, padded).tolist()
        taken = [0] * len(answers)
        for s, row in enumerate(tokens):
            if not row:
                continue
            for c, value in zip(along[s], values[s], strict=False):
                bounds[s][c] = path[s] + value
            place = max(range(len(row)), key=values[s].__getitem__)
            taken[s], path[s] = row[place], path[s] + values[s][place]
            along[s] = [c for c, token in zip(along[s], row, strict=True) if token == taken[s]]
            # An answer closes with the end token, so what ends here is all that is left.
            if len(answers[s][along[s][0]]) == depth + 1:
                walked[s], along[s] = along[s][0], []
        if not any(along):
            return walked, bounds
        logprobs_SK, depth = step(taken), depth + 1


class _Stepper:
    """Feeds all prompts of a batch one token each and gives what may come next."""

    def __init__(self, model: "VisionLanguageModel", prompts: Prompts) -> None:
        self.model, self.prompts = model, prompts
        self.cache = copy.deepcopy(prompts.cache)
        self.mask = prompts.mask

    def __call__(self, tokens: Sequence[int]) -> torch.Tensor:
        """(S,) tokens to (S, K) log-probabilities of the next."""
        fed = torch.tensor(tokens, device=self.mask.device)[:, None]
        inputs: dict[str, Any] = {"past_key_values": self.cache, "use_cache": True}
        if self.prompts.encoded is None:
            self.mask = torch.cat([self.mask, torch.ones_like(fed)], 1)
            inputs |= {
                "input_ids": fed,
                "attention_mask": self.mask,
                **self.model.positions(self.mask, last=1),
            }
        else:
            inputs |= {
                "decoder_input_ids": fed,
                "attention_mask": self.mask,
                "encoder_outputs": (self.prompts.encoded,),
            }
        return self.model.lm(**inputs).logits[:, -1].float().log_softmax(-1)
