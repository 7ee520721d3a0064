"""One micro-batch of stand-in data, forward and backward through a model on the meta device.

What autograd keeps, what is computed (FLOPs) and the largest array are counted there, with no number ever stored.
Shapes: m samples of a micro-batch, one picture each, Q visual tokens, L language model width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import DynamicCache

from polylens.models.vlm import VisionLanguageModel
from polylens.training.stages import Plan
from polylens.viscpm.cpm_bee.modeling import CpmBee
from polylens.viscpm.model import VisCpmChat

# Tokens of a VisCPM dictionary beside its pictures, texts and answer: keys, and the ends of segments.
FRAME = 22


@dataclass(frozen=True)
class Length:
    """Text tokens of a sample: those of its prompt and of its answer."""

    prompt: int
    answer: int


@dataclass(frozen=True)
class Walked:
    """Bytes that autograd keeps, those of the logits and of the largest array, and the work of a micro-batch."""

    saved: int
    logits: int
    largest: int
    flops: float


def walk(
    model: VisionLanguageModel | VisCpmChat, plan: Plan, m: int, length: Length, cached: bool, halved: bool
) -> Walked:
    """One micro-batch forward and backward on the meta device."""
    dtype = torch.bfloat16 if halved else torch.float32
    types = {id(p): p.dtype for p in model.parameters()}
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    meter = _Meter()
    kept: dict[int, int] = {}
    own = {_storage(p) for p in model.parameters()}
    try:
        beside = _recomputed(model, m, length, dtype, own) if isinstance(model, VisCpmChat) else 0
        with torch.device("meta"), meter, _keeping(kept, own):
            if isinstance(model, VisCpmChat):
                out, num_logits = _read_dictionaries(model, m, length, dtype)
            else:
                tokens = _see(model, plan, m, cached, dtype)
                if plan.stage.objective == "embeddings":
                    out, num_logits = tokens, 0
                else:
                    out, num_logits = _read(model, tokens, m, length)
            if out.requires_grad:
                out.sum().backward()
    finally:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(types[id(parameter)])
            parameter.grad = None
    saved = sum(kept.values()) + beside
    # Logits as they come and as float32, their log-softmax, and the gradients of both.
    return Walked(saved, num_logits * (14 if halved else 16), meter.size, meter.flops)


def _see(model: VisionLanguageModel, plan: Plan, m: int, cached: bool, dtype: torch.dtype) -> torch.Tensor:
    """(m, Q, L) visual tokens, from the deepest states that the stage has cached."""
    height, width = model.processor.height, model.processor.width
    if cached and plan.boundary == "queries":
        return model.project(torch.empty(m, model.num_image_tokens, model.resampler.width, dtype=dtype))
    if cached and plan.boundary == "patches":
        patches = model.vision.num_patches(height, width)
        return model.visual_tokens(torch.empty(m, patches, model.vision.width, dtype=dtype))
    return model.visual_tokens(model.encode(torch.empty(m, 3, height, width, dtype=dtype)))


def _read(
    model: VisionLanguageModel, tokens: torch.Tensor, m: int, length: Length
) -> tuple[torch.Tensor, int]:
    """(logits of the answers' tokens, how many numbers they are)."""
    num_text = length.prompt if model.is_encoder_decoder else length.prompt + length.answer
    text = model.lm.get_input_embeddings()(torch.empty(m, num_text, dtype=torch.long))
    inputs: dict[str, Any] = {"inputs_embeds": torch.cat([tokens.to(text.dtype), text], 1)}
    if model.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.empty(m, length.answer, dtype=torch.long)
    else:
        # Without one, transformers looks into the positions for packed samples, and these have no values.
        inputs["past_key_values"] = DynamicCache(config=model.lm.config)
    head = model.lm.get_output_embeddings()
    handle = head.register_forward_pre_hook(
        lambda _, args: (args[0][:, -length.answer :].flatten(0, 1), *args[1:])
    )
    try:
        logits = model.lm(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits, logits.numel()


def _read_dictionaries(
    model: VisCpmChat, m: int, length: Length, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """(logits of the answers' tokens, how many numbers they are); layers are computed again backwards."""
    assert model.processor is not None, "a model that sees prepares pictures"
    lm = model.lm
    visual = model.model(torch.empty(m, 3, model.processor.height, model.processor.width, dtype=dtype))
    num_text = FRAME + length.prompt + length.answer
    ids = torch.empty(m, num_text, dtype=torch.long)
    x = torch.cat([visual, lm.input_embedding(ids, ids)], 1)
    lm.recompute = True
    try:
        states = lm.run_layers(x, _bias(lm, x), None)
    finally:
        lm.recompute = False
    extension = torch.empty(1, 2, dtype=torch.long)
    logits = lm.logits(states[:, -length.answer :].flatten(0, 1), extension)
    return logits, logits.numel()


def _bias(lm: CpmBee, x: torch.Tensor) -> torch.Tensor:
    places = torch.empty(len(x), x.shape[1], x.shape[1], dtype=torch.long)
    return lm.position_bias(places).transpose(0, 1).to(x.dtype)


def _recomputed(model: VisCpmChat, m: int, length: Length, dtype: torch.dtype, own: set[int]) -> int:
    """Bytes that are kept where layers are computed again: what goes into each, and the states of one."""
    lm, kept = model.lm, dict[int, int]()
    shape = (m, model.num_image_tokens + FRAME + length.prompt + length.answer, lm.config.hidden_size)
    with torch.device("meta"):
        x = torch.empty(shape, dtype=dtype, requires_grad=True)
        bias = _bias(lm, x)
        with _keeping(kept, own):
            lm.encoder.layers[0](x, bias, None, None, 0)
    return sum(kept.values()) + len(lm.encoder.layers) * x.nbytes


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
def _keeping(kept: dict[int, int], own: set[int]) -> Iterator[None]:
    """Counts in `kept` the storages that autograd keeps, those of parameters left out."""

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
