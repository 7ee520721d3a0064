"""Checkpoints of mBLIP's own training program: a Lightning `.ckpt`, and beside it the adapter's folder.

    checkpoints/1-60663.ckpt    {"state_dict": {"model.model.query_tokens": ..., "model.model.qformer...": ...}, ...}
    checkpoints/1-60663/        adapter_config.json, adapter_model.bin

The file holds what was trained: projection, and Q-Former with its queries unless they were frozen. Encoder and
language model come from where that run took them.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.config import LanguageModelConfig, ModelConfig, ResamplerConfig, VisionConfig
from polylens.models.parts.lora import load_adapters
from polylens.models.parts.resamplers import QFormer
from polylens.models.vlm import VisionLanguageModel

# Parts of a tensor's name before the name that BLIP-2 gives it.
WRAPPERS = "model."
FROZEN = ("vision_model.", "language_model.")
# What tensors are unpickled with; anything else in the file becomes an object without a meaning.
TENSOR_MODULES = ("torch._utils", "torch._tensor", "torch.storage", "torch", "collections")
TENSOR_NAMES = frozenset(
    {"_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter", "OrderedDict", "Size", "device"}
)


class _Nothing:
    """Stands for an object of the training program (its config, its callbacks), whose code is not run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_type or (module in TENSOR_MODULES and (name in TENSOR_NAMES or name.endswith("Storage"))):
            return super().find_class(module, name)
        return _Nothing


def _unpickling() -> ModuleType:
    """What `torch.load` takes for `pickle`."""
    module: Any = ModuleType("unpickling")
    module.Unpickler, module.load = _Unpickler, lambda file, **more: _Unpickler(file, **more).load()
    return module


def read_lightning(path: str | Path) -> dict[str, torch.Tensor]:
    """The trained tensors of a `.ckpt` under BLIP-2's names; nothing in the file is executed.

    Raises `UserError` for a file of another kind, and for tensors that mBLIP has none of.
    """
    try:
        content = torch.load(path, map_location="cpu", pickle_module=_unpickling(), weights_only=False)
        state = content.get("state_dict", content)
        tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    except Exception as error:
        raise UserError(
            f"'{path}' cannot be read as a Lightning checkpoint ({error}): is it the .ckpt?"
        ) from error
    found = {}
    for name, tensor in tensors.items():
        own = name
        while own.startswith(WRAPPERS):
            own = own.removeprefix(WRAPPERS)
        if own.startswith(FROZEN):
            if "lora_" in own:
                raise UserError(
                    f"'{path}' holds adapters itself ('{name}'): only those in a folder beside it are read."
                )
            continue
        if not own.startswith(("query_tokens", "qformer.", "language_projection.")):
            raise UserError(
                f"'{path}' holds '{name}', which mBLIP has no part for: is it another model's checkpoint?"
            )
        found[own] = tensor
    if not found:
        raise UserError(f"'{path}' holds no projection and no Q-Former: is it a checkpoint of mBLIP?")
    return found


def convert_lightning(
    path: str | Path,
    blip2: str,
    language_model: str,
    adapter: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> VisionLanguageModel:
    """The model of a run: encoder and Q-Former of `blip2`, `language_model`, and on them what the run trained.

    Raises `UserError` for tensors that do not fit, and for an adapter of another model.
    """
    trained = read_lightning(path)
    config = ModelConfig(
        vision=VisionConfig(path=blip2),
        resampler=ResamplerConfig(kind="qformer", path=blip2),
        language_model=LanguageModelConfig(path=language_model),
    )
    model = build_model(config, dtype)
    resampler = model.resampler
    assert isinstance(resampler, QFormer)
    _load(model.projector, _below(trained, "language_projection."), path, "projection")
    if any(name.startswith("qformer.") for name in trained):
        _load(resampler.model, _below(trained, "qformer."), path, "Q-Former")
    if "query_tokens" in trained:
        _load(resampler, {"query_tokens": trained["query_tokens"]}, path, "Q-Former", strict=False)
    if adapter is not None:
        load_adapters(model.language_model, Path(adapter))
    return model.eval()


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _load(
    module: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    path: str | Path,
    what: str,
    strict: bool = True,
) -> None:
    # Old transformers kept a table of positions among the weights.
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}
    try:
        module.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The {what} in '{path}' does not fit ({reason}): name the parts of that run."
        ) from error
