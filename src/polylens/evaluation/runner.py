"""Answers of a model, item by item, kept on disk, and their scores by language.

    samples -> pictures encoded once -> answered in every language -> predictions.jsonl -> scores by language

Predictions are appended as they come, so that a run that was killed goes on where it stopped; they are kept under a
fingerprint of everything that moves them, so that answers of two settings are never mixed.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polylens.data.answer import Answer, finish_reason, num_cut
from polylens.data.rows import Ids, decode, parse_json
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.bootstrap import Score
from polylens.evaluation.generation import Generation
from polylens.evaluation.names import chrf_score, exact_match_score
from polylens.evaluation.predictor import Chooser, Predictor
from polylens.files import json_text, make_writable_folder

FILE_NAME = "predictions.jsonl"


@dataclass(frozen=True)
class Item:
    """One sample to answer, the answers that count as right, and those to choose from by likelihood."""

    sample: Sample
    references: tuple[str, ...]
    choices: tuple[str, ...] = ()

    @cached_property
    def asked(self) -> str:
        """Names the question by its content: an answer on disk is only gone on with where this is equal."""
        sample = self.sample
        parts = [sample.turns[-1].prompt, *(picture.key for picture in sample.images), *self.choices]
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def answer(
    predictor: Predictor,
    items: Sequence[Item],
    generation: Generation,
    *,
    likelihood: bool = False,
    folder: Path | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """The predictor's answers in the items' order; `advance` hears how many items are done.

    With `likelihood`, the likeliest of an item's choices is its answer. With a `folder`, answers are read from and
    appended to its `predictions.jsonl`, by id. Raises `UserError` when that file is of another model, data or settings
    (its `fingerprint`), or cannot be written, and when the predictor knows no likelihoods. An item whose prompt,
    pictures or choices have changed since is answered anew.
    """
    if likelihood and not isinstance(predictor, Chooser):
        raise UserError(
            f"'{predictor.name}' gives no likelihoods to choose by: generate the answers instead."
        )
    store = _Store(folder, fingerprint or {}, items) if folder is not None else None
    said: list[str | None] = [store.done.get(item.sample.id) if store else None for item in items]
    missing = [place for place, text in enumerate(said) if text is None]
    advance(len(items) - len(missing))
    # All languages of a picture lie together, so it is encoded once for them and dropped soon.
    missing.sort(key=lambda at: tuple(picture.key for picture in items[at].sample.images))
    try:
        for place, text in _answers(predictor, [items[at] for at in missing], generation, likelihood):
            said[missing[place]] = text
            if store:
                store.add(items[missing[place]], text)
            advance(1)
    finally:
        if store:
            store.close()
    return [_given(text, item) for text, item in zip(said, items, strict=True)]


def _given(text: str | None, item: Item) -> str:
    assert text is not None, f"the predictor left '{item.sample.id}' unanswered"
    return text


def _answers(
    predictor: Predictor,
    items: Sequence[Item],
    generation: Generation,
    likelihood: bool,
) -> Iterator[tuple[int, str]]:
    samples = [item.sample for item in items]
    if not likelihood:
        return predictor.generate(samples, generation)
    assert isinstance(predictor, Chooser)
    choices = [item.choices for item in items]
    picks = predictor.choose(samples, choices, generation)
    return ((place, choices[place][pick]) for place, pick in picks)


class _Store:
    """predictions.jsonl: a header line with the fingerprint, then one line per answered item.

    Raises `UserError` for two items of one id: one answer would stand for both.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], items: Sequence[Item]) -> None:
        ids = Ids()
        for number, item in enumerate(items, start=1):
            ids.add(item.sample.id, f"Item {number}")
        path = make_writable_folder(folder) / FILE_NAME
        header = json_text({"fingerprint": dict(fingerprint)}, sort_keys=True)
        self.done: dict[str, str] = {}
        self.asked = {item.sample.id: item.asked for item in items}
        if path.exists():
            whole = path.read_bytes()
            # A kill may leave half a line, which is answered anew.
            kept = whole[: whole.rfind(b"\n") + 1]
            lines = decode(kept, str(path)).split("\n")[:-1]
            if lines and lines[0] != header:
                raise UserError(
                    f"'{path}' holds answers of other settings: choose another --out, or delete it."
                )
            rows = [parse_json(line, f"{path}, line {n}") for n, line in enumerate(lines[1:], start=2)]
            self.done = {
                row["id"]: Answer(row["prediction"], row.get("finish_reason", "stop"))
                for row in rows
                if self.asked.get(row["id"], row["asked"]) == row["asked"]
            }
            if kept != whole:
                os.truncate(path, len(kept))
        self.path = path
        self.file = path.open("a", encoding="utf-8", newline="\n")
        if self.file.tell() == 0:
            self._write([header])

    def add(self, item: Item, text: str) -> None:
        row = {
            "id": item.sample.id,
            "language": item.sample.language,
            "task": item.sample.task,
            "asked": item.asked,
            "prompt": item.sample.turns[-1].prompt,
            "prediction": text,
            "finish_reason": finish_reason(text),
            "references": item.references,
        }
        # A field of the data never takes the place of one of these.
        row |= {name: value for name, value in item.sample.extra.items() if name not in row}
        self._write([json_text(row)])

    def close(self) -> None:
        self.file.close()

    def _write(self, lines: Sequence[str]) -> None:
        try:
            self.file.write("".join(line + "\n" for line in lines))
            self.file.flush()
        except OSError as error:
            raise UserError(
                f"'{self.path}' cannot be written: {error.strerror}; free some space and go on."
            ) from error


def notes_of_cut(said: Sequence[str], generation: Generation, what: str = "answers") -> list[str]:
    """A note on how many answers were cut, if any was: a cut answer is seldom a right one."""
    cut = num_cut(said)
    if not cut:
        return []
    return [
        f"{cut:,} of {len(said):,} {what} were cut at {generation.max_new_tokens} tokens (--max-new-tokens): they are "
        "scored as they are."
    ]


def name_scores(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Score]:
    """Exact match (0-1) and chrF (0-100) of short answers, each with interval and n."""
    return {"exact_match": exact_match_score(said, references), "chrf": chrf_score(said, references)}


def as_row(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Scores as results.json has them: plain values, `n`, and `intervals` beside."""
    return {
        **{name: score.value for name, score in scores.items()},
        "n": next(iter(scores.values())).n,
        "intervals": {name: [score.low, score.high] for name, score in scores.items()},
    }
