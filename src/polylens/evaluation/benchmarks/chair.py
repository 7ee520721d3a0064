"""CHAIR: how many of the objects that a caption speaks of are not in the picture (Rohrbach et al., 2018).

caption -> words, singular -> COCO objects by a list of synonyms -> not among the picture's objects: hallucinated
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from polylens.data.rows import json_lines, list_field, read_json, text_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import object_of, text_of, texts_of
from polylens.evaluation.benchmarks.files import need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.bootstrap import Floats, bootstrap_all
from polylens.evaluation.caption_metrics import tokenise_caption

SYNONYMS = "synonyms.txt"
# Objects by image: one file of one's own, or the one that POPE publishes (JSON lines, whatever its name ends with).
OBJECTS = ("*.jsonl", "coco_ground_truth_segmentation.json")
SPLITS = "dataset_coco.json"
# mBLIP describes the first pictures of Karpathy's validation split.
SUBSET = 1000
# The rules of the metric, as facts. Phrases that are one thing, or another thing than their words:
PHRASES = {
    phrase: phrase
    for phrase in (
        "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant,"
        " stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass,"
        " hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant, laptop computer, home plate,"
        " train track"
    ).split(", ")
}
# a baby bird is no person,
ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()
PHRASES |= {f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS}
# a passenger train neither,
PHRASES |= {f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")}
PHRASES |= {"bow tie": "tie", "toilet seat": "toilet"}
# and a toilet seat is no chair.
SEATS = frozenset({"toilet", "seat"})
IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "people", "mice": "mouse"}
IRREGULAR |= {"knives": "knife", "geese": "goose", "calves": "calf", "oxen": "ox", "feet": "foot"}
IRREGULAR |= {"policemen": "policeman", "wolves": "wolf", "leaves": "leaf", "loaves": "loaf"}
ENDINGS = (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("es", "e"), ("s", ""))


class Row(NamedTuple):
    """The objects of one picture, and the file and line that name them."""

    where: str
    image: str
    objects: tuple[str, ...]


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """JSON lines of `image` and `objects`, and the official `synonyms.txt`, a line of names per object.

    With Karpathy's `dataset_coco.json` beside them, only the first 1,000 pictures of its validation split, in its
    order, which mBLIP describes. All three may lie in folders below.
    """
    if not wanted("en", languages):
        return
    names = read_synonyms(the_file(folder, _anywhere(SYNONYMS), "CHAIR's synonyms"))
    path = the_file(folder, _anywhere(*OBJECTS), "CHAIR")
    rows = list(_rows(path))
    if any(folder.glob(f"**/{SPLITS}")):
        splits = the_file(folder, [f"**/{SPLITS}"], "Karpathy's splits")
        # Two rows of one picture both stay, so that they are refused as they are without the splits.
        by_image: dict[str, list[Row]] = {}
        for row in rows:
            by_image.setdefault(row.image, []).append(row)
        subset = _validation(splits)
        missing = next((image for image in subset if image not in by_image), None)
        if missing is not None:
            raise UserError(
                f"'{path}' has no objects of '{missing}', which is in the validation split of '{splits}'."
            )
        rows = [row for image in subset for row in by_image[image]]
    for where, image, objects in rows:
        unknown = next((one for one in objects if one not in names), None)
        if unknown is not None:
            raise UserError(f"{where}: the object '{unknown}' is not in {SYNONYMS}: take both of one kind.")
        split = image.split("_")[1] if image.startswith("COCO_") else ""
        yield Question(
            id=f"en/{image}",
            images=((image, f"{split}/{image}") if split else image,),
            language="en",
            answers=tuple(sorted({names[one] for one in objects})),
            extra={"synonyms": names},
            where=where,
        )


def _anywhere(*names: str) -> list[str]:
    return [pattern for name in names for pattern in (name, f"**/{name}")]


def _rows(path: Path) -> Iterator[Row]:
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        image, objects = need(row, "image", "objects", path=Path(where))
        # A picture may hold no object that CHAIR knows, and then nothing is right.
        objects = texts_of(objects, "objects", where) if objects != [] else ()
        yield Row(where, text_of(image, "image", where), objects)


def _validation(path: Path) -> list[str]:
    """The first pictures of Karpathy's validation split, in the order of the file."""
    names = []
    for number, entry in enumerate(list_field(read_json(path), "images", str(path)), start=1):
        where = f"{path}, image {number}"
        split, name = need(object_of(entry, "the image", where), "split", "filename", path=Path(where))
        if split == "val":
            names.append(text_of(name, "filename", where))
    return names[:SUBSET]


def read_synonyms(path: Path) -> dict[str, str]:
    """{name: object}: of each line, split at commas, the first name is the object's."""
    found: dict[str, str] = {}
    for _, line in text_lines(path):
        several = [name.strip().lower() for name in line.split(",") if name.strip()]
        found |= dict.fromkeys(several, several[0])
    return found


def mentioned(caption: str, names: Mapping[str, str]) -> list[str]:
    """The objects that a caption speaks of, each as often as it does."""
    words = [_singular(word, names) for word in tokenise_caption(caption.lower())]
    said, place = [], 0
    while place < len(words):
        phrase = PHRASES.get(" ".join(words[place : place + 2]))
        said.append(phrase or words[place])
        place += 2 if phrase else 1
    if set(words) >= SEATS:
        said = [word for word in said if word != "seat"]
    return [names[word] for word in said if word in names]


def score(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """CHAIR_s, the share of captions with a hallucinated object, CHAIR_i, that of objects spoken of, and recall."""
    rows = []
    for question, caption in zip(questions, said, strict=True):
        objects = mentioned(caption, question.extra["synonyms"])
        wrong = sum(one not in question.answers for one in objects)
        found = len(set(objects) & set(question.answers))
        rows.append([wrong > 0, wrong, len(objects), found, len(question.answers), 1])
    counts_N6 = np.array(rows, dtype=np.float64)

    def ratio(above: Floats, below: Floats) -> Floats:
        return np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)

    scores = bootstrap_all(
        counts_N6,
        {
            "chair_s": lambda sums: sums[:, 0] / sums[:, 5],
            "chair_i": lambda sums: ratio(sums[:, 1], sums[:, 2]),
            "object_recall": lambda sums: ratio(sums[:, 3], sums[:, 4]),
            "objects_said": lambda sums: sums[:, 2] / sums[:, 5],
        },
    )
    return Scores(scores, {"chair_s": counts_N6[:, 0].tolist(), "objects_said": counts_N6[:, 2].tolist()})


def _singular(word: str, names: Mapping[str, str]) -> str:
    """The word as the list of synonyms has it, which decides between "glass" and "glasses"."""
    if word in names:
        return word
    if word in IRREGULAR or len(word) < 4:
        return IRREGULAR.get(word, word)
    forms = [word[: -len(end)] + instead for end, instead in ENDINGS if word.endswith(end)]
    if word.endswith("es"):
        forms.append(word[:-2])
    return next((form for form in forms if form in names), forms[0] if forms else word)


def _benchmark(name: str, title: str, task: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        task=task,
        files=f"OBJECTS.jsonl (image, objects), the official {SYNONYMS}, and for mBLIP's subset {SPLITS}",
        images="COCO val2014",
        read=read,
        score=score,
        needs_answers=False,
    )


BENCHMARK = _benchmark("chair", "CHAIR", "chair")
DETAIL = _benchmark("chair-detail", "CHAIR, detailed descriptions", "chair_detail")
