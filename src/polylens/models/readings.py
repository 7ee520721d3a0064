"""Samples that are read in several ways, since their pictures may show several captions.

An answer is as likely as all ways together say, each weighted by its share: what a picture shows is a latent
variable, as the text found is in RAG-Sequence (Lewis et al., arXiv 2005.11401, section 2.1). A way is a row of the
language model, and samples whose prompts and captions are the same share it.

Shapes: B samples of N pictures in all, J likeliest captions of each, Q visual tokens per picture, R rows.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter
from typing import TypeVar

import torch

from polylens.data.collate import Batch

# Nats below the likeliest at which a way counts no more: a thousandth of it.
NEXT_TO_NOTHING = 7.0

T = TypeVar("T")


def in_every_way(
    batch: Batch, captions_NJ: torch.Tensor, log_shares_NJ: torch.Tensor
) -> tuple[Batch, torch.Tensor]:
    """The batch to be answered with a row for each distinct way to read its samples, still without its pictures, and
    the caption that each picture of these rows shows, row by row.
    """
    num_tokens = int(batch.image_mask.sum()) // len(captions_NJ)
    counts = (batch.image_mask.sum(1) // num_tokens).tolist()
    prompts = torch.cat([batch.input_ids, batch.attention_mask, batch.image_mask], 1).tolist()
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    samples: list[int] = []
    ways_B: list[list[tuple[int, float]]] = []
    for sample, ways in enumerate(likeliest_ways(captions_NJ.tolist(), log_shares_NJ.tolist(), counts)):
        keys = [((*prompts[sample],), captions) for captions, _ in ways]
        samples += [sample for key in keys if key not in rows]
        ways_B.append(
            [(rows.setdefault(key, len(rows)), log) for key, (_, log) in zip(keys, ways, strict=True)]
        )
    shown = [caption for _, captions in rows for caption in captions]
    every = replace(
        batch,
        input_ids=batch.input_ids[samples],
        attention_mask=batch.attention_mask[samples],
        image_mask=batch.image_mask[samples],
        pixel_values=None,
        ways=ways_B,
    )
    return every, torch.tensor(shown, device=captions_NJ.device)


def likeliest_ways(
    captions_NJ: Sequence[Sequence[int]], log_shares_NJ: Sequence[Sequence[float]], counts: Sequence[int]
) -> Iterator[list[tuple[tuple[int, ...], float]]]:
    """For each sample, which has as many of the N pictures as `counts` says, the J likeliest ways to read all of them
    together: the captions that they show, and the log of the way's share.
    """
    most, at = len(captions_NJ[0]), 0
    for count in counts:
        ways: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for picture in range(at, at + count):
            shown = list(zip(captions_NJ[picture], log_shares_NJ[picture], strict=True))
            longer = [((*before, caption), log + more) for before, log in ways for caption, more in shown]
            ways = nlargest(most, longer, key=itemgetter(1))
        yield that_count(ways)
        at += count


def that_count(ways: Sequence[tuple[T, float]]) -> list[tuple[T, float]]:
    """The ways without those that are next to nothing, each with the log of its share of what is left."""
    most = max(log for _, log in ways)
    kept = [(way, log) for way, log in ways if log > most - NEXT_TO_NOTHING]
    total = log_sum_exp([log for _, log in kept])
    return [(way, log - total) for way, log in kept]


def log_sum_exp(values: Collection[float]) -> float:
    """The log of the values' summed exponentials."""
    most = max(values)
    return most if len(values) == 1 else most + math.log(sum(math.exp(value - most) for value in values))
