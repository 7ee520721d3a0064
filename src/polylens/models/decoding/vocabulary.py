"""The best tokens of a large vocabulary and their log-probabilities, without sorting it, and on CPUs with little
float32 arithmetic.

Measured on 2026-11-22 on an Intel Xeon with AMX: without `ScreenedHead`, 48 captions of an mT5-base with 5 beams took
1.50 times as long (docs/measured.md). It is not used on CPUs without AMX.

Shapes: R rows, L width of the states, K vocabulary, C best tokens asked for.
"""

import threading
from dataclasses import dataclass

import torch
from torch import nn

from polylens.models.decoding.scoring import Prompts
from polylens.models.parts.precision import has_amx

# Tokens whose maximum is taken before the best are looked for.
BLOCK = 256
# Tokens of a row, at least, that are computed exactly once bfloat16 has found them.
SCREENED = 64
# Largest error of a product of two numbers rounded to bfloat16 (2^-8 each), relative to it.
LOGIT_ERROR = 2.0**-7 * 1.01
# Where more rows than this share must be computed plainly after all, screening is given up.
PLAIN_SHARE = 0.25
GATHERED_ROWS = 64
# Numbers that are worked on at once: half a megabyte of them.
CACHED = 2**17
# The precision of products is a setting of the whole process.
PRECISION = threading.Lock()


