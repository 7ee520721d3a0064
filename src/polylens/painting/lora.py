"""LoRA (arXiv 2106.09685) on the denoiser's linear layers, by diffusers' own hold on PEFT."""

import fnmatch
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from polylens.errors import UserError

PREFIX = "denoiser."


class DenoiserLora(BaseModel):
    """Which layers carry adapters, and of what size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


def apply_denoiser_lora(denoiser: Any, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
    """Put adapters beside all linear layers of the denoiser whose weight's name
    ("denoiser.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight") matches `pattern`.

    A denoiser that carries these very adapters already stays as it is. Raises `UserError` when it carries
    others, or when the pattern matches no linear layer.
    """
    names = {
        name.removesuffix(".base_layer")
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    }
    targets = sorted(name for name in names if fnmatch.fnmatchcase(f"{PREFIX}{name}.weight", pattern))
    if not targets:
        raise UserError(
            f"The LoRA pattern '{pattern}' matches no linear layer of the denoiser; '{PREFIX}*attn2*' does."
        )
    wanted = DenoiserLora(rank=rank, alpha=alpha, dropout=dropout, targets=tuple(targets))
    present = adapters(denoiser)
    if present is None:
        add_adapters(denoiser, wanted)
    elif present != wanted:
        raise UserError(
            f"The denoiser carries LoRA adapters of rank {present.rank}, alpha {present.alpha:g}: "
            "use the same settings and pattern."
        )


def add_adapters(denoiser: Any, lora: DenoiserLora) -> None:
    """Adapters as `lora` says, the second matrix of each zero."""
    from peft import LoraConfig

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
    )
    denoiser.add_adapter(config)


def adapters(denoiser: Any) -> DenoiserLora | None:
    """The adapters that the denoiser carries, if any."""
    config = getattr(denoiser, "peft_config", {}).get("default")
    if config is None:
        return None
    targets = sorted(
        n.removesuffix(".base_layer") for n, _ in denoiser.named_modules() if n.endswith(".base_layer")
    )
    return DenoiserLora(
        rank=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout, targets=tuple(targets)
    )
