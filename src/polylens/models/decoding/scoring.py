"""Likelihood of many candidate answers: the prompt is read once, its cache is shared among the candidates.

Shapes: S prompts read together, T tokens of the longest one, R candidate rows, A tokens fed, K vocabulary. A sample
that is read in several ways has several prompts.
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
from polylens.models.readings import log_sum_exp

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
    ways: Sequence[Sequence[tuple[int, float]]] | None = None  # as `Batch.ways`; None: a prompt each

    def __len__(self) -> int:
        """The samples, each of which may have several prompts."""
        return len(self.readings)

    @cached_property
    def readings(self) -> Sequence[Sequence[tuple[int, float]]]:
        """For every sample its prompts, with the logs of their shares."""
        return [[(row, 0.0)] for row in range(len(self.mask))] if self.ways is None else self.ways

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
        scores += _score_chunk(model, read_prompts(model, batch), answers)
    return scores


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
        return Prompts(logits, mask, output.past_key_values, None, states[-1], batch.ways)
    encoded = model.lm.get_encoder()(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    start = torch.full((len(mask), 1), model.decoder_start, device=mask.device)
    with head_input(head) as states:
        output = model.lm(
            encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=start, use_cache=True
        )
    logits = output.logits[:, -1].float()
    return Prompts(logits, mask, output.past_key_values, encoded, states[-1][:, -1], batch.ways)


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
    found = {
        (row, (*ids,)): 0.0
        for ways, texts in zip(prompt.readings, answers, strict=True)
        for row, _ in ways
        for ids in texts
    }
    places = sorted(found, key=lambda place: len(place[1]))
    for start in range(0, len(places), ROWS):
        chunk = places[start : start + ROWS]
        scores = score_rows(model, prompt, [row for row, _ in chunk], [[*ids] for _, ids in chunk])
        found.update(zip(chunk, scores.tolist(), strict=True))
    return [
        [log_sum_exp([log + found[row, (*ids,)] for row, log in ways]) for ids in texts]
        for ways, texts in zip(prompt.readings, answers, strict=True)
    ]


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
