"""LoRA (arXiv 2106.09685) on the linear layers of any model, by PEFT.

A model says which of its modules carries adapters: `VisionLanguageModel` its language model, `VisCpmChat` all of
VisCPM, `Painter` its denoiser. Adapters are injected in place, so the names of all other parameters stay, but for the
`.base_layer.` in those that an adapter stands beside. The second matrix of each adapter begins as zero.
"""

import fnmatch
import pickle
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from polylens.errors import UserError
from polylens.models.parts.precision import is_quantized

NAME = "default"  # PEFT's name for the one adapter of a model
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
PEFT_PREFIX = "base_model.model."
BASE = ".base_layer"


class Adaptable(Protocol):
    """A model with one module that adapters go into; `adapted` is its attribute."""

    adapted: str


class Lora(BaseModel):
    """Which layers of a module carry adapters, and of what size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


def apply_lora(
    model: Adaptable, pattern: str, *, rank: int = 8, alpha: float = 16, dropout: float = 0.05
) -> None:
    """Put adapters beside all linear layers of the adapted module, its output head excepted, whose weight's name in
    the model ("language_model.model.layers.0.mlp.up_proj.weight") matches `pattern`.

    A model that carries these very adapters already is left as it is. Raises `UserError` when it carries others, or
    when the pattern matches no linear layer.
    """
    if rank < 1:
        raise UserError(f"The LoRA rank is {rank}, but must be at least 1.")
    module: Any = _adapted(model)
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    names = [
        name.removesuffix(BASE)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head and ".lora_" not in name
    ]
    targets = {name for name in names if fnmatch.fnmatchcase(f"{model.adapted}.{name}.weight", pattern)}
    if not targets:
        raise UserError(
            f"The LoRA pattern '{pattern}' matches no linear layer of the {model.adapted}; '{model.adapted}.*' does."
        )
    wanted = Lora(rank=rank, alpha=alpha, dropout=dropout, targets=tuple(sorted(targets)))
    present = adapters(module)
    if present is None:
        add_adapters(module, wanted)
    elif present != wanted:
        raise UserError(
            f"The model carries LoRA adapters of rank {present.rank}, alpha {present.alpha:g}: use the same settings "
            "and pattern, or merge them first."
        )


def merge_lora(model: Adaptable) -> None:
    """Add the adapters into the weights that they stand beside, and drop them; no adapters, no change.

    Raises `UserError` for weights in 8 or 4 bits, which would lose what the adapters learnt.
    """
    module: Any = _adapted(model)
    present = adapters(module)
    if present is None:
        return
    if is_quantized(module):
        raise UserError("Adapters cannot be merged into weights of 8 or 4 bits: load the model in bfloat16.")
    for name in present.targets:
        layer = module.get_submodule(name)
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, layer.get_base_layer())
    del module.peft_config


def has_adapters(module: nn.Module) -> bool:
    """Whether adapters have been put into the module."""
    return bool(getattr(module, "peft_config", None))


def adapters(module: nn.Module) -> Lora | None:
    """The adapters that the module carries, if any."""
    config = getattr(module, "peft_config", {}).get(NAME)
    if config is None:
        return None
    targets = sorted(n.removesuffix(BASE) for n, _ in module.named_modules() if n.endswith(BASE))
    return Lora(rank=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout, targets=tuple(targets))


def add_adapters(module: nn.Module, lora: Lora) -> None:
    """Put in new adapters as `lora` says, in float32."""
    from peft import inject_adapter_in_model

    # Conv1D, as GPT-2 has it, stores its weight transposed.
    transposed = any(isinstance(module.get_submodule(name), Conv1D) for name in lora.targets)
    inject_adapter_in_model(_config(lora, transposed), module)
    _widen(module)


def _config(lora: Lora, transposed: bool) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(lora.targets),
        fan_in_fan_out=transposed,
    )


def save_adapters(module: nn.Module, folder: Path, base: str) -> None:
    """Write the adapters as PEFT does; `base` is the path or hub id of what they stand beside."""
    from peft import get_peft_model_state_dict

    folder.mkdir(exist_ok=True)
    lora = adapters(module)
    assert lora is not None, "only a module with adapters is saved"
    carried: Any = module.peft_config
    config = _config(lora, carried[NAME].fan_in_fan_out)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(folder)
    state = get_peft_model_state_dict(module, adapter_name=NAME)
    tensors = {f"{PEFT_PREFIX}{name}": t.detach().cpu().contiguous() for name, t in state.items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def read_adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors in a folder of PEFT, which older versions wrote as `.bin`. Raises `OSError` for a folder without."""
    if (folder / WEIGHTS).is_file() or not (folder / OLD_WEIGHTS).is_file():
        return load_file(folder / WEIGHTS)
    tensors: dict[str, torch.Tensor] = torch.load(folder / OLD_WEIGHTS, map_location="cpu", weights_only=True)
    return tensors


def load_adapters(module: nn.Module, folder: Path) -> None:
    """Put in the adapters of a folder that PEFT or `save_adapters` wrote.

    Raises `UserError` for one that is damaged, or whose adapters are not those of this module.
    """
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict

    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = read_adapter_tensors(folder)
        inject_adapter_in_model(config, module)
        state = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items()}
        result = set_peft_model_state_dict(module, state, adapter_name=NAME)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(f"The LoRA adapter of '{folder}' cannot be loaded: {error}") from error
    lost = [n for n in result.missing_keys if ".lora_" in n] + list(result.unexpected_keys)
    if lost:
        raise UserError(
            f"The LoRA adapter of '{folder}' does not fit this model: see '{lost[0]}' ({len(lost)} in all)."
        )
    _widen(module)


def plain_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's tensors under the names of its own class, adapters left out."""
    return {n.replace(f"{BASE}.", "."): t for n, t in module.state_dict().items() if ".lora_" not in n}


def _adapted(model: Adaptable) -> nn.Module:
    return getattr(model, model.adapted)


def _widen(module: nn.Module) -> None:
    """Adapters in float32, whatever the type of what they stand beside: their updates are small."""
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
