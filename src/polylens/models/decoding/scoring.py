"""Likelihood of many candidate answers: the prompt is read once, its cache is shared among the candidates.

Shapes: S prompts read together, T tokens of the longest one, R candidate rows, A tokens fed, K vocabulary.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from polylens.data.collate import Batch, pad_rows
from polylens.models.decoding.interface import Decodable

ROWS = 512


@dataclass
class Prompts:
    """S prompts, read: what the first answer token is drawn from, and all that later tokens look back at."""

    logits: torch.Tensor  # (S, K) of the first answer token
    mask: torch.Tensor  # (S, T)
    cache: Any
    encoded: torch.Tensor | None  # (S, T, L) for encoder-decoders
    states: torch.Tensor  # (S, L) that the output head made the logits of

    def copy(self) -> "Prompts":
        """The same prompts, to be read on from beside these: a cache grows where it is read on from."""
        return replace(self, cache=copy.deepcopy(self.cache))

    @cached_property
    def first(self) -> torch.Tensor:
        """(S, K) log-probabilities of the first answer token."""
        return self.logits.log_softmax(-1)


def score_texts(model: Decodable, prompts: Prompts, candidates: Sequence[Sequence[str]]) -> list[list[float]]:
    """Summed log-probabilities of every sample's candidates, end of sequence included."""
    ids = model.collator(with_pictures=False).all_answer_ids({text for texts in candidates for text in texts})
    pairs = [(row, ids[text]) for row, texts in enumerate(candidates) for text in texts]
    # Candidates of about one length go through the language model together: little is spent on padding.
    order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][1]))
    scores = [0.0] * len(pairs)
    for start in range(0, len(order), ROWS):
        places = order[start : start + ROWS]
        rows, answers = zip(*(pairs[place] for place in places), strict=True)
        for place, score in zip(places, score_rows(model, prompts, rows, answers).tolist(), strict=True):
            scores[place] = score
    found = iter(scores)
    return [[next(found) for _ in texts] for texts in candidates]


def read_prompts(model: Decodable, batch: Batch) -> Prompts:
    """Run the prompts once."""
    embeds = model.embed(batch)
    mask = batch.attention_mask
    head = model.lm.get_output_embeddings()
    if not model.is_encoder_decoder:
        last = torch.zeros_like(mask, dtype=torch.bool)
        last[:, -1] = True  # prompts are padded on the left
        with model.logits_at(last), head_input(head) as states:
            output = model.lm(
                inputs_embeds=embeds, attention_mask=mask, use_cache=True, **model.positions(mask)
            )
        logits = output.logits.float()
        return Prompts(logits, mask, output.past_key_values, None, states[-1])
    encoded = model.lm.get_encoder()(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    start = torch.full((len(mask), 1), model.decoder_start, device=mask.device)
    with head_input(head) as states:
        output = model.lm(
            encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=start, use_cache=True
        )
    logits = output.logits[:, -1].float()
    return Prompts(logits, mask, output.past_key_values, encoded, states[-1][:, -1])


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


def score_rows(
    model: Decodable, prompt: Prompts, which: Sequence[int], answers: Sequence[list[int]]
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
