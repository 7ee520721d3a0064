"""Painted pictures, scored by the language of their prompts.

prompts.jsonl (image, prompt, language) -> pictures -> Frechet distances to real ones, CLIP score -> results.json
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polylens import __version__
from polylens.data.images import FilePicture
from polylens.data.listing import PICTURES, pictures_below
from polylens.data.rows import json_lines, text_field
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.files import find_file, json_text, make_writable_folder, sha256_file, write_atomic
from polylens.languages import language
from polylens.painting.scores.frechet import Features, frechet_distance, moments

FILE_NAME = "prompts.jsonl"
# The bias of a Frechet distance is well above its differences below this many pictures; papers take 30,000.
FEW = 10_000
PIVOT = "en"

# (pictures, prompts) -> a score for each pair.
PairScorer = Callable[[Sequence[Any], Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Painting:
    """One picture and what it was painted from, in the language of the prompt."""

    picture: FilePicture
    prompt: str
    language: str


def read_paintings(folder: str | Path) -> list[Painting]:
    """The rows of `prompts.jsonl` (`image`, `prompt`, `language` unless it is English) beside the pictures.

    Raises `UserError` when a row or a picture is missing; the first five are named, with the count.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    found, missing = [], []
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        name, prompt = text_field(row, "image", where), text_field(row, "prompt", where)
        file = find_file(folder, name)
        if file is None:
            missing.append(name)
        else:
            found.append(Painting(FilePicture(file), prompt, language(row.get("language", PIVOT)).code))
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"{len(missing):,} pictures of '{path}' are not in '{folder}': {shown}. Paint them first."
        )
    if not found:
        raise UserError(f"'{path}' has no row: write one for each picture.")
    return found


def pictures_in(folder: str | Path) -> list[FilePicture]:
    """All pictures below a folder, sorted by path. Raises `UserError` when there is none."""
    paths = pictures_below(folder)
    if not paths:
        raise UserError(
            f"'{folder}' holds no picture ({', '.join(PICTURES)}): give the folder of the real ones."
        )
    return [FilePicture(path) for path in paths]


def score_paintings(
    paintings: Sequence[Painting],
    real: Sequence[Picture],
    out: Path,
    *,
    distances: Mapping[str, Features],
    clip: PairScorer | None = None,
    settings: Mapping[str, Any],
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Distances (by name, such as "fid" and "fd_encoder") of each language's paintings to all `real` pictures, and the
    CLIP score. Writes results.json into `out` and returns the results; `advance` hears of pictures looked at.
    """
    make_writable_folder(out)
    by_language: dict[str, list[Painting]] = {}
    for painting in paintings:
        by_language.setdefault(painting.language, []).append(painting)
    rows: dict[str, dict[str, Any]] = {
        code: {"n": len(mine), "intervals": {}} for code, mine in by_language.items()
    }
    for name, features in distances.items():
        theirs = moments(real, features, batch_size, advance)
        for code, mine in by_language.items():
            ours = moments([painting.picture for painting in mine], features, batch_size, advance)
            rows[code][name] = frechet_distance(ours, theirs)
    for code, mine in by_language.items() if clip else ():
        scores: list[float] = []
        for start in range(0, len(mine), batch_size):
            some = mine[start : start + batch_size]
            assert clip is not None
            scores += clip(
                [painting.picture.load() for painting in some], [painting.prompt for painting in some]
            )
            advance(len(some))
        score = bootstrap_mean(scores)
        rows[code]["clip_score"] = score.value
        rows[code]["intervals"]["clip_score"] = [score.low, score.high]
    few = min(len(real), *(len(mine) for mine in by_language.values()))
    notes = []
    if distances and few < FEW:
        notes.append(
            f"A Frechet distance over {few:,} pictures is too large by a bias that depends on their number: compare"
            " equal numbers only."
        )
    results = {
        "title": "Painted pictures",
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len(paintings),
        "languages": rows,
        "notes": notes,
        "settings": {**settings, "num_real": len(real)},
    }
    write_atomic(out / "results.json", json_text(results, indent=1))
    return results


def sha256_prompts(folder: str | Path) -> str:
    return sha256_file(Path(folder) / FILE_NAME)
