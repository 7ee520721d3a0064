"""One micro-batch of stand-in data, forward and backward through a model on the meta device.

The dry run counts what autograd keeps, the FLOPs and the largest array. No number is ever stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from polylens.training.stages import Plan
from polylens.training.trainable import Length, trainable


@dataclass(frozen=True)
class Counted:
    """Bytes that autograd keeps, those of the logits and of the largest array, and the FLOPs of a micro-batch."""

    saved: int
    logits: int
    largest: int
    flops: float


def dry_run(model: Any, plan: Plan, m: int, length: Length, cached: bool, halved: bool) -> Counted:
    """Count one micro-batch of `m` samples; `halved` computes in bfloat16, `cached` starts from cached features."""
    dtype = torch.bfloat16 if halved else torch.float32
    types = {id(p): p.dtype for p in model.parameters()}
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    largest, counter = _Largest(), FlopCounterMode(display=False)
    try:
        run = trainable(model).dry_run(model, plan, m, length, cached, dtype)
        with torch.device("meta"), largest, counter, kept_by_autograd(model) as kept:
            out, num_logits = run.forward()
            if out.requires_grad:
                out.sum().backward()
    finally:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(types[id(parameter)])
            parameter.grad = None
    saved = sum(kept.values()) + run.recomputed
    # Logits as they come and as float32, their log-softmax, and the gradients of both.
    return Counted(saved, num_logits * (14 if halved else 16), largest.size, counter.get_total_flops())


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest array that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(out):
            # A view of an input is no array of its own.
            if isinstance(leaf, torch.Tensor) and _storage(leaf) not in given:
                self.size = max(self.size, leaf.untyped_storage().nbytes())
        return out


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def kept_by_autograd(model: nn.Module) -> Iterator[dict[int, int]]:
    """{storage: bytes} of what autograd keeps inside, the model's own parameters left out."""
    own = {_storage(p) for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
