"""The likeliest of many candidate answers, exactly, without scoring them all.

What follows the beginning of a candidate only lowers its score, so one whose beginning is not above the best whole
candidate cannot win and is never read to its end. Candidates that begin alike are read together. They are walked
through in passes, token by token, that keep the most promising beginnings of every length: few at first, which soon end
at a good whole candidate, then more each time, until nothing is left in question.

    prompts read once -> a pass of width 1 -> of width 4 -> 16 ... -> the index of the best whole candidate

Where a sample is read in several ways, a pass reads every beginning in those that are nearly as likely there as the
likeliest. In a way that has not read it, it is as likely as what came before, at most: most ways are never read, since
that cannot make up for what the best candidate has, or could add next to nothing.

Shapes: S samples, J ways to read them, C candidates, A tokens of the longest, R rows of the language model, each a
beginning that is read in one way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from polylens.data.collate import pad_rows
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.models.decoding import Reader
from polylens.models.readings import NEXT_TO_NOTHING
from polylens.models.scoring import ROWS, Prompts, read_prompts
from polylens.models.vocabulary import normaliser

if TYPE_CHECKING:
    from polylens.models.visual import Visual
    from polylens.models.vlm import VisionLanguageModel

# Wider passes read more in vain, more passes walk more often over what was read.
FIRST_WIDTH, WIDENED = 1, 4
# Nats below the likeliest way to read a beginning at which another is left for a later pass.
NEARLY = 2.0


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
    field = _Field.of(prompts, answers)
    chosen, samples = torch.zeros(len(answers), dtype=torch.long), torch.arange(len(answers))
    width = FIRST_WIDTH
    while True:
        chosen[samples] = field.best()[1].cpu()
        going_S = (field.in_question()[0] > -math.inf).any(1)
        field, samples = field.of_samples(going_S), samples[going_S.cpu()]
        if not len(samples):
            return chosen.tolist()
        reader = Reader(model, prompts.copy(), field.tokens_SCA.shape[2])
        _walk(reader, field, min(width, max(WIDENED, ROWS // len(samples))))
        width *= WIDENED


@dataclass
class _Field:
    """All candidates, and what is known of them: the log-probability of their first tokens in every way."""

    tokens_SCA: torch.Tensor
    length_SC: torch.Tensor
    alike_SCA: torch.Tensor  # the first candidate of the sample that has the same tokens up to this one
    prompt_SJ: torch.Tensor
    logs_SJC: torch.Tensor
    known_SJC: torch.Tensor  # of so many tokens

    @classmethod
    def of(cls, prompts: Prompts, answers: Sequence[Sequence[list[int]]]) -> "_Field":
        """All candidates, of whose tokens the first is known."""
        device = prompts.logits.device
        distinct: dict[tuple[int, ...], int] = {(): 0}
        numbers = [[distinct.setdefault((*ids,), len(distinct)) for ids in texts] for texts in answers]
        number_SC = pad_rows(numbers, 0, left=False).to(device)
        tokens_SCA = pad_rows([*map(list, distinct)], 0, left=False).to(device)[number_SC]
        length_SC = torch.tensor([*map(len, distinct)], device=device)[number_SC]
        alike_SCA = _alike(tokens_SCA, prompts.logits.shape[1])
        prompt_SJ = pad_rows([[row for row, _ in ways] for ways in prompts.readings], 0, left=False).to(
            device
        )
        num_ways = prompt_SJ.shape[1]
        log_shares_SJ = torch.tensor(
            [[log for _, log in ways] + [-math.inf] * (num_ways - len(ways)) for ways in prompts.readings],
            device=device,
        )
        first_SJC = prompts.logits[prompt_SJ[..., None], tokens_SCA[:, None, :, 0]]
        logs_SJC = first_SJC - normaliser(prompts.logits)[prompt_SJ] + log_shares_SJ[..., None]
        nothing_SC = length_SC == 0
        logs_SJC = logs_SJC.masked_fill(nothing_SC[:, None], -math.inf)
        return cls(
            tokens_SCA, length_SC, alike_SCA, prompt_SJ, logs_SJC, torch.ones_like(logs_SJC, dtype=torch.long)
        )

    def of_samples(self, kept_S: torch.Tensor) -> "_Field":
        """What is known of some samples."""
        return _Field(**{each.name: getattr(self, each.name)[kept_S] for each in fields(self)})

    @property
    def whole_SJC(self) -> torch.Tensor:
        """Whether all tokens are known."""
        return self.known_SJC >= self.length_SC[:, None]

    def best(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(S,) what is known of the score of the best whole candidate, and (S,) its index."""
        scores, indices = self.logs_SJC.masked_fill(~self.whole_SJC, -math.inf).logsumexp(1).max(1)
        return scores, indices

    def in_question(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(S, C) bounds of the scores of all candidates that could still win, -inf of others, and (S, J, C) the ways
        in which these are to be read on.
        """
        best_S, index_S = self.best()
        counts_SJC = self.logs_SJC > best_S[:, None, None] - NEXT_TO_NOTHING
        on_SJC = counts_SJC & ~self.whole_SJC
        bound_SC = self.logs_SJC.masked_fill(~on_SJC & ~self.whole_SJC, -math.inf).logsumexp(1)
        # More of the best one would change nothing.
        bound_SC = bound_SC.scatter(1, index_S[:, None], -math.inf).where(
            best_S[:, None] > -math.inf, bound_SC
        )
        open_SC = (bound_SC > best_S[:, None]) & on_SJC.any(1)
        return bound_SC.masked_fill(~open_SC, -math.inf), on_SJC & open_SC[:, None]


def _alike(tokens_SCA: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """(S, C, A): for every token the first candidate of the sample that has the same tokens up to it."""
    num_samples, num_candidates, _ = tokens_SCA.shape
    number_SC = torch.arange(num_samples * num_candidates, device=tokens_SCA.device).view(num_samples, -1)
    alike_SC = number_SC[:, :1].expand_as(number_SC)
    found = []
    for tokens_SC in tokens_SCA.unbind(2):
        kinds, kind_SC = (alike_SC * vocabulary + tokens_SC).unique(return_inverse=True)
        first = torch.full_like(kinds, number_SC.numel())
        first = first.scatter_reduce(0, kind_SC.flatten(), number_SC.flatten(), "amin")
        alike_SC = first[kind_SC]
        found.append(alike_SC % num_candidates)
    return torch.stack(found, 2)


def _walk(reader: Reader, field: _Field, width: int) -> None:
    """One pass: `width` beginnings of every length of each sample, in the ways that are likely there."""
    vocabulary = reader.first.shape[1]
    row_SJC = field.prompt_SJ[..., None].expand_as(field.logs_SJC)
    for at in range(field.tokens_SCA.shape[2] - 1):
        alike_SC, longer_SC = field.alike_SCA[..., at], field.length_SC > at + 1
        bound_SC, on_SJC = field.in_question()
        on_SJC &= (longer_SC[:, None]) & (row_SJC >= 0)
        # What is kept of a beginning stands at the first candidate that has it.
        bound_SC = _best_of_alike(bound_SC.masked_fill(~on_SJC.any(1), -math.inf), alike_SC)
        kept_SC = torch.zeros_like(longer_SC).scatter(
            1, bound_SC.topk(min(width, bound_SC.shape[1])).indices, True
        )
        kept_SC &= bound_SC > -math.inf
        alike_SJC = alike_SC[:, None].expand_as(row_SJC)
        value_SJC = _best_of_alike(field.logs_SJC.masked_fill(~on_SJC, -math.inf), alike_SJC)
        value_SJC = value_SJC.masked_fill(~kept_SC[:, None], -math.inf)
        read_SJC = (value_SJC > -math.inf) & (value_SJC >= value_SJC.amax(1, keepdim=True) - NEARLY)
        where = read_SJC.nonzero(as_tuple=True)
        if not len(where[0]):
            return
        # Samples share what is read after the same prompt.
        token_R = field.tokens_SCA[..., at][where[0], where[2]]
        places, row_R = (row_SJC[where] * vocabulary + token_R).unique(return_inverse=True)
        reader.select((places // vocabulary).tolist())
        row_SJC = torch.full_like(row_SJC, -1).index_put(where, row_R).gather(2, alike_SJC)
        # What was read in an earlier pass is only walked through: its logits are known.
        new_SJC = longer_SC[:, None] & (field.known_SJC == at + 1) & (row_SJC >= 0)
        new_R = torch.zeros_like(places, dtype=torch.bool)
        new_R[row_SJC[new_SJC]] = True
        logits = reader.logits_at((places % vocabulary).tolist(), at=new_R.tolist())
        if new_R.any():
            logit_of_R = new_R.cumsum(0) - 1
            tokens = field.tokens_SCA[:, None, :, at + 1].expand_as(row_SJC)[new_SJC]
            rows = logit_of_R[row_SJC[new_SJC]]
            field.logs_SJC[new_SJC] += logits[rows, tokens] - normaliser(logits)[rows, 0]
            field.known_SJC[new_SJC] += 1


def _best_of_alike(values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
    """(..., C) the highest value of the candidates that are alike, at the first of these."""
    return torch.full_like(values, -math.inf).scatter_reduce(-1, alike, values, "amax")
