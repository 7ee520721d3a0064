"""`polylens info` and `polylens export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from polylens.commands.common import Json, Model, consoles, print_json, quiet_libraries, say

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo


def info(model: Model, as_json: Json = False) -> None:
    """Say what a model is: its parts, their sizes, and the memory it takes in each precision.

    Works on BLIP-2 and mBLIP folders, checkpoints of Polylens, VisCPM's released files and language models. Only
    configs and the headers of weight files are read, so it takes seconds for a model of any size.

    \b
    Examples
      polylens info picto
      polylens info Gregor/mblip-mt0-xl        of a model on the hub, its config only
      polylens info runs/mine/model --json
    """
    from polylens.models.checkpoints.registry import find_model

    quiet_libraries()
    if not Path(model).is_file():
        find_model(model)
    from polylens.models.checkpoints.info import describe

    found = describe(model)
    if as_json:
        print_json(found.to_dict())
        return
    console, _ = consoles()
    say(console, f"{model}: {found.kind}")
    console.print(_parts(found))
    console.print(_memory(found))
    if found.languages:
        say(console, f"languages: {', '.join(found.languages)}")
    for note in found.notes:
        say(console, f"note: {note}")


def _parts(found: "ModelInfo") -> Table:
    table = Table(box=None, pad_edge=False, title="parts", title_justify="left")
    for heading in ("part", "what", "parameters", "on disk", "type", "from"):
        table.add_column(heading, justify="right" if heading in ("parameters", "on disk") else "left")
    for part in found.parts:
        disk = human(part.size_on_disk) if part.tensors else "-"
        row = (part.name, part.kind, f"{part.parameters:,}", disk, ", ".join(part.types), part.source or "")
        table.add_row(*row)
    return table


def _memory(found: "ModelInfo") -> Table:
    table = Table(box=None, pad_edge=False, title="\nmemory for the weights", title_justify="left")
    parts = list(next(iter(found.memory.values())))
    for heading in ("precision", *parts, "total"):
        table.add_column(heading, justify="left" if heading == "precision" else "right")
    for precision, sizes in found.memory.items():
        table.add_row(precision, *(human(sizes[part]) for part in parts), human(sum(sizes.values())))
    return table


def human(size: float) -> str:
    """Bytes as people read them, in powers of 1024."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def export(
    model: Model,
    format: Annotated[
        Literal["blip2", "llava", "polylens"],
        typer.Option(
            "--format",
            help="blip2: a Q-Former on BLIP-2's encoder; llava: an MLP and a decoder; polylens: our own, any model.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder.")],
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="The type of the weights that are written."),
    ] = "float32",
) -> None:
    """Write a model in one folder, with LoRA adapters merged into its weights.

    What plain transformers generates from `blip2` and `llava` is what Polylens generates; a model that the format
    cannot express is refused, with the reason. `polylens` holds any model: it needs no other folder, and the language
    model and the encoder in it are folders of plain transformers.

    \b
    Examples
      polylens export runs/mine/model --format blip2 --out mine-blip2 --precision bfloat16
      polylens export runs/mlp/model --format llava --out mine-llava
      polylens export runs/mine/model --format polylens --out mine-whole
      polylens export runs/viscpm-lora/model --format polylens --out viscpm-mine --precision float16
    """
    import torch

    from polylens.files import refuse_full
    from polylens.models.checkpoints.registry import find_model

    find_model(model)
    from polylens.models.checkpoints.blip2 import save_blip2
    from polylens.models.checkpoints.families import Loading, find_family
    from polylens.models.checkpoints.folder import load_model
    from polylens.models.checkpoints.llava import save_llava
    from polylens.models.parts.lora import merge_lora

    quiet_libraries()
    console, _ = consoles()
    dtype = getattr(torch, precision)
    if format == "polylens":
        refuse_full(out)
        family, path = find_family(model)
        family.export(path, Loading(dtype, name=str(model)), out)
        say(console, f"{out} is whole: `polylens info {out}` says what it is.")
        return
    opened = load_model(model, dtype)
    merge_lora(opened)
    (save_blip2 if format == "blip2" else save_llava)(opened, out)
    kind = "Blip2ForConditionalGeneration" if format == "blip2" else "LlavaForConditionalGeneration"
    say(console, f"{out} is a {kind} folder: {kind}.from_pretrained('{out}') loads it.")
