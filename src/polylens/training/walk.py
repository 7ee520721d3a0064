"""One micro-batch of stand-in data, forward and backward through a model on the meta device.

What autograd keeps, what is computed (FLOPs) and the largest array are counted there, with no number ever stored.
Shapes: m samples of a micro-batch, one picture each, Q visual tokens, L language model width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from polylens.models.vlm import VisionLanguageModel
from polylens.training.objectives import find_objective
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
    largest, counter = _Largest(), FlopCounterMode(display=False)
    kept: dict[int, int] = {}
    own = {_storage(p) for p in model.parameters()}
    try:
        beside = _recomputed(model, m, length, dtype, own) if isinstance(model, VisCpmChat) else 0
        with torch.device("meta"), largest, counter, _keeping(kept, own):
            if isinstance(model, VisCpmChat):
                out, num_logits = _read_dictionaries(model, m, length, dtype)
            else:
                tokens = _see(model, plan, m, cached, dtype)
                if not find_objective(plan.stage.objective).runs_language_model:
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
    return Walked(saved, num_logits * (14 if halved else 16), largest.size, counter.get_total_flops())


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


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest array that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(out):
            # A view of what was given is no array of its own.
            if isinstance(leaf, torch.Tensor) and _storage(leaf) not in given:
                self.size = max(self.size, leaf.untyped_storage().nbytes())
        return out


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
