"""SNLI-VE, and XVNLI's files for training and development: a picture as the premise of a hypothesis.

{"Flikr30kID": "4705552913", "pairID": "4705552913.jpg#2r1n", "sentence2": "Two women ...", "gold_label": "neutral",
 "annotator_labels": ["neutral", ...]}

SNLI-VE itself writes `Flickr30K_ID`. https://github.com/necla-ml/SNLI-VE, https://github.com/e-bug/iglue
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polylens.data.readers.jsonl import picture_at
from polylens.data.rows import json_lines, list_field, text_field
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import language as find_language

SOURCE = "snli-ve"
LABELS = {"entailment": "yes", "contradiction": "no", "neutral": "maybe"}
PICTURE_KEYS = ("Flikr30kID", "Flickr30K_ID")


def read_snli_ve(path: str | Path, *, images: str | Path, language: str = "en") -> Iterator[Sample]:
    """One plain sample per row: the hypothesis, and yes, no or maybe by the first annotator, as mBLIP trained.

    `images` is Flickr30k's folder, `language` that of the hypotheses: others are machine-translated development
    sets. The answers are English. Raises `UserError` for a file of another kind and for an unknown label.
    """
    code = find_language(language).code
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        image = _picture_name(row, where)
        labels = list_field(row, "annotator_labels", where)
        if not labels or labels[0] not in LABELS:
            raise UserError(f"{where}: the first of 'annotator_labels' is none of {', '.join(LABELS)}.")
        yield Sample(
            id=f"{code}/{number}",
            images=(picture_at(Path(images), f"{image}.jpg", where),),
            turns=(Turn(text_field(row, "sentence2", where), LABELS[labels[0]]),),
            language="en",
            task="entailment",
            source=SOURCE,
            extra={"image": image, "pair": text_field(row, "pairID", where), "question_language": code},
        )


def _picture_name(row: dict[str, Any], where: str) -> str:
    key = next((key for key in PICTURE_KEYS if key in row), PICTURE_KEYS[0])
    return text_field(row, key, where).removesuffix(".jpg")
