"""Samples that are read in several ways, since their pictures may show several captions.

An answer is as likely as all ways together say, each weighted by its share: what a picture shows is a latent
variable, as the text found is in RAG-Sequence (Lewis et al., arXiv 2005.11401, section 2.1).

Shapes: B samples of N pictures in all, J ways to read each, Q visual tokens per picture, L language model width.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter

import torch

from polylens.data.collate import Batch


def in_every_way(batch: Batch, tokens_NJQL: torch.Tensor, log_shares_NJ: torch.Tensor) -> Batch:
    """The batch to be answered with J rows for each sample, one after another, and the shares of these."""
    num_ways, num_tokens = tokens_NJQL.shape[1:3]
    counts = (batch.image_mask.sum(1) // num_tokens).tolist()
    places, log_shares_BJ = likeliest_ways(log_shares_NJ.tolist(), counts)
    return replace(
        batch,
        input_ids=batch.input_ids.repeat_interleave(num_ways, 0),
        attention_mask=batch.attention_mask.repeat_interleave(num_ways, 0),
        image_mask=batch.image_mask.repeat_interleave(num_ways, 0),
        pixel_values=None,
        visual=tokens_NJQL.flatten(0, 1)[places],
        visual_level="tokens",
        log_shares=torch.tensor(log_shares_BJ, device=tokens_NJQL.device).log_softmax(1),
    )


def likeliest_ways(
    log_shares_NJ: Sequence[Sequence[float]], counts: Sequence[int]
) -> tuple[list[int], list[list[float]]]:
    """The J likeliest ways to read all pictures of each sample, which has as many of the N as `counts` says.

    Returns, sample by sample and way by way, the places of its pictures' readings among all N x J, and (B, J) the logs
    of the ways' shares, which need not add up to 1. A sample that has fewer ways repeats its first, without a share.
    """
    num_ways, at = len(log_shares_NJ[0]), 0
    places: list[int] = []
    log_shares_BJ: list[list[float]] = []
    for count in counts:
        ways: list[tuple[float, list[int]]] = [(0.0, [])]
        for picture in range(at, at + count):
            readings = [(log, picture * num_ways + way) for way, log in enumerate(log_shares_NJ[picture])]
            longer = [(log + more, [*before, place]) for log, before in ways for more, place in readings]
            ways = nlargest(num_ways, longer, key=itemgetter(0))
        ways += [(-math.inf, ways[0][1])] * (num_ways - len(ways))
        places += [place for _, chosen in ways for place in chosen]
        log_shares_BJ.append([log for log, _ in ways])
        at += count
    return places, log_shares_BJ
