"""POPE: is an object in the picture, yes or no; does the model say yes to what is not there (Li et al., 2023)."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.rows import json_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import text_of
from polylens.evaluation.benchmarks.files import need, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import score_pope

SETTINGS = ("random", "popular", "adversarial")


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`*_pope_SETTING.json`, JSON lines of `question_id`, `image`, `text`, `label`; each setting is a group."""
    if not wanted("en", languages):
        return
    paths = [
        (setting, path)
        for setting in SETTINGS
        for path in sorted(folder.glob(f"*{setting}.json*"))
        if path.is_file()
    ]
    if not paths:
        raise UserError(f"'{folder}' holds no file of POPE: give the folder with coco_pope_SETTING.json.")
    for setting, path in paths:
        for number, row in json_lines(path):
            where = f"{path}, line {number}"
            key, image, text, label = need(row, "question_id", "image", "text", "label", path=Path(where))
            image = text_of(image, "image", where)
            if label not in ("yes", "no"):
                raise UserError(f"{where}: the label '{label}' of question {key} is neither yes nor no.")
            split = image.split("_")[1] if image.startswith("COCO_") else ""
            yield Question(
                # Some lists number the questions of each picture from 1.
                id=f"{setting}/{path.stem}/{image}/{key}",
                images=((image, f"{split}/{image}") if split else image,),
                language="en",
                answers=(label,),
                fields={"question": text},
                choices=("yes", "no"),
                group=setting,
                where=where,
            )


BENCHMARK = Benchmark(
    name="pope",
    title="POPE",
    task="pope",
    files="coco_pope_random.json, coco_pope_popular.json, coco_pope_adversarial.json",
    images="COCO val2014",
    read=read,
    score=score_pope,
)
