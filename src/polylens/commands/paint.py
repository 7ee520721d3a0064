"""`polylens paint`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from polylens.commands.common import Json, PrecisionName, complain, consoles, print_json, quiet_libraries, say
from polylens.errors import UserError

if TYPE_CHECKING:
    from polylens.painting.painter import Painter
    from polylens.painting.prompts import Prompt
    from polylens.painting.studio import Painted, Studio

# What is asked of a painter unless options say otherwise; VisCPM-Paint's published settings are a protocol.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "polylens": {"sampler": "dpm++", "steps": 20, "guidance": 7.5, "rerank": None, "candidates": 1},
    "viscpm": {
        "sampler": "ddpm",
        "steps": 50,
        "guidance": 7.5,
        "rerank": "OFA-Sys/chinese-clip-vit-base-patch16",
        "candidates": 4,
    },
}


def paint(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A painter's folder, packaged name or hub id, or VisCPM-Paint's file."
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="What to draw, in any language.")
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Draw a picture for each prompt of a .txt, .jsonl or COCO .json.",
        ),
    ] = None,
    lang: Annotated[
        str, typer.Option(metavar="CODE", help="With --prompts: their language, where the file has none.")
    ] = "en",
    limit: Annotated[int | None, typer.Option(min=1, help="With --prompts: only the first so many.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first image's seed; the next have the next.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the images are written.")] = Path("paintings"),
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = "",
    size: Annotated[str | None, typer.Option(metavar="WxH", help="As in 512x768; the painter's own.")] = None,
    protocol: Annotated[
        Literal["polylens", "viscpm"],
        typer.Option(
            help="viscpm: 50 steps of ddpm, the best of 4 by Chinese-CLIP; other options change it."
        ),
    ] = "polylens",
    sampler: Annotated[str | None, typer.Option(help="dpm++ (default), unipc, ddim or ddpm.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler; 20 by default.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How strictly the prompt is followed; 7.5 by default, 1 is freely.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images drawn at once.")] = 4,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(
            help="bfloat16 on a GPU, else float32; int8 and nf4 hold the language model in few bits."
        ),
    ] = None,
    stream: Annotated[
        Literal["cpu", "disk"] | None,
        typer.Option(help="CPM-Bee's layers stay there, and each comes in when it is needed."),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser: pays off for many images.")
    ] = False,
    rerank: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A CLIP-like model that chooses among candidates.")
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Drawn for each image; the best is kept. One by default.")
    ] = None,
    check_prompt: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A text classifier that blocks prompts.")
    ] = None,
    check_image: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="An image classifier or safety checker that blocks images."),
    ] = None,
    unsafe_prompt: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="The prompt classifier's labels that block, as in LABEL_1."),
    ] = None,
    unsafe_image: Annotated[
        str | None,
        typer.Option(metavar="LABELS", help="The image classifier's labels that block, as in nsfw,sexy."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Classifiers block above this probability; VisCPM's was 0.75.")
    ] = 0.5,
    origin: Annotated[
        Path | None,
        typer.Option("--from", metavar="PNG", help="Draw this image again, from what it says itself."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For VisCPM-Paint's file: Stable Diffusion 2.1-base.")
    ] = None,
    vocab: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For VisCPM-Paint's file: the vocab.txt of CPM-Bee.")
    ] = None,
    sizes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For such a file: JSON of CPM-Bee's sizes, if they are not the 10B's."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw pictures from prompts in any language that the painter's language model knows.

    Writes one PNG for each image, with all settings inside, and grid.png. Blocked images are reported. With --prompts,
    OUT/prompts.jsonl lists the images for `score-paintings`, and a run that was stopped goes on.

    \b
    Examples
      polylens paint runs/mine/model "ein Hund im Schnee" --n 4 --seed 1 --out dir
      polylens paint picto-parts/painter "cat" "Katze" "paka" --guidance 3
      polylens paint --from dir/01_00000001.png --out again
      polylens paint viscpm-paint.bin "雪中的狗" --base sd-2.1-base --vocab vocab.txt
      polylens paint FOLDER --prompts captions_val2014.json --limit 30000 --out painted
    """
    from polylens.painting.record import read_record, write_png

    record = read_record(origin) if origin else None
    if prompts_file is not None and (prompts or origin or model is None or n != 1):
        raise UserError(
            "--prompts draws one image for each prompt of a file: give a painter beside it, no more."
        )
    if record is None and prompts_file is None and (model is None or not prompts):
        raise UserError('Give a painter and a prompt, as in: polylens paint FOLDER "ein Hund".')
    if record is not None and prompts:
        raise UserError("--from draws an image again as it is: leave the prompt out.")
    wanted = _size(size)
    quiet_libraries()
    studio = _studio(
        record.model if record and model is None else str(model),
        base,
        vocab,
        sizes,
        record,
        precision,
        stream,
    )

    from polylens.painting.prompts import read_prompts
    from polylens.painting.sampling import Sampling
    from polylens.painting.studio import grid

    console, stderr = consoles(as_json)
    if record is not None:
        studio.negative = record.negative
        studio.settings = Sampling(sampler=record.sampler, steps=record.steps, guidance=record.guidance)
        with _progress(stderr, "drawing", record.steps) as advance:
            image = studio.again(record, advance)
        path = out / f"{origin.stem if origin else ''}.png"
        write_png(image, record, path)
        say(console, f"The image is {path}")
        if as_json:
            print_json([{"prompt": record.prompt, "seed": record.seed, "image": str(path), "blocked": None}])
        return

    usual = PROTOCOLS[protocol]
    steps, candidates = steps or usual["steps"], candidates or usual["candidates"]
    guidance = usual["guidance"] if guidance is None else guidance
    rerank = rerank or (usual["rerank"] if candidates > 1 else None)
    studio.settings = Sampling(sampler=sampler or usual["sampler"], steps=steps, guidance=guidance)
    studio.negative, studio.batch_size = negative, batch_size
    studio.painter.speed_up(compiled=compiled)
    _surround(studio, rerank, (check_prompt, unsafe_prompt), (check_image, unsafe_image), threshold)
    if prompts_file is not None:
        chosen: dict[str, Any] = {"rerank": rerank, "candidates": candidates, "check_prompt": check_prompt}
        chosen |= {"check_image": check_image, "threshold": threshold, "seed": seed, "size": wanted}
        asked = read_prompts(prompts_file, lang, limit)
        told = _paint_file(studio, asked, out, chosen, stderr)
        say(console, f"{told['images']:,} images are in {out}, listed in {out / 'prompts.jsonl'}")
        if told["blocked"]:
            complain(f"{told['blocked']:,} images are blocked; see the files {out}/*.blocked", "note")
        if as_json:
            print_json(told)
        return
    assert prompts is not None
    rows: list[list[Painted]] = []
    batches = -(-n * candidates // batch_size)
    with _progress(stderr, "drawing", len(prompts) * batches * steps) as advance:
        for prompt in prompts:
            rows.append(studio.paint(prompt, n, seed, candidates=candidates, size=wanted, advance=advance))
    found: list[dict[str, Any]] = []
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True), start=1):
        if (record := row[0].record) is not None and record.read_as is not None:
            say(console, f"'{prompt[:60]}' was read as '{record.read_as[:60]}'")
        for one in row:
            file: Path | None = None
            if one.image is not None and one.record is not None:
                file = out / f"{number:02d}_{one.record.seed:08d}.png"
                write_png(one.image, one.record, file)
            found.append(
                {
                    "prompt": prompt,
                    "read_as": one.record.read_as if one.record else None,
                    "seed": one.record.seed if one.record else None,
                    "image": file and str(file),
                    "blocked": one.blocked,
                    "score": one.score,
                }
            )
            if one.blocked:
                complain(f"an image of '{prompt[:60]}' is blocked: {one.blocked}.", "blocked")
    shown = sum(row["image"] is not None for row in found)
    if shown:
        grid([[one.image for one in row] for row in rows]).save(out / "grid.png")
        say(console, f"{shown} of {len(found)} images are in {out}; all of them: {out / 'grid.png'}")
    if as_json:
        print_json(found)


