"""Own captions, scored: captions.jsonl -> held-out pictures -> answers -> scores by language -> a report."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens import __version__
from polylens.data.captions import FILE_NAME, read_captions, split_by_image, with_references
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.answer_language import answer_languages
from polylens.evaluation.caption_metrics import caption_scores
from polylens.evaluation.caption_metrics.segmentation import caption_tokenizer
from polylens.evaluation.examples import best_and_worst
from polylens.evaluation.generation import Generation
from polylens.evaluation.items import ScoredItem, write_items
from polylens.evaluation.measures import METRICS
from polylens.evaluation.names import exact_match
from polylens.evaluation.predictor import LocalPredictor
from polylens.evaluation.processes import share
from polylens.evaluation.report import write_report
from polylens.evaluation.runner import Item, answer, as_row, name_scores
from polylens.files import make_writable_folder, sha256_file, write_atomic
from polylens.languages import language, parse_languages
from polylens.models.asking import unknown_languages
from polylens.models.vlm import VisionLanguageModel
from polylens.progress import progress_bar
from polylens.recipe_text import nearest

# What examples are ranked by, the first that there is.
RANKED_BY = ("cider_d", "exact_match")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which part of a folder is scored: `languages` as in "de,sw" or "all"; of `split` the upper part of the
    pictures; of those the first `limit`; `group_by` names a field of the rows to score apart as well.
    """

    languages: str = "all"
    split: float | None = None
    limit: int | None = None
    group_by: str | None = None


