"""`polylens plan`."""

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from polylens.commands.common import Json, Overrides, Recipe, consoles, print_json, quiet_libraries, say
from polylens.commands.models import human
from polylens.errors import UserError

if TYPE_CHECKING:
    from polylens.training.plan import StagePlan

UNITS = {"MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30}
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "working", "context")


def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    gpu: Annotated[
        str, typer.Option(metavar="SIZE", help="The GPU's memory, as in 24GB or 22.5GiB.")
    ] = "24GB",
    tflops: Annotated[
        float,
        typer.Option(min=0.001, help="Its peak in the recipe's precision, in TFLOP/s; 71: an RTX 3090."),
    ] = 71.0,
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
    from polylens.training.plan import plan_recipe
    from polylens.training.trainable import Length

    quiet_libraries()
    memory = _bytes(gpu)
    match = re.fullmatch(r"([1-9]\d*)\+([1-9]\d*)", tokens)
    if not match:
        raise UserError(
            f"--tokens is '{tokens}', but must look like 20+25: those of the prompt and the answer."
        )
    chosen = load_recipe(recipe, overrides or [])
    length = Length(int(match[1]), int(match[2]))
    plans = plan_recipe(chosen, memory, tflops * 1e12 * utilization, length)
    if as_json:
        print_json({"recipe": chosen.name, "memory": memory, "stages": [stage.to_dict() for stage in plans]})
        return
    console, _ = consoles()
    console.print(_table(plans, chosen.name, gpu))
    for stage in plans:
        say(console, f"{stage.name}: {stage.advice}")
    say(console, f"Times hold for {tflops:g} TFLOP/s at {utilization:.0%}, {tokens} text tokens a sample.")


def _table(plans: "list[StagePlan]", name: str, gpu: str) -> Table:
    table = Table(box=None, pad_edge=False, title=f"{name} on {gpu}", title_justify="left")
    table.add_column("")
    for stage in plans:
        table.add_column(stage.name, justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("trained parameters", [f"{stage.trained:,}" for stage in plans]),
        ("micro-batch / batch", [f"{stage.micro_batch} / {stage.batch_size}" for stage in plans]),
        *((part, [human(getattr(stage, part)) for stage in plans]) for part in PARTS),
        ("peak memory", [human(stage.total) for stage in plans]),
        ("compute per step", [f"{stage.flops / 1e12:.1f} TFLOP" for stage in plans]),
        ("time per step", [f"{stage.seconds:.2f} s" for stage in plans]),
        ("time of the stage", [_hours(stage) for stage in plans]),
        ("feature cache on disk, 1,000 pictures", [human(1000 * stage.cache_per_picture) for stage in plans]),
        ("keys and values of an answer, per beam", [human(stage.key_value_cache) for stage in plans]),
    ]
    for heading, cells in rows:
        table.add_row(heading, *cells, style="bold" if heading == "peak memory" else None)
    return table


def _hours(stage: "StagePlan") -> str:
    return "by the data" if stage.steps is None else f"{stage.steps * stage.seconds / 3600:.1f} h"


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)\s*", text, re.IGNORECASE)
    if not match or match[2].upper() not in UNITS:
        raise UserError(f"--gpu is '{text}', but must be a size of memory, as in 24GB or 22.5GiB.")
    return round(float(match[1]) * UNITS[match[2].upper()])
