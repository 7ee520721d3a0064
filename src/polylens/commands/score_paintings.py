"""`polylens score-paintings`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polylens.commands.common import Json, complain, consoles, folder_name, print_json, quiet_libraries, say
from polylens.errors import UserError


def score_paintings(
    paintings: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The pictures, and prompts.jsonl: rows of image, prompt and language."
        ),
    ],
    real: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Real pictures, for Frechet distances.")
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="FID's weights: pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="An image encoder, for fd_encoder; default: the packaged one."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A CLIP of transformers, for the CLIP score.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results.json is written; by default runs/paintings_FOLDER.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once; moves no score.")] = 32,
    as_json: Json = False,
) -> None:
    """Score painted pictures by the language of their prompts: FID, fd_encoder, CLIP score.

    With --real, fd_encoder is the Frechet distance on the features of an image encoder; with --inception as well, FID
    is that on Inception. Results name weights, resizing and numbers of pictures, which all move these scores.

    \b
    A row of prompts.jsonl
      {"image": "0001.png", "prompt": "一只戴帽子的猫", "language": "zh"}

    \b
    Examples
      polylens score-paintings painted --real coco/val2014 --inception pt_inception-2015-12-05-6726825d.pth
      polylens score-paintings painted --clip openai/clip-vit-large-patch14
    """
    if real is None and clip is None:
        raise UserError("Nothing to score by: give --real FOLDER for distances, or --clip MODEL.")
    if inception is not None and real is None:
        raise UserError("FID is a distance to real pictures: give their folder with --real.")
    quiet_libraries()
    from polylens.data.images import ImageProcessor
    from polylens.evaluation.report import print_table
    from polylens.files import sha256_folder
    from polylens.models.checkpoints.build import load_vision
    from polylens.models.checkpoints.registry import resolve_model
    from polylens.models.config import VisionConfig
    from polylens.models.defaults import default_model
    from polylens.painting.scores import run
    from polylens.painting.scores.clip import ClipScorer
    from polylens.painting.scores.frechet import Features, TowerFeatures
    from polylens.painting.scores.inception import InceptionFeatures
    from polylens.progress import progress_bar

    console, stderr = consoles(as_json)
    found = run.read_paintings(paintings)
    settings: dict[str, Any] = {"paintings": str(paintings), "prompts_sha256": run.sha256_prompts(paintings)}
    distances: dict[str, Features] = {}
    originals: list[Any] = []
    if real is not None:
        originals = list(run.pictures_in(real))
        settings["real"] = str(real)
        if inception is not None:
            distances["fid"] = InceptionFeatures(inception)
        encoder = encoder or default_model("encoder")
        folder = resolve_model(encoder)
        distances["fd_encoder"] = TowerFeatures(
            load_vision(VisionConfig(path=str(folder))),
            ImageProcessor.from_folder(folder),
            {"encoder": encoder, "encoder_sha256": sha256_folder(folder)},
        )
        settings |= {name: dict(features.settings) for name, features in distances.items()}
    scorer = ClipScorer(clip) if clip is not None else None
    if scorer is not None:
        settings["clip_score"] = scorer.settings
    out = out or Path("runs") / folder_name("paintings", paintings.resolve().name)
    total = len(distances) * (len(originals) + len(found)) + (len(found) if scorer else 0)
    with progress_bar(stderr) as bar:
        task = bar.add_task("pictures", total=total)
        results = run.score_paintings(
            found,
            originals,
            out,
            distances=distances,
            clip=scorer,
            settings=settings,
            batch_size=batch_size,
            advance=lambda count: bar.advance(task, count),
        )
    print_table(results, console)
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The results are in {out / 'results.json'}")
    if as_json:
        print_json(results)
