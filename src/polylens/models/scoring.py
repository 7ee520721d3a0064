"""Likelihood of many candidate answers: the prompt is read once, its cache is shared among the candidates.

Shapes: S prompts read together, T tokens of the longest one, R candidate rows, A tokens fed, K vocabulary. A sample
that is read in J ways has J prompts.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from polylens.data.collate import Batch, Side, pad_rows
from polylens.data.sample import Sample

if TYPE_CHECKING:
    from polylens.models.visual import Visual
    from polylens.models.vlm import VisionLanguageModel

ROWS = 512


@dataclass
class Prompts:
    """S prompts, read: what the first answer token is drawn from, and all that later tokens look back at."""

    logits: torch.Tensor  # (S, K) of the first answer token
    mask: torch.Tensor  # (S, T)
    cache: Any
    encoded: torch.Tensor | None  # (S, T, L) for encoder-decoders
    states: torch.Tensor  # (S, L) that the output head made the logits of
    log_shares: torch.Tensor | None = None  # (S / J, J) of the ways to read each sample; None for one way

    @property
    def num_readings(self) -> int:
        """J, the prompts that stand for one sample."""
        return 1 if self.log_shares is None else self.log_shares.shape[1]

    def copy(self) -> "Prompts":
        """The same prompts, to be read on from beside these: a cache grows where it is read on from."""
        return replace(self, cache=copy.deepcopy(self.cache))

    @cached_property
    def first(self) -> torch.Tensor:
        """(S, K) log-probabilities of the first answer token."""
        return self.logits.log_softmax(-1)


def score_candidates(
    model: "VisionLanguageModel",
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    visual: "Visual",
    batch_size: int,
    padding_side: Side | None,
) -> list[list[float]]:
    """Summed log-probabilities of every sample's candidates; see `VisionLanguageModel.score`."""
    collator = model.collator(with_pictures=False)
    ids = collator.all_answer_ids({text for texts in candidates for text in texts})
    scores: list[list[float]] = []
    first = 0
    for start in range(0, len(samples), batch_size):
        chunk = samples[start : start + batch_size]
        batch = model.visual_batch(chunk, visual, first, padding_side)
        first += sum(len(sample.images) for sample in chunk)
        answers = [[ids[text] for text in texts] for texts in candidates[start : start + batch_size]]
        prompts = read_prompts(model, batch)
        found = _score_chunk(model, prompts, [each for each in answers for _ in range(prompts.num_readings)])
        scores += found if prompts.log_shares is None else _together(found, prompts.log_shares)
    return scores


def _together(scores: Sequence[Sequence[float]], log_shares: torch.Tensor) -> list[list[float]]:
    """Every sample's scores, of those in each of its ways to be read."""
    shares = log_shares.double()[..., None]
    rows = zip(*[iter(scores)] * log_shares.shape[1], strict=True)
    return [
        (torch.tensor(row, dtype=torch.float64, device=shares.device) + share).logsumexp(0).tolist()
        for row, share in zip(rows, shares, strict=True)
    ]


def read_prompts(model: "VisionLanguageModel", batch: Batch) -> Prompts:
    """Run the prompts once, in every way that their pictures are read."""
    batch = model.readings(batch)
    embeds = model.embed(batch)
    mask = batch.attention_mask
    head = model.lm.get_output_embeddings()
    if not model.is_encoder_decoder:
        # With padding on the right, the prompt ends before the last column.
        last = F.one_hot(
            (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1), mask.shape[1]
        ).bool()
        with model.logits_at(last), head_input(head) as states:
            output = model.lm(
                inputs_embeds=embeds, attention_mask=mask, use_cache=True, **model.positions(mask)
            )
        logits = output.logits.float()
        return Prompts(logits, mask, output.past_key_values, None, states[-1], batch.log_shares)
    encoded = model.lm.get_encoder()(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    start = torch.full((len(mask), 1), model.decoder_start, device=mask.device)
    with head_input(head) as states:
        output = model.lm(
            encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=start, use_cache=True
        )
    logits = output.logits[:, -1].float()
    return Prompts(logits, mask, output.past_key_values, encoded, states[-1][:, -1], batch.log_shares)


@contextmanager
def head_input(head: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Inside, what `head` is given is added to the list."""
    given: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    try:
        yield given
    finally:
        handle.remove()


@contextmanager
def head_only_at(head: nn.Module, rows: torch.Tensor) -> Iterator[None]:
    """Inside, `head` computes logits only for the states (B, T, L) at `rows` (B, T) bool."""
    # A hook, so that whatever the model does around its head (scales, soft caps) is kept.
    handle = head.register_forward_pre_hook(lambda _, args: (args[0][rows], *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def _score_chunk(
    model: "VisionLanguageModel", prompt: Prompts, answers: Sequence[Sequence[list[int]]]
) -> list[list[float]]:
    """Candidates of like length go through the language model together: little is spent on padding."""
    places = [(s, c) for s, ids in enumerate(answers) for c in range(len(ids))]
    places.sort(key=lambda place: len(answers[place[0]][place[1]]))
    scores = [[0.0] * len(ids) for ids in answers]
    for start in range(0, len(places), ROWS):
        rows = places[start : start + ROWS]
        found = score_rows(model, prompt, [s for s, _ in rows], [answers[s][c] for s, c in rows])
        for (s, c), score in zip(rows, found.tolist(), strict=True):
            scores[s][c] = score
    return scores


def score_rows(
    model: "VisionLanguageModel", prompt: Prompts, which: Sequence[int], answers: Sequence[list[int]]
) -> torch.Tensor:
    """(R,) scores of `answers`, each after the prompt of its sample in `which`."""
    device = prompt.mask.device
    samples = torch.tensor(which, device=device)
    targets = pad_rows(answers, 0, left=False).to(device)
    valid = pad_rows([[1] * len(ids) for ids in answers], 0, left=False).to(device)
    scores = prompt.first[samples].gather(1, targets[:, :1])[:, 0]
    if targets.shape[1] == 1:
        return scores
    # The last token of an answer is only predicted, never read.
    fed, rows = targets[:, :-1], valid[:, 1:].bool()
    cache = prompt.copy().cache
    cache.batch_select_indices(samples)
    inputs: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
    if prompt.encoded is None:
        mask = torch.cat([prompt.mask[samples], valid[:, :-1]], 1)
        inputs |= {"input_ids": fed, "attention_mask": mask, **model.positions(mask, last=fed.shape[1])}
    else:
        inputs |= {
            "decoder_input_ids": fed,
            "attention_mask": prompt.mask[samples],
            "encoder_outputs": (prompt.encoded[samples],),
        }
    with model.logits_at(rows):
        logits = model.lm(**inputs).logits.float()
    later = torch.zeros(rows.shape, device=device)
    later[rows] = -F.cross_entropy(logits, targets[:, 1:][rows], reduction="none")
    return scores + later.sum(1)
