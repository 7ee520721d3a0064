"""How many bytes a model's weights take in each precision, counted on its modules (the meta device will do)."""

import math
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from polylens.models.config import Precision, Quantization
from polylens.models.vlm import VisionLanguageModel

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8", "nf4")
PARTS = ("vision", "resampler", "projector", "language_model")
NF4_BLOCK = 64  # weights that share one scale
NF4_CODE = 16  # values that four bits choose from


def weight_bytes(model: VisionLanguageModel, precision: Precision) -> dict[str, int]:
    """Bytes of each part; of a quantized precision, its parts but the language model are in bfloat16."""
    plain: Precision = "float32" if precision == "float32" else "bfloat16"
    sizes = {part: module_bytes(getattr(model, part), plain) for part in PARTS[:3]}
    return sizes | {"language_model": language_model_bytes(model.lm, precision)}


def module_bytes(module: nn.Module, precision: Precision) -> int:
    """Bytes of parameters, each once, in a plain precision, and of buffers as they are."""
    each = 4 if precision == "float32" else 2
    return each * sum(p.numel() for p in module.parameters()) + sum(b.nbytes for b in module.buffers())


def language_model_bytes(lm: Any, precision: Precision) -> int:
    """Bytes of a language model; quantized, its linear layers shrink as bitsandbytes and transformers have it."""
    if precision not in ("int8", "nf4"):
        return module_bytes(lm, precision)
    size = module_bytes(lm, "bfloat16")
    for weight in (module.weight for module in quantizable(lm)):
        size += quantized_bytes(weight, precision) - 2 * weight.numel()
    return size


def quantized_bytes(weight: torch.Tensor, quantization: Quantization) -> int:
    """Bytes of one linear layer's weight (rows, columns) with its scales."""
    if quantization == "int8":
        return weight.numel() + 4 * weight.shape[0]
    return math.ceil(weight.numel() / 2) + 4 * math.ceil(weight.numel() / NF4_BLOCK) + 4 * NF4_CODE


def quantizable(lm: Any) -> list[nn.Linear]:
    """The linear layers that get quantized: not the output head, nor what the model's class keeps out (T5: wo)."""
    kept_out = set(getattr(lm, "_keep_in_fp32_modules", None) or ())
    kept_out |= set(getattr(lm, "_keep_in_fp32_modules_strict", None) or ())
    head = lm.get_output_embeddings() if hasattr(lm, "get_output_embeddings") else None
    return [
        module
        for name, module in lm.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and not kept_out & set(name.split("."))
    ]
