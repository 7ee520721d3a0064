"""`polylens info`, `polylens export`, `polylens merge` and `polylens convert-mblip`."""

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
    from polylens.files import refuse_full
    from polylens.models.checkpoints.registry import find_model

    find_model(model)
    import torch

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


def merge(
    model: Model,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder.")],
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A LoRA adapter of PEFT; of a checkpoint, its own by default."),
    ] = None,
) -> None:
    """Merge a LoRA adapter into a model's weights, a shard at a time: a large model need not fit into memory.

    A checkpoint of Polylens stays one, with its language model as a folder in it. A language model or a BLIP-2 model
    with an adapter beside it becomes a folder of the same kind.

    \b
    Examples
      polylens merge runs/mine/model --out mine-merged
      polylens merge bigscience/mt0-xl --adapter checkpoints/0-30331 --out mt0-xl-merged
    """
    from polylens.models.checkpoints.registry import find_model

    find_model(model)
    from polylens.models.checkpoints.merge import merge_checkpoint, merge_folder

    quiet_libraries()
    console, _ = consoles()
    layers = merge_checkpoint(model, out) if adapter is None else merge_folder(model, adapter, out)
    say(console, f"{out} has the adapters of {layers:,} layers merged into its weights.")


def convert_mblip(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="FILE", help="The .ckpt of mBLIP's own training program.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new checkpoint of Polylens.")],
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The LoRA adapter of that run, a folder beside the file."),
    ] = None,
    language_model: Annotated[
        str, typer.Option(metavar="MODEL", help="The language model that the run began with.")
    ] = "bigscience/mt0-xl",
    blip2: Annotated[
        str, typer.Option(metavar="MODEL", help="The BLIP-2 model that the encoder was taken from.")
    ] = "Salesforce/blip2-flan-t5-xl",
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="The type that the parts are read in.")
    ] = "float32",
) -> None:
    """Turn a run of mBLIP's own training program into a checkpoint that all commands take.

    The file holds what was trained; the encoder and the language model stay where they are. Nothing in the file is
    executed. `polylens export --format blip2` then makes a folder like the released ones.

    \b
    Examples
      polylens convert-mblip checkpoints/1-60663.ckpt --adapter checkpoints/1-60663 --out mine
      polylens convert-mblip 0-8016.ckpt --language-model mt0-xl-merged --out warmed-up
    """
    from polylens.models.checkpoints.registry import find_model

    for name in (language_model, blip2):
        find_model(name)
    from polylens.models.checkpoints.folder import save_model
    from polylens.models.checkpoints.lightning import convert_lightning
    from polylens.models.parts.precision import split_precision

    quiet_libraries()
    console, _ = consoles()
    dtype = split_precision(precision)[0]
    model = convert_lightning(checkpoint, blip2, language_model, adapter, dtype)
    save_model(model, out, {"converted_from": str(checkpoint)})
    say(console, f"{out} is ready. Try it: polylens caption photo.jpg --model {out} --lang de")
