"""What a recipe will take: memory by part and time per step, from configs alone.

Each stage is applied to the model's skeleton on the meta device, and one micro-batch of stand-in data walks forward and
backward through it (`dry_run`).

Not counted: fragmentation, and what a fused attention saves over the plain one that is counted.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from polylens.errors import UserError
from polylens.models.checkpoints.families import families, find_family
from polylens.models.checkpoints.skeleton import KNOWN, blip2_skeleton, skeleton
from polylens.models.checkpoints.weight_sizes import quantizable, quantized_bytes
from polylens.models.config import ModelConfig
from polylens.recipe import Recipe
from polylens.training.dry_run import dry_run
from polylens.training.stages import Plan, apply_stage, never_trained
from polylens.training.trainable import Length, check_quantization, trainable

GIB = 2**30
# Arrays as large as the largest that live at once beside what autograd keeps.
WORKING = 3
CONTEXT = round(0.8 * GIB)  # CUDA's own, and its libraries'


@dataclass(frozen=True)
class StagePlan:
    """One stage: bytes by part at its micro-batch, and the work of a step.

    `activations` is what autograd keeps, `logits` what the output head and the loss hold, `working` the arrays in
    use besides, `context` the GPU's own share. `largest_micro_batch` fits the given memory, 0 if none does.
    `cache_per_picture` is on disk. `seconds` is per step, `steps` None where epochs of unknown length are trained.
    """

    name: str
    batch_size: int
    micro_batch: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    working: int
    context: int
    largest_micro_batch: int
    flops: float
    seconds: float
    steps: int | None
    cache_per_picture: int
    key_value_cache: int
    advice: str

    @property
    def total(self) -> int:
        """The peak of a training step."""
        fixed = self.weights + self.gradients + self.optimizer + self.context
        return fixed + self.activations + self.logits + self.working

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"total": self.total}


def plan_recipe(
    recipe: Recipe,
    memory: int,
    flops_per_second: float,
    length: Length | None = None,
    context: int = CONTEXT,
) -> list[StagePlan]:
    """The stages of a recipe on a device of `memory` bytes that computes `flops_per_second` in practice.

    `length` is that of a typical sample; 20 + 25 tokens if not given, at most the recipe's `max_length`. Raises
    `UserError` for a recipe without a model, and for parts of which no config is to be had.
    """
    limit = recipe.data.max_length or 1 << 20
    given = length or Length(20, 25)
    length = Length(max(1, min(given.prompt, limit)), max(1, min(given.answer, limit)))
    plans = []
    for index, stage in enumerate(recipe.stages):
        # Adapters of the stages before are there, as in training.
        model = recipe_skeleton(recipe)
        with torch.device("meta"):
            for earlier in recipe.stages[:index]:
                apply_stage(model, earlier)
            plan = apply_stage(model, stage)
        plans.append(_plan_stage(recipe, model, plan, index, length, memory, flops_per_second, context))
    return plans


def recipe_skeleton(recipe: Recipe) -> Any:
    """The model that the recipe trains, also one to `start` from, on the meta device.

    Raises `UserError` for a recipe without a model, and for parts of which no config is to be had.
    """
    start = recipe.model.start
    if start is not None:
        model = _skeleton_of(start)
        check_quantization(model, recipe)
        model.config.language_model.quantization = recipe.model.language_model.quantization
        return model
    config = ModelConfig.model_validate(recipe.model.model_dump(exclude={"start"}))
    if config.vision.path is None:
        raise UserError(
            f"The recipe '{recipe.name}' trains no vision-language model: there is nothing to plan."
        )
    return skeleton(config)


def _skeleton_of(start: str) -> Any:
    if start in KNOWN:
        return blip2_skeleton(start)
    if knowing := next((family for family in families() if start in family.released), None):
        return knowing.skeleton(Path(start))
    family, path = find_family(start, weights=False)
    return family.skeleton(path)


def _plan_stage(
    recipe: Recipe,
    model: Any,
    plan: Plan,
    index: int,
    length: Length,
    memory: int,
    speed: float,
    context: int,
) -> StagePlan:
    stage = plan.stage
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    halved = recipe.precision != "float32"
    quantization = recipe.model.language_model.quantization
    weights = _weights(model, recipe, quantization)
    on_disk = trainable(model).cached_bytes(model, plan, 2 if halved else 4)
    cached = recipe.augmentation.views != "off" and on_disk is not None
    # Two sizes tell what grows with the micro-batch and what does not.
    one = dry_run(model, plan, 1, length, cached, halved)
    two = dry_run(model, plan, 2, length, cached, halved)
    micro = stage.micro_batch or stage.batch_size

    def grown(name: str, size: int) -> int:
        first, second = getattr(one, name), getattr(two, name)
        return max(0, first + (second - first) * (size - 1))

    # Under autocast, half-precision copies of what trains are kept for the backward pass.
    copies = 2 * trained if halved else 0
    fixed = weights + 4 * trained + 8 * trained + context + copies
    moving = [
        grown("saved", size) + grown("logits", size) + WORKING * grown("largest", size) for size in (1, 2)
    ]
    slope, base = moving[1] - moving[0], 2 * moving[0] - moving[1]
    largest = max(0, math.floor((memory - fixed - base) / max(1, slope)))
    largest = min(largest, stage.batch_size)
    flops = one.flops * stage.batch_size
    planned = StagePlan(
        name=stage.name,
        batch_size=stage.batch_size,
        micro_batch=micro,
        trained=trained,
        weights=weights,
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=grown("saved", micro) + copies,
        logits=grown("logits", micro),
        working=WORKING * grown("largest", micro),
        context=context,
        largest_micro_batch=largest,
        flops=flops,
        seconds=flops / speed,
        steps=stage.steps,
        cache_per_picture=(on_disk or 0) if cached else 0,
        key_value_cache=_key_value_bytes(model, length),
        advice="",
    )
    return StagePlan(**asdict(planned) | {"advice": _advice(planned, model, recipe, index, memory)})


def _advice(
    plan: StagePlan,
    model: Any,
    recipe: Recipe,
    index: int,
    memory: int,
) -> str:
    if plan.total <= memory:
        return f"fits; micro_batch may be up to {plan.largest_micro_batch}"
    if plan.largest_micro_batch:
        return f"set stages.{index}.micro_batch={plan.largest_micro_batch}"
    hint = "" if plan.micro_batch == 1 else f", or try stages.{index}.micro_batch=1"
    needed = plan.total
    whole = any(weight.requires_grad for weight in _held_in_bits(model))
    # What trains cannot be in few bits.
    if not trainable(model).quantizes or (recipe.model.start is not None and whole):
        return f"needs {needed / GIB:.1f} GiB: choose a larger GPU, or train less of it{hint}"
    if recipe.model.language_model.quantization is None:
        for kind in ("int8", "nf4"):
            saved = _weights(model, recipe, None) - _weights(model, recipe, kind)
            if plan.total - saved <= memory:
                return f"set model.language_model.quantization={kind}"
            needed = plan.total - saved
    return f"needs {needed / GIB:.1f} GiB even in 4 bits: choose a smaller model or a larger GPU{hint}"


def _weights(model: Any, recipe: Recipe, quantization: Literal["int8", "nf4"] | None) -> int:
    """As the trainer holds them: what never trains in half precision where the recipe says so."""
    frozen = {id(p) for p in never_trained(model, recipe.stages).values()}
    sizes = {}
    in_lm = {id(parameter) for parameter in model.lm.parameters()}
    for name, parameter in model.named_parameters():
        small = recipe.precision != "float32" and id(parameter) in frozen and parameter.ndim > 1
        small |= quantization is not None and id(parameter) in in_lm and ".lora_" not in name
        sizes[id(parameter)] = parameter.numel() * (2 if small and ".lora_" not in name else 4)
    if quantization:
        for weight in _held_in_bits(model):
            if not weight.requires_grad:
                sizes[id(weight)] = quantized_bytes(weight, quantization)
    return sum(sizes.values()) + sum(buffer.nbytes for buffer in model.buffers())


def _held_in_bits(model: Any) -> list[nn.Parameter]:
    """The weights that a quantized language model holds in few bits, those of adapters left out."""
    linear = {id(module.weight) for module in quantizable(model.lm)}
    return [p for name, p in model.lm.named_parameters() if id(p) in linear and ".lora_" not in name]


def _key_value_bytes(model: Any, length: Length) -> int:
    """Keys and values in half precision while one sample is answered, per beam."""
    config = model.lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_width = getattr(config, "d_kv", None) or getattr(config, "head_dim", None)
    head_width = head_width or config.hidden_size // config.num_attention_heads
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    read = model.num_image_tokens + length.prompt
    return 2 * 2 * layers * heads * head_width * (read + length.answer)