@dataclass
class ScreenedHead:
    """An output head in float32 whose products are first taken in bfloat16, which AMX tiles multiply several times
    as fast; the likeliest `SCREENED` tokens of a row are then computed as the head itself would.

    Of these the best are the head's own: where the error bound of bfloat16 leaves that open, a row is computed plainly.
    The other tokens count in the normaliser alone, as bfloat16 has them: their errors average out.
    """

    head: nn.Linear
    longest: torch.Tensor  # () length of the longest row of its weights
    buffer: torch.Tensor  # (as many rows as there have been, K)
    pays: bool = True

    @classmethod
    def of(cls, prompts: Prompts, head: nn.Module) -> "ScreenedHead | None":
        """The head that made the logits of `prompts`, screened, or None where that would gain nothing: elsewhere than
        on a CPU with AMX, in another precision than float32, or with few tokens."""
        # Adapters and quantization make other classes of it.
        if type(head) is not nn.Linear or not has_amx() or torch.is_autocast_enabled("cpu"):
            return None
        weight = head.weight.detach()
        if (
            weight.device.type != "cpu"
            or weight.dtype != torch.float32
            or len(weight) // BLOCK <= 2 * SCREENED
        ):
            return None
        # Some models scale, cap or mask what their head gives: their logits are none of its products.
        bare_1K = prompts.states[:1].float() @ weight.T
        if not torch.allclose(bare_1K, prompts.logits[:1], rtol=1e-4, atol=1e-5 * bare_1K.abs().max().item()):
            return None
        return cls(head, weight.norm(dim=1).max(), weight.new_empty(0, len(weight)))

    @torch.no_grad()
    def best(self, states_RL: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(R, C) logits, best first, (R, C) their tokens and (R, 1) normalisers, as `best` and `normaliser` give."""
        logits_RK = self._rough(states_RL)
        likely_RM, token_RM = best(logits_RK, max(SCREENED, 2 * count))
        exact_RM = torch.cat(
            [
                torch.einsum("rl,rml->rm", states, self.head.weight[tokens])
                for states, tokens in zip(
                    states_RL.split(GATHERED_ROWS), token_RM.split(GATHERED_ROWS), strict=True
                )
            ]
        )
        best_RC, place_RC = exact_RM.topk(count)
        normaliser_R1 = normaliser(logits_RK.scatter_(1, token_RM, exact_RM), best_RC[:, :1])
        token_RC = token_RM.gather(1, place_RC)
        error_R = LOGIT_ERROR * self.longest * states_RL.norm(dim=1)
        open_R = best_RC[:, -1] <= likely_RM[:, -1] + error_R
        if open_R.any():
            self.pays = open_R.float().mean().item() <= PLAIN_SHARE
            plain_OK = self.head(states_RL[open_R])
            best_RC[open_R], token_RC[open_R] = best(plain_OK, count)
            normaliser_R1[open_R] = normaliser(plain_OK, best_RC[open_R, :1])
        return best_RC, token_RC, normaliser_R1

    def _rough(self, states_RL: torch.Tensor) -> torch.Tensor:
        """(R, K) logits from states and weights rounded to bfloat16, summed up in float32."""
        # Fresh memory of this size would take as long as the product.
        if len(self.buffer) < len(states_RL):
            self.buffer = self.buffer.new_empty(len(states_RL), len(self.head.weight))
        matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made when torch is loaded
        with PRECISION:
            before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
            try:
                return torch.mm(states_RL, self.head.weight.T, out=self.buffer[: len(states_RL)])
            finally:
                matmul.fp32_precision = before


def best(values_RK: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` highest values of each row, best first, and their places.

    They lie in the `count` blocks with the highest maxima, so one pass over a large vocabulary is enough.
    """
    size = values_RK.shape[1]
    num_blocks = size // BLOCK
    if num_blocks <= 2 * count:
        return values_RK.topk(min(count, size))
    whole = num_blocks * BLOCK
    blocks_RNB = values_RK[:, :whole].unflatten(1, (num_blocks, BLOCK))
    block_RC = blocks_RNB.amax(-1).topk(count).indices
    inside_RCB = blocks_RNB.gather(1, block_RC[..., None].expand(-1, -1, BLOCK))
    # The last tokens, which may not fill a block, come after those blocks.
    highest_RC, at_RC = torch.cat([inside_RCB.flatten(1), values_RK[:, whole:]], 1).topk(count)
    chosen_RC = block_RC.gather(1, (at_RC // BLOCK).clamp(max=count - 1)) * BLOCK + at_RC % BLOCK
    return highest_RC, torch.where(at_RC < count * BLOCK, chosen_RC, at_RC - count * BLOCK + whole)


def argmax(values_RK: torch.Tensor) -> torch.Tensor:
    """(R,) places of the highest values, of equals the first: as torch's, which CPUs are slow at over a vocabulary."""
    size = values_RK.shape[1]
    whole = size - size % BLOCK
    if whole == 0:
        return values_RK.argmax(1)
    blocks_RNB = values_RK[:, :whole].unflatten(1, (-1, BLOCK))
    most_R, block_R = blocks_RNB.amax(2).max(1)
    inside_RB = blocks_RNB[torch.arange(len(values_RK), device=values_RK.device), block_R]
    places_R = block_R * BLOCK + inside_RB.argmax(1)
    if whole == size:
        return places_R
    # The last tokens may not fill a block.
    rest_R, place_R = values_RK[:, whole:].max(1)
    return torch.where(rest_R > most_R, whole + place_R, places_R)


def normaliser(logits_RK: torch.Tensor, most_R1: torch.Tensor | None = None) -> torch.Tensor:
    """(R, 1) logarithms of the summed exponentials, float32; `most_R1` are the highest logits, if they are known."""
    if logits_RK.device.type != "cpu":
        return logits_RK.float().logsumexp(-1, keepdim=True)
    # Of a few rows at a time, what is written in between stays in the processor's cache.
    pieces = logits_RK.split(max(1, CACHED // logits_RK.shape[1]))
    most = [None] * len(pieces) if most_R1 is None else most_R1.split(len(pieces[0]))
    return torch.cat([_piece_normaliser(*each) for each in zip(pieces, most, strict=True)])


def _piece_normaliser(logits_RK: torch.Tensor, most_R1: torch.Tensor | None) -> torch.Tensor:
    logits_RK = logits_RK.float()
    if most_R1 is None:
        most_R1 = logits_RK.amax(-1, keepdim=True)
    # Below e^-80 of the largest nothing counts in float32, and subnormal numbers take twenty times as long.
    return (logits_RK - most_R1).clamp_(min=-80).exp_().sum(-1, keepdim=True).log_() + most_R1
