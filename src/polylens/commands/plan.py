"""`polylens plan`."""

import os
import re
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from polylens.commands.common import Json, Overrides, Recipe, consoles, print_json, quiet_libraries, say
from polylens.commands.models import human
from polylens.errors import UserError

if TYPE_CHECKING:
    from polylens.training.plan import StagePlan

UNITS = {"MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30}
CPU_TFLOPS = 0.3
# A recipe whose stages take less memory, and less work in a step, is one for a CPU.
SMALL = 4 * 2**30
SMALL_STEP = 1e12


class Device(NamedTuple):
    """What trains: its name, bytes of memory, TFLOP/s at the peak, and the bytes that it takes itself."""

    name: str
    memory: int
    tflops: float
    context: int


GPU = Device("24GB", 24 * 10**9, 71.0, round(0.8 * 2**30))
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "working", "context")


def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE|cpu",
            help="The GPU's memory, as in 24GB or 22.5GiB; cpu: none. By default cpu for small models, else 24GB.",
        ),
    ] = None,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="The peak in the recipe's precision, in TFLOP/s; by default 71, an RTX 3090, or 0.3, two CPU cores.",
        ),
    ] = None,
    utilization: Annotated[
        float, typer.Option(min=0.01, max=1, help="The share of the peak that training reaches.")
    ] = 0.35,
    tokens: Annotated[
        str, typer.Option(metavar="PROMPT+ANSWER", help="Text tokens of a typical sample.")
    ] = "20+25",
    as_json: Json = False,
) -> None:
    """Estimate what each stage of a recipe takes: memory by part, time per step, and what would make it fit.

    Nothing is loaded: the models' configs are enough, and of the models that packaged recipes name the package
    knows them. Memory is for the recipe's micro-batch.

    \b
    Examples
      polylens plan mblip-mt0-xl --gpu 24GB
      polylens plan mblip-bloomz-7b model.language_model.quantization=nf4 --gpu 16GB
      polylens plan mine.yaml stages.0.micro_batch=8 --gpu 80GB --tflops 989 --json
    """
    from polylens.recipe import load_recipe

    quiet_libraries()
    device = None if gpu is None else _device(gpu)
    match = re.fullmatch(r"([1-9]\d*)\+([1-9]\d*)", tokens)
    if not match:
        raise UserError(
            f"--tokens is '{tokens}', but must look like 20+25: those of the prompt and the answer."
        )
    chosen = load_recipe(recipe, overrides or [])
    from polylens.training.plan import plan_recipe
    from polylens.training.trainable import Length

    length = Length(int(match[1]), int(match[2]))
    used = device or GPU
    plans = plan_recipe(
        chosen, used.memory, (tflops or used.tflops) * 1e12 * utilization, length, used.context
    )
    if device is None and all(stage.total < SMALL and stage.flops < SMALL_STEP for stage in plans):
        used = _device("cpu")
        plans = plan_recipe(chosen, used.memory, (tflops or used.tflops) * 1e12 * utilization, length, 0)
    if as_json:
        stages = [stage.to_dict() for stage in plans]
        print_json({"recipe": chosen.name, "device": used.name, "memory": used.memory, "stages": stages})
        return
    console, _ = consoles()
    console.print(_table(plans, chosen.name, used.name))
    for stage in plans:
        say(console, f"{stage.name}: {stage.advice}")
    speed = f"{tflops or used.tflops:g} TFLOP/s at {utilization:.0%}"
    say(console, f"Times hold for {speed}, {tokens} text tokens a sample.")


def _table(plans: "list[StagePlan]", name: str, device: str) -> Table:
    table = Table(box=None, pad_edge=False, title=f"{name} on {device}", title_justify="left")
    table.add_column("")
    for stage in plans:
        table.add_column(stage.name, justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("trained parameters", [f"{stage.trained:,}" for stage in plans]),
        ("micro-batch / batch", [f"{stage.micro_batch} / {stage.batch_size}" for stage in plans]),
        *((part, [human(getattr(stage, part)) for stage in plans]) for part in PARTS),
        ("peak memory", [human(stage.total) for stage in plans]),
        ("compute per step", [f"{stage.flops / 1e12:.3g} TFLOP" for stage in plans]),
        ("time per step", [_duration(stage.seconds) for stage in plans]),
        ("time of the stage", [_whole(stage) for stage in plans]),
        ("feature cache on disk, 1,000 pictures", [human(1000 * stage.cache_per_picture) for stage in plans]),
        ("keys and values of an answer, per beam", [human(stage.key_value_cache) for stage in plans]),
    ]
    for heading, cells in rows:
        table.add_row(heading, *cells, style="bold" if heading == "peak memory" else None)
    return table


def _whole(stage: "StagePlan") -> str:
    return "by the data" if stage.steps is None else _duration(stage.steps * stage.seconds)


def _duration(seconds: float) -> str:
    """Seconds in the unit that people would take, with three digits."""
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 0.1):
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"


def _device(text: str) -> Device:
    if text.strip().lower() != "cpu":
        return Device(text, _bytes(text), GPU.tflops, GPU.context)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(f"the CPU, {memory / 2**30:.0f} GiB of memory", memory, CPU_TFLOPS, 0)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)\s*", text, re.IGNORECASE)
    if not match or match[2].upper() not in UNITS:
        raise UserError(f"--gpu is '{text}', but must be a size of memory, as in 24GB or 22.5GiB, or cpu.")
    return round(float(match[1]) * UNITS[match[2].upper()])