def _paint_file(
    studio: "Studio", prompts: "list[Prompt]", out: Path, chosen: dict[str, Any], console: Console
) -> dict[str, int]:
    """Draw what is not there yet, one image for each prompt, and list all images."""
    from polylens.painting.prompts import Pictures
    from polylens.painting.record import write_png

    settings = {
        "painter": studio.sha256 or studio.name,
        "negative": studio.negative,
        **studio.settings.as_dict(),
    }
    settings |= {"precision": str(studio.painter.dtype), "batch_size": studio.batch_size, **chosen}
    pictures = Pictures(out, prompts, json.loads(json.dumps(settings)))
    left = pictures.undone()
    if len(left) < len(prompts):
        say(console, f"{len(prompts) - len(left):,} of {len(prompts):,} images are there already")
    each = chosen["candidates"]
    batches = -(-each // studio.batch_size)
    with _progress(console, "drawing", len(left) * batches * studio.settings.steps) as advance:
        for place, prompt in left:
            (one,) = studio.paint(
                prompt.text,
                1,
                chosen["seed"] + place * each,
                candidates=each,
                size=chosen["size"],
                advance=advance,
            )
            if one.image is None or one.record is None:
                pictures.block(prompt, one.blocked or "")
            else:
                write_png(one.image, one.record, pictures.path(prompt))
    found, blocked = pictures.finish()
    return {"images": found, "blocked": blocked}


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal():
        raise UserError(f"The size '{text}' must look like 512x768.")
    return int(width), int(height)


def _studio(
    name: str,
    base: str | None,
    vocab: Path | None,
    sizes: Path | None,
    record: Any,
    precision: PrecisionName | None,
    stream: Literal["cpu", "disk"] | None,
) -> "Studio":
    from polylens.models.checkpoints.registry import find_model

    if not Path(name).is_file():
        find_model(name)  # a wrong name is told before torch is imported
    try:
        import torch

        from polylens.models.parts.precision import check_device, split_precision
        from polylens.painting.folder import identity, load_painter
        from polylens.painting.studio import Studio
        from polylens.painting.viscpm import read_released_painter
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise UserError(
            "Painting needs diffusers, which is not installed: pip install 'polylens[paint]'."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = (record.precision if record else precision) or ("bfloat16" if device == "cuda" else "float32")
    check_device(chosen)
    dtype, quantization = split_precision(chosen)
    painter: Painter
    if Path(name).is_file():
        if base is None or vocab is None:
            raise UserError(f"'{name}' is a file, as VisCPM-Paint was released: give --base and --vocab too.")
        if quantization or stream:
            raise UserError(
                f"'{name}' loads whole: `polylens convert` makes a folder that streams, or has few bits."
            )
        painter, sha256 = read_released_painter(name, base, vocab, sizes=sizes, dtype=dtype), None
    else:
        painter, sha256 = load_painter(name, dtype, quantization, stream), identity(name)
        if record is not None and record.model_sha256 not in (None, sha256):
            raise UserError(
                f"'{name}' is not the painter that drew the image: give the one whose painter.json has the sha256 "
                f"{record.model_sha256[:12]}..."
            )
    painter.move(device, text=stream is None)
    return Studio(painter, name, sha256, precision=chosen if quantization else None)


def _surround(
    studio: "Studio",
    rerank: str | None,
    check_prompt: tuple[str | None, str | None],
    check_image: tuple[str | None, str | None],
    threshold: float,
) -> None:
    """Put a reranker and checks around the studio; a check is a model and the labels that block."""
    from polylens.painting.guards import PromptCheck, Reranker, image_check

    device = studio.painter.device
    studio.reranker = Reranker(rerank, device) if rerank else None
    model, labels = check_prompt
    if model:
        studio.prompt_check = PromptCheck(model, labels.split(",") if labels else None, threshold, device)
    model, labels = check_image
    if model:
        studio.image_check = image_check(model, labels.split(",") if labels else None, threshold, device)


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    from polylens.progress import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
