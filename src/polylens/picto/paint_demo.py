"""The painter's demo: names in every language are translated into English, then drawn by a painter of English names.

picto-parts/painter -> one picture of each concept and language -> judge, controls -> grid.png, results.json

Beside it stands zero-shot: the same painter reads the names as they are, without translation.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from polylens import __version__
from polylens.evaluation.names import exact_match
from polylens.files import make_writable_folder, write_atomic
from polylens.languages import language
from polylens.models.parts.precision import fast_dtype
from polylens.painting.folder import load_painter
from polylens.painting.painter import Painter
from polylens.painting.sampling import Sampling
from polylens.painting.text import LanguageModelText
from polylens.picto.measure import PIVOT
from polylens.picto.measures import DESCRIBED
from polylens.picto.paint_measure import Judge, even, measure, paint_concepts, zero_shot
from polylens.picto.world import LANGUAGES, Concept, concepts
from polylens.progress import progress_bar

PAINTER = "picto-parts/painter"
NUM_CONCEPTS = 100
NUM_SHOWN = 12
# Of how many concepts one is drawn without translation.
ZERO_SHOT_STEP = 4
SETTINGS = Sampling(steps=20, guidance=3.0)
ENLARGED, GAP, HEAD, SIDE = 2, 4, 16, 130


def run_paint_demo(
    out: Path,
    console: Console,
    *,
    painter: str = PAINTER,
    seed: int = 0,
    num_concepts: int = NUM_CONCEPTS,
    settings: Sampling = SETTINGS,
) -> dict[str, Any]:
    """Draw, judge, and write grid.png and results.json to `out`. Returns the results.

    Raises `UserError` when `painter` is none, or `out` cannot be written.
    """
    make_writable_folder(out)
    model = load_painter(painter, fast_dtype())
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    model.speed_up()
    languages = [code for code in model.config.text.languages or LANGUAGES if code in LANGUAGES]
    wanted = list(
        even(
            [c for c in concepts() if c.scored and c.trained_styles() and _named(c, languages)], num_concepts
        )
    )
    few = wanted[::ZERO_SHOT_STEP]
    total = len(wanted) * (len(languages) + 1) + len(few) * len(languages) * bool(model.config.text.pivot)
    with progress_bar(console) as bar:
        task = bar.add_task("drawing", total=total)

        def drawn_by(hand: Painter, some: list[Concept], code: str | None) -> list[Image.Image]:
            return paint_concepts(
                hand, some, code, settings, seed=seed, advance=lambda count: bar.advance(task, count)
            )

        drawn = {code: drawn_by(model, wanted, code) for code in languages}
        blank = drawn_by(model, wanted, None)
        straight = {}
        if model.config.text.pivot:
            untranslated = without_translation(painter, model)
            straight = {code: drawn_by(untranslated, few, code) for code in languages}
    judge = Judge.packaged(wanted)
    results = {
        "title": "Names translated into English, then drawn by a painter trained on English names",
        "measures": DESCRIBED,
        "model": painter,
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **measure(judge, wanted, drawn, blank),
        "settings": settings.as_dict()
        | {"seed": seed, "concepts": len(wanted), "precision": str(model.dtype).removeprefix("torch.")}
        | _sizes(model),
    }
    if model.config.text.pivot:
        for code, row in results["languages"].items():
            read = model.text.read_as([concept.name(code) or "" for concept in wanted])
            row["read_as_english_name"] = fmean(
                exact_match(text, concept.name(PIVOT) or "")
                for text, concept in zip(read, wanted, strict=True)
            )
    if straight:
        results["zero_shot"] = zero_shot(judge, few, straight)
    write_atomic(out / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
    labelled_grid(wanted[:: max(1, len(wanted) // NUM_SHOWN)][:NUM_SHOWN], drawn, wanted).save(
        out / "grid.png"
    )
    _print(results, console)
    return results


def without_translation(name: str, model: Painter) -> Painter:
    """The same painter, which reads prompts as they are."""
    twin = load_painter(name, model.dtype)
    assert isinstance(twin.text, LanguageModelText)
    config = twin.text.config.model_copy(update={"pivot": None})
    twin.text = LanguageModelText(twin.text.model, twin.text.tokenizer, config)
    twin.to(model.device)
    twin.speed_up()
    return twin


def _named(concept: Concept, languages: list[str]) -> bool:
    return all(concept.name(code) for code in languages)


def _sizes(model: Painter) -> dict[str, int]:
    return {
        part: sum(parameter.numel() for parameter in getattr(model, part).parameters())
        for part in ("text", "bridge", "denoiser")
    }


def labelled_grid(
    shown: list[Concept], drawn: dict[str, list[Image.Image]], wanted: list[Concept]
) -> Image.Image:
    """Rows are concepts, with their English names; columns are languages, by code."""
    side = next(iter(drawn.values()))[0].width * ENLARGED
    step = side + GAP
    whole = Image.new("RGB", (SIDE + len(drawn) * step, HEAD + len(shown) * step), (255, 255, 255))
    pen = ImageDraw.Draw(whole)
    for column, code in enumerate(drawn):
        pen.text((SIDE + column * step + side // 3, 2), code, fill=(0, 0, 0))
    for row, concept in enumerate(shown):
        top = HEAD + row * step
        pen.text((4, top + side // 2 - 6), (concept.name(PIVOT) or "")[:20], fill=(0, 0, 0))
        for column, images in enumerate(drawn.values()):
            picture = images[wanted.index(concept)].resize((side, side), Image.Resampling.NEAREST)
            whole.paste(picture, (SIDE + column * step, top))
    return whole


def _print(results: dict[str, Any], console: Console) -> None:
    table = Table(title=str(results["title"]), title_justify="left")
    for heading in (
        "language",
        "found among 100",
        "ratio to English",
        "fd_picto",
        "read as its English name",
    ):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for code, row in results["languages"].items():
        score, ratio = row["retrieval"], row.get("pivot_ratio")
        interval = f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
        table.add_row(
            language(code).name,
            interval,
            "" if ratio is None else f"{ratio:.2f}",
            f"{row['fd_picto']:.1f}",
            f"{row['read_as_english_name']:.2f}" if "read_as_english_name" in row else "",
        )
    console.print(table)
    real, nothing = results["judge_on_real_pictures"], results["controls"]["empty_prompt"]
    mean = results["mean_pivot_ratio"]
    if straight := results.get("zero_shot"):
        console.print(
            f"zero-shot, names not translated ({straight['n']} concepts): English {straight['en']['value']:.2f}, "
            f"other languages {straight['others']['value']:.2f} "
            f"[{straight['others']['low']:.2f}, {straight['others']['high']:.2f}]"
        )
    console.print(
        f"mean pivot ratio {'-' if mean is None else f'{mean:.2f}'}; the judge on real pictures "
        f"{real['value']:.2f}; the empty prompt {nothing['value']:.2f} (chance 0.01)"
    )
