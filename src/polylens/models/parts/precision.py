"""The precisions a model is loaded in: float32, bfloat16, or its language model in 8 or 4 bits.

Of a quantized model the vision tower, resampler and projector stay in bfloat16, and so do the language
model's embeddings, norms and output head; its other linear layers are bitsandbytes' (arXiv 2208.07339 for
int8, arXiv 2305.14314 for nf4).
"""

import os
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from polylens.errors import UserError
from polylens.models.config import Precision, Quantization

# On CPUs oneDNN compiles a kernel for every shape in bfloat16. Batches shrink row by row as answers end, and the 1,024
# kernels that it keeps by default are soon pushed out and compiled again.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
# Large tensors of every step come as fresh memory: in huge pages the system hands it out several times as fast. (torch
# looks at this when it makes its first tensor.)
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def split_precision(precision: Precision) -> tuple[torch.dtype, Quantization | None]:
    """The type of the plain weights, and how the language model is quantized, if it is."""
    if precision in ("int8", "nf4"):
        return torch.bfloat16, precision
    return getattr(torch, precision), None


def check_device(precision: Precision) -> None:
    """Raises `UserError` where a quantized model would have to run without a GPU, slower than a plain one."""
    if precision in ("int8", "nf4") and not torch.cuda.is_available():
        raise UserError(f"The precision {precision} needs a CUDA GPU, and there is none: use bfloat16.")


def has_amx() -> bool:
    """Whether the CPU multiplies tiles of bfloat16: several times as fast as float32, sums in float32."""
    # torch tells of it under no public name yet.
    return torch.cpu._is_amx_tile_supported()


def fast_dtype(device: Literal["cpu", "cuda"] | None = None) -> torch.dtype:
    """bfloat16 where the device multiplies matrices in it natively (a GPU; AMX or AVX-512 BF16 of a CPU), else float32.
    Without `device` it is the GPU if there is one.
    """
    on_gpu = torch.cuda.is_available() if device is None else device == "cuda"
    on_cpu = has_amx() or torch.cpu._is_avx512_bf16_supported()
    native = torch.cuda.is_bf16_supported() if on_gpu else on_cpu
    return torch.bfloat16 if native else torch.float32


def loading_settings(dtype: torch.dtype, quantization: Quantization | None) -> dict[str, Any]:
    """What transformers' `from_pretrained` is given. Raises `UserError` without bitsandbytes."""
    if quantization is None:
        return {"dtype": dtype}
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"{quantization} needs bitsandbytes, which is not installed: pip install 'polylens[quantization]', "
            "or use bfloat16."
        )
    if quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    return {"dtype": torch.bfloat16, "quantization_config": config}


def is_quantized(model: nn.Module) -> bool:
    """Whether weights of `model` are held in 8 or 4 bits."""
    return bool(quantized_weights(model))


def quantized_weights(model: nn.Module) -> set[str]:
    """The names of the weights of `model` that are held in 8 or 4 bits."""
    kinds = ("Linear8bitLt", "Linear4bit")
    return {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ in kinds}
