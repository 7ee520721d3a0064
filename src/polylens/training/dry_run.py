"""One micro-batch of stand-in data, forward and backward through a model on the meta device.

The dry run counts what autograd keeps, the FLOPs and the largest array. No number is ever stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

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
    meter = _Meter()
    try:
        run = trainable(model).dry_run(model, plan, m, length, cached, dtype)
        with torch.device("meta"), meter, kept_by_autograd(model) as kept:
            out, num_logits = run.forward()
            if out.requires_grad:
                out.sum().backward()
    finally:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(types[id(parameter)])
            parameter.grad = None
    saved = sum(kept.values()) + run.recomputed
    # Logits as they come and as float32, their log-softmax, and the gradients of both.
    return Counted(saved, num_logits * (14 if halved else 16), meter.size, meter.flops)


class _Meter(TorchDispatchMode):
    """Counts the floating-point operations, and remembers the size of the largest array that any operation gave.

    Most operations are those of a layer before, on arrays of the same shapes. What they give is looked up: on the meta
    device many are Python functions of half a millisecond.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.flops = 0
        self._known: dict[Any, tuple[Any, int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _gives_no_array(func):
            return func(*args, **kwargs)
        key = (func, _described(args), _described(tuple(kwargs.items())))
        if key in self._known:
            result, largest, flops = self._known[key]
            with torch._C.DisableTorchFunction():
                out = _like(result)
        else:
            out = func(*args, **kwargs)
            given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
            arrays = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
            largest = max((_bytes(array) for array in arrays if _storage(array) not in given), default=0)
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **kwargs, out_val=out) if count else 0
            described = _described(out)
            # Not what shares memory, or takes more of it than its numbers do.
            own = len({_storage(array) for array in arrays} - given) == len(arrays)
            if own and not func._schema.is_mutable:
                with torch._C.DisableTorchFunction():
                    alike = [leaf for leaf in tree_leaves(_like(described)) if isinstance(leaf, torch.Tensor)]
                if [_bytes(array) for array in alike] == [_bytes(array) for array in arrays]:
                    self._known[key] = (described, largest, flops)
        self.size = max(self.size, largest)
        self.flops += flops
        return out


@cache
def _gives_no_array(func: Any) -> bool:
    """Whether all that an operation gives is a view of what it was given, or that itself."""
    returns = func._schema.returns
    return bool(returns) and all(each.alias_info is not None for each in returns)


@dataclass(frozen=True)
class _Array:
    """What an array on the meta device is."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _described(value: Any) -> Any:
    """The arguments or results of an operation, as something that can be a key."""
    if isinstance(value, torch.Tensor):
        return _Array(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(_described(each) for each in value)
    # 1, 1.0 and True are equal, and an operation gives another type for each.
    return (type(value), value) if isinstance(value, int | float) else value


def _like(described: Any) -> Any:
    """New arrays like those that were described."""
    if isinstance(described, _Array):
        return torch.empty_strided(described.shape, described.stride, dtype=described.dtype, device="meta")
    if isinstance(described, tuple) and not (described and isinstance(described[0], type)):
        return tuple(_like(each) for each in described)
    return described


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


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
