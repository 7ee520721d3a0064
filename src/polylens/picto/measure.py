"""What a model says of scenes in every language, and what its language model makes of English text alone.

describe    a caption of every scene               translate   English text in the picture's place, put into a language

Both give {language: one text per scene}. Small models are fast when a batch is large, so several languages share one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from polylens.data.sample import Sample, Turn
from polylens.evaluation.names import exact_match
from polylens.evaluation.runner import as_row, name_scores
from polylens.models.vlm import VisionLanguageModel
from polylens.picto.prompts import prompt
from polylens.picto.scenes import Scene, captioned
from polylens.picto.workers import each_part
from polylens.text import normalise

BATCH_SIZE = 640
MAX_NEW_TOKENS = 32
PIVOT = "en"

Said = Mapping[str, Sequence[str]]
Advance = Callable[[int], None]


def silent(count: int) -> None:
    """For callers that show no progress."""


def describe(
    model: VisionLanguageModel,
    shown: Sequence[Scene],
    languages: Sequence[str],
    *,
    with_pictures: bool = True,
    advance: Advance = silent,
) -> dict[str, list[str]]:
    """Greedy captions of all scenes in every language; without pictures the prompt stands alone, as a control."""
    visual = model.encode_pictures(shown, BATCH_SIZE) if with_pictures else {}

    def answer(codes: Sequence[str]) -> list[str]:
        asked = [captioned(scene, code) for code in codes for scene in shown]
        if not with_pictures:
            asked = [replace(sample, images=()) for sample in asked]
        return generate(model, asked, visual or None)

    together = max(1, BATCH_SIZE // max(1, len(shown)))
    parts = [languages[start : start + together] for start in range(0, len(languages), together)]
    said: dict[str, list[str]] = {}
    for codes, texts in each_part(answer, parts, model.device):
        for number, code in enumerate(codes):
            said[code] = texts[number * len(shown) : (number + 1) * len(shown)]
            advance(len(shown))
    return said


def translate(
    model: VisionLanguageModel,
    english: Sequence[str],
    languages: Sequence[str],
    *,
    known: Mapping[str, Mapping[str, str]] | None = None,
    shots: Mapping[str, str] | None = None,
    advance: Advance = silent,
) -> dict[str, list[str]]:
    """English texts, put into each language by the model's language model, English itself included: {language: texts}.

    `known` are translations that it gave before, {language: {English text: translation}}; `shots` stand before the
    text, {language: solved examples}, and an answer ends with its line.
    """
    answers = {code: dict((known or {}).get(code, {})) for code in languages}

    def put(codes: Sequence[str]) -> list[list[str]]:
        asked = [(code, text) for code in codes for text in missing[code]]
        told = [_told(text, code, (shots or {}).get(code, "")) for code, text in asked]
        texts = (text.partition("\n")[0].strip() for text in generate(model, told))
        return [[next(texts) for _ in missing[code]] for code in codes]

    missing = {
        code: [text for text in dict.fromkeys(english) if text not in answers[code]] for code in languages
    }
    most = max((len(texts) for texts in missing.values()), default=0)
    together = max(1, BATCH_SIZE // max(1, most))
    parts = [languages[start : start + together] for start in range(0, len(languages), together)]
    for codes, found in each_part(put, parts, model.device):
        for code, texts in zip(codes, found, strict=True):
            answers[code] |= dict(zip(missing[code], texts, strict=True))
            advance(len(english))
    return {code: [answers[code][text] for text in english] for code in languages}


def _told(text: str, code: str, before: str) -> Sample:
    turns = (Turn(f"{before}{text} {prompt(code)}", ""),)
    return Sample(id=text, images=(), turns=turns, language=code, task="caption", source="picto-scenes")


def generate(
    model: VisionLanguageModel, samples: Sequence[Sample], visual: Mapping[str, torch.Tensor] | None = None
) -> list[str]:
    """Greedy answers; samples that are alike but for their answer are answered once."""
    distinct: dict[tuple[tuple[str, ...], str], Sample] = {}
    keys = [(tuple(p.key for p in s.images), s.turns[-1].prompt) for s in samples]
    for key, sample in zip(keys, samples, strict=True):
        distinct.setdefault(key, sample)
    texts = model.generate(
        list(distinct.values()), visual=visual, batch_size=BATCH_SIZE, max_new_tokens=MAX_NEW_TOKENS
    )
    answers = dict(zip(distinct, texts, strict=True))
    return [answers[key] for key in keys]


def exact(said: Sequence[str], shown: Sequence[Scene], code: str) -> list[float]:
    """1.0 where the answer is the scene's caption in that language."""
    return [exact_match(text, scene.name(code)) for text, scene in zip(said, shown, strict=True)]


def mean_exact(said: Said, shown: Sequence[Scene]) -> float:
    """Exact match, mean over scenes, then over languages."""
    means = [sum(exact(texts, shown, code)) / len(shown) for code, texts in said.items()]
    return sum(means) / len(means)


def language_rows(said: Said, shown: Sequence[Scene]) -> dict[str, dict[str, Any]]:
    """results.json's `languages`: scores with intervals, and their ratios to English.

    A scene whose caption equals the English one leaves both sides of that language's ratio.
    """
    rows: dict[str, dict[str, Any]] = {}
    for code, texts in said.items():
        row = as_row(name_scores(texts, [[scene.name(code)] for scene in shown]))
        if PIVOT in said and code != PIVOT:
            own = [at for at, scene in enumerate(shown) if is_own(scene, code)]
            mine, base = exact(texts, shown, code), exact(said[PIVOT], shown, PIVOT)
            whole = sum(base[at] for at in own)
            row["n_ratio"] = len(own)
            row["pivot_ratio"] = sum(mine[at] for at in own) / whole if whole else None
        rows[code] = row
    return rows


def is_own(scene: Scene, code: str) -> bool:
    """Whether the language calls the scene otherwise than English does."""
    return normalise(scene.name(code)) != normalise(scene.name(PIVOT))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The mean pivot ratio over the languages other than English, and the worst of them."""
    ratios = {code: row["pivot_ratio"] for code, row in rows.items() if row.get("pivot_ratio") is not None}
    if not ratios:
        return {}
    worst = min(ratios, key=lambda code: ratios[code])
    mean = sum(ratios.values()) / len(ratios)
    return {"mean_pivot_ratio": mean, "worst_pivot_ratio": ratios[worst], "worst_language": worst}
