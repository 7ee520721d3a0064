"""LoRA (arXiv 2106.09685) on the language model's linear layers, by PEFT."""

import fnmatch
from typing import TYPE_CHECKING, Protocol, TypeGuard

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from polylens.errors import UserError
from polylens.models.parts.precision import is_quantized

if TYPE_CHECKING:
    from peft import PeftModel

PREFIX = "language_model."


class Adaptable(Protocol):
    """A model whose language model can be wrapped by PEFT; `lm` is what lies inside."""

    language_model: nn.Module

    @property
    def lm(self) -> PreTrainedModel: ...


def has_adapters(language_model: nn.Module) -> "TypeGuard[PeftModel]":
    """Whether PEFT is around it. PEFT takes seconds to import, so only what needs adapters does."""
    return hasattr(language_model, "peft_config")


def apply_lora(
    model: Adaptable, pattern: str, *, rank: int = 8, alpha: float = 16, dropout: float = 0.05
) -> None:
    """Put adapters beside all linear layers of the language model, its output head excepted, whose weight's
    name ("language_model.model.layers.0.mlp.up_proj.weight") matches `pattern`; all else of it is frozen.

    A model that carries these very adapters already is left as it is. Raises `UserError` when it carries
    others, or when the pattern matches no linear layer.
    """
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise UserError(f"The LoRA rank is {rank}, but must be at least 1.")
    head = model.lm.get_output_embeddings()
    names = [
        name.removesuffix(".base_layer")
        for name, module in model.lm.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and ".lora_" not in name
    ]
    targets = {name for name in names if fnmatch.fnmatchcase(f"{PREFIX}{name}.weight", pattern)}
    if not targets:
        raise UserError(
            f"The LoRA pattern '{pattern}' matches no linear layer of the language model; '{PREFIX}*' does."
        )
    wanted = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
    if has_adapters(model.language_model):
        present = model.language_model.peft_config["default"]
        carrying = {
            n.removesuffix(".base_layer") for n, _ in model.lm.named_modules() if n.endswith(".base_layer")
        }
        if carrying != targets or any(getattr(present, key) != value for key, value in wanted.items()):
            raise UserError(
                f"The model carries LoRA adapters of rank {present.r}, alpha {present.lora_alpha}: "
                "use the same settings and pattern, or merge them first."
            )
        return
    config = LoraConfig(**wanted, target_modules=sorted(targets))
    model.language_model = get_peft_model(model.language_model, config)


def merge_lora(model: Adaptable) -> None:
    """Add the adapters into the weights that they stand beside, and drop them; no adapters, no change.

    Raises `UserError` for weights in 8 or 4 bits, which would lose what the adapters learnt.
    """
    if has_adapters(model.language_model):
        if is_quantized(model.language_model):
            raise UserError(
                "Adapters cannot be merged into weights of 8 or 4 bits: load the model in bfloat16."
            )
        model.language_model = model.language_model.merge_and_unload()
