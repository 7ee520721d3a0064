"""AdamW with decay on matrices only, a schedule with warm-up, clipping, and the scale of a loss in float16."""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from polylens.training.stages import Plan

SCALER = "loss scale|"  # before the names of what a scaler keeps
KEPT = ("scale", "_growth_tracker")


def build_optimizer(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    """One parameter group per row of the stage's table and kind; norms, biases and all 1-D parameters do not
    decay.

    A group's `pattern` is its row, `peak` its highest learning rate, `names` its parameters.
    """
    norms = {
        f"{name}.{part}" if name else part
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for part, _ in module.named_parameters(recurse=False)
    }
    parameters = dict(model.named_parameters())
    groups: dict[tuple[str, bool], list[str]] = {}
    for name, pattern in plan.rows.items():
        decays = parameters[name].ndim > 1 and name not in norms and name.rpartition(".")[2] != "bias"
        groups.setdefault((pattern, decays), []).append(name)
    return torch.optim.AdamW(
        [
            {
                "params": [parameters[name] for name in names],
                "names": names,
                "pattern": pattern,
                "peak": plan.learning_rate(names[0]),
                "lr": plan.learning_rate(names[0]),
                "weight_decay": plan.stage.weight_decay if decays else 0.0,
            }
            for (pattern, decays), names in groups.items()
        ],
        betas=plan.stage.betas,
        fused=True,
    )


def schedule(step: int, total: int, warmup: int, shape: Literal["cosine", "constant"] = "cosine") -> float:
    """The share of the peak learning rate in step `step` (from 0) of `total`: a line up, then a cosine down
    to 0, or the peak to the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group to `factor` times its peak. Returns {pattern: learning rate}."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return {group["pattern"]: group["lr"] for group in optimizer.param_groups}


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that their joint norm is at most `limit`. Returns the norm before, a scalar."""
    return nn.utils.clip_grad_norm_(parameters, limit)


def scaler_tensors(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """The scale of the loss, and the steps since it last changed, as tensors to be kept with the optimizer's."""
    state = scaler.state_dict()
    return {
        f"{SCALER}{key}": torch.tensor(float(state[key]), dtype=torch.float64) for key in KEPT if key in state
    }


def load_scaler_tensors(scaler: torch.amp.GradScaler, tensors: dict[str, Tensor]) -> None:
    """Restore what `scaler_tensors` gave, if it is there."""
    found = {key: tensors[f"{SCALER}{key}"].item() for key in KEPT if f"{SCALER}{key}" in tensors}
    if found:
        scaler.load_state_dict(
            scaler.state_dict() | found | {"_growth_tracker": int(found["_growth_tracker"])}
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as {"parameter name|key": tensor}, so that it can be stored without pickling."""
    tensors = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in optimizer.state[parameter].items():
                tensors[f"{name}|{key}"] = value.contiguous()
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave, by parameter name."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("|")
        states.setdefault(parameter_name, {})[key] = tensor
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in states:
                optimizer.state[parameter] = {
                    key: _laid_out(value.to(parameter.device), parameter)
                    for key, value in states[name].items()
                }


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """A moment in its parameter's memory format, which the fused optimizer takes for granted."""
    return torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