def evaluate_captions(
    model: VisionLanguageModel,
    folder: str | Path,
    out: Path,
    *,
    model_name: str,
    model_sha256: str,
    selection: Selection | None = None,
    generation: Generation | None = None,
    cache_root: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Caption the pictures of `folder` and score them against its captions, language by language.

    Writes predictions.jsonl (where a run that was stopped goes on), items.jsonl (what each answer scored),
    report.html with its figures, results.csv and results.json into `out`, and returns the results. Every caption
    of a picture in a language is a reference. Visual tokens are kept under `cache_root` when it is given. Raises
    `UserError` for data that cannot be read, a selection that leaves nothing, and a folder that cannot be written
    or holds answers of other settings.
    """
    selection, generation = selection or Selection(), generation or Generation()
    console = console or Console(quiet=True)
    make_writable_folder(out)
    samples = read_captions(folder, prompt=model.config.layout.ask_caption)
    items = _select(samples, selection, folder)
    num_pictures = len({item.sample.images[0].key for item in items})
    start = time.monotonic()
    with progress_bar(console) as bar:
        task = bar.add_task("captions", total=len(items))
        said = answer(
            share(LocalPredictor(model, cache_root=cache_root)),
            items,
            generation,
            folder=out,
            fingerprint=_fingerprint(samples, folder, model_sha256, model, generation),
            advance=lambda count: bar.advance(task, count),
        )
    answered = time.monotonic()
    rows, values, remarks = _scores(items, said)
    results: dict[str, Any] = {
        "title": f"Captions of {Path(folder).resolve().name}",
        "model": model_name,
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": num_pictures,
        "languages": rows,
    }
    if selection.group_by:
        results["groups"] = _group_scores(items, said, selection.group_by)
    unknown = unknown_languages(model, list(results["languages"]))
    results |= {
        "unknown_languages": unknown,
        "notes": [*_notes(unknown, selection, num_pictures), *remarks],
        "seconds": {"captions": round(answered - start, 1), "scores": round(time.monotonic() - answered, 1)},
        "settings": {
            "data": str(folder),
            "model_sha256": model_sha256,
            "data_sha256": sha256_file(Path(folder) / FILE_NAME),
            "prompt": model.config.layout.caption_prompt,
            "dtype": str(model.lm.dtype).removeprefix("torch."),
            **asdict(selection),
            "generation": asdict(generation),
            "caption_metrics": "polylens",
        },
    }
    scored = [
        ScoredItem(
            item.sample.id, item.sample.language, [picture.key for picture in item.sample.images], value
        )
        for item, value in zip(items, values, strict=True)
    ]
    write_items(out, scored)
    metric = next(METRICS[name] for name in RANKED_BY if any(name in one.scores for one in scored))
    ranks = {one.id: one.scores[metric.name] for one in scored if metric.name in one.scores}
    write_report(results, best_and_worst(items, said, ranks, metric), out)
    write_atomic(out / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
    return results


def _select(samples: Sequence[Sample], selection: Selection, folder: str | Path) -> list[Item]:
    codes = parse_languages(selection.languages, dict.fromkeys(sample.language for sample in samples))
    if selection.group_by:
        fields = {field for sample in samples for field in sample.extra}
        if selection.group_by not in fields:
            hint = f"the nearest is '{nearest(selection.group_by, fields)}'" if fields else "they have none"
            raise UserError(f"No row of '{folder}' has a field '{selection.group_by}' to group by: {hint}.")
    chosen = [sample for sample in samples if sample.language in codes]
    if selection.split is not None:
        chosen = split_by_image(chosen, selection.split)[1]
        if not chosen:
            raise UserError(f"No picture of '{folder}' lies above the split {selection.split}: lower it.")
    if selection.limit is not None:
        kept = list(dict.fromkeys(sample.images for sample in chosen))[: selection.limit]
        chosen = [sample for sample in chosen if sample.images in kept]
    return [Item(sample, tuple(references)) for sample, references in with_references(chosen)]


def _fingerprint(
    samples: Sequence[Sample],
    folder: str | Path,
    model_sha256: str,
    model: VisionLanguageModel,
    generation: Generation,
) -> dict[str, Any]:
    """All that moves an answer; languages, split and limit only choose which are given."""
    keys = sorted({picture.key for sample in samples for picture in sample.images})
    settings = {key: value for key, value in asdict(generation).items() if key != "batch_size"}
    return {
        "model": model_sha256,
        "dtype": str(model.lm.dtype),
        "captions": sha256_file(Path(folder) / FILE_NAME),
        "pictures": hashlib.sha256("\n".join(keys).encode()).hexdigest(),
        "prompt": model.config.layout.caption_prompt,
        "generation": settings,
    }


def _scores(
    items: Sequence[Item], said: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, float]], list[str]]:
    """({language: scores}, the values of every single item, remarks).

    Scores are exact match, chrF, CIDEr-D, BLEU-4 and ROUGE-L where words can be told, and the share of answers in
    the language asked for where it can be identified.
    """
    rows: dict[str, dict[str, Any]] = {}
    values: list[dict[str, float]] = [{} for _ in items]
    remarks, unidentified = [], []
    for code, places in _by_language(items, range(len(items))).items():
        mine, references = [said[at] for at in places], [items[at].references for at in places]
        scores = name_scores(mine, references)
        columns = {"exact_match": [exact_match(*pair) for pair in zip(mine, references, strict=True)]}
        try:
            caption_tokenizer(code)
        except UserError as error:
            remarks.append(f"No CIDEr-D, BLEU-4 and ROUGE-L of {language(code).name}: {error}")
        else:
            found = caption_scores(mine, references, code)
            scores |= {"cider_d": found.cider, "bleu_4": found.bleu[3], "rouge_l": found.rouge_l}
            columns |= {"cider_d": found.items["cider"].tolist(), "rouge_l": found.items["rouge_l"].tolist()}
        languages = answer_languages(mine, code)
        if not languages.measures:
            unidentified.append(language(code).name)
        columns |= languages.items
        rows[code] = as_row(scores | languages.measures) | {"answers_in_other_languages": languages.others}
        for place, at in enumerate(places):
            values[at] = {name: column[place] for name, column in columns.items()}
    if any("cider_d" in row for row in rows.values()):
        remarks.append(
            "CIDEr-D weighs words by how rare they are in the set scored: compare equal sets only."
        )
    if unidentified:
        remarks.append(f"Not told from other languages, so not identified: {', '.join(unidentified)}.")
    return rows, values, remarks


def _group_scores(
    items: Sequence[Item], said: Sequence[str], field: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """{value of the field: {language: exact match and chrF}}; rows without it are the group "-"."""
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(str(item.sample.extra.get(field, "-")), []).append(place)
    return {
        value: {
            code: as_row(name_scores([said[at] for at in mine], [items[at].references for at in mine]))
            for code, mine in _by_language(items, places).items()
        }
        for value, places in sorted(groups.items())
    }


def _by_language(items: Sequence[Item], places: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at in places:
        found.setdefault(items[at].sample.language, []).append(at)
    return found


def _notes(unknown: Sequence[str], selection: Selection, num_pictures: int) -> list[str]:
    notes = []
    if unknown:
        names = ", ".join(f"{language(code).name} ({code})" for code in unknown)
        notes.append(f"The language model does not know these languages, so expect little: {names}.")
    if selection.limit is not None:
        notes.append(
            f"Only the first {num_pictures} pictures were scored (--limit): not comparable with other scores."
        )
    return notes
