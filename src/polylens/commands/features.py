"""`polylens features`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polylens.commands.common import Model, Precision, complain, consoles, open_model, quiet_libraries, say


def features(
    model: Model,
    pictures: Annotated[Path, typer.Argument(metavar="FOLDER", help="The pictures, also in folders below.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the features.")],
    level: Annotated[
        Literal["encoder", "tokens"],
        typer.Option(help="encoder: what the image encoder gives; tokens: what the language model reads."),
    ] = "encoder",
    each: Annotated[bool, typer.Option("--each", help="Every state or token, not their mean.")] = False,
    format: Annotated[
        Literal["npz", "safetensors", "parquet"], typer.Option("--format", help="Of the files.")
    ] = "npz",
    per_file: Annotated[int, typer.Option(min=1, help="Pictures in one file.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 32,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out pictures that cannot be read, and name them.")
    ] = False,
    precision: Precision = "float32",
) -> None:
    """Write the image features of a folder of pictures, for search and the like.

    Each file holds names and features. Stop it whenever you like: the same command goes on. OUT/features.json says what
    they are of.

    \b
    Examples
      polylens features Gregor/mblip-mt0-xl photos --out photos-features
      polylens features runs/mine/model photos --out tokens --level tokens --each --format safetensors
    """
    from polylens.models.checkpoints.registry import check_model

    check_model(model)
    from polylens.files import sha256_file, sha256_folder
    from polylens.models.checkpoints.families import match_family
    from polylens.models.features import find_pictures, write_features
    from polylens.progress import progress_bar

    quiet_libraries()
    console, stderr = consoles()
    found = find_pictures(pictures)
    opened = open_model(model, precision).eval()
    _, path = match_family(model)
    weights = sha256_file(path) if path.is_file() else sha256_folder(path)
    with progress_bar(stderr) as progress:
        bar = progress.add_task("features", total=len(found))
        manifest = write_features(
            opened,
            {"model": model, "model_sha256": weights, "precision": precision},
            found,
            out,
            level=level,
            pooled=not each,
            format=format,
            batch_size=batch_size,
            per_file=per_file,
            skip=skip_unreadable,
            advance=lambda count: progress.advance(bar, count),
        )
    left_out = manifest["left_out"]
    if left_out:
        complain(
            f"{len(left_out):,} pictures were left out, such as: {next(iter(left_out.values()))}", "warning"
        )
    say(console, f"{out} holds the features of {len(found) - len(left_out):,} pictures.")
