"""Babel-ImageNet: ImageNet's validation pictures named in up to 298 languages (Geigle et al., 2023)."""

from collections.abc import Container, Iterator
from pathlib import Path

from polylens.data.readers.imagenet import babel_spelling
from polylens.data.rows import read_json, text_lines
from polylens.errors import UserError
from polylens.evaluation.benchmarks.files import the_file, wanted_code
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import score_names

CLASSES = 1000
INDEX = "imagenet_val.txt"


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """`babel_imagenet*.json`: language -> [class indices, labels]; `imagenet_val.txt`: a picture per line.

    A line of the list is the path of a picture under its class's folder ("n01440764/ILSVRC2012_val_00000293.JPEG");
    the classes are numbered in the order of these folders' names, as everywhere. A language has only some classes,
    and only their pictures are asked about. A second spelling of a language (KMR beside KU) is scored apart as well.
    """
    path = the_file(folder, ["babel_imagenet*.json", "babel-imagenet*.json"], "Babel-ImageNet")
    table = read_json(path)
    if not isinstance(table, dict):
        raise UserError(f"'{path}' is no JSON object of languages: is it the official file?")
    by_class = _pictures(folder / INDEX)
    seen: set[str] = set()
    for spelling, entry in table.items():
        code = wanted_code(babel_spelling(spelling), languages, path)
        if code is None:
            continue
        if not (isinstance(entry, list) and len(entry) == 2 and len(entry[0]) == len(entry[1])):
            raise UserError(f"'{path}': '{spelling}' is no pair of class indices and as many labels.")
        second = code in seen
        seen.add(code)
        labels = tuple(dict.fromkeys(entry[1]))
        for index, label in zip(*entry, strict=True):
            if not 0 <= index < CLASSES:
                raise UserError(f"'{path}': '{spelling}' has the class {index}, and there are {CLASSES}.")
            for name in by_class[index]:
                yield Question(
                    id=f"{spelling}/{index}/{name}",
                    images=(name,),
                    language=code,
                    answers=(label,),
                    choices=labels,
                    where=f"{path}, '{spelling}', class {index}, '{name}'",
                    group=spelling if second else "",
                )


def _pictures(path: Path) -> list[list[str]]:
    """The pictures of each class, by its index."""
    if not path.is_file():
        raise UserError(
            f"There is no '{path}': write a line such as n01440764/ILSVRC2012_val_00000293.JPEG for every picture."
        )
    found: dict[str, list[str]] = {}
    for _, line in text_lines(path):
        found.setdefault(line.split("/")[0], []).append(line)
    if len(found) != CLASSES:
        raise UserError(f"'{path}' names pictures of {len(found)} classes, and ImageNet-1k has {CLASSES}.")
    return [found[name] for name in sorted(found)]


BENCHMARK = Benchmark(
    name="babel-imagenet",
    title="Babel-ImageNet",
    task="name",
    files=f"babel_imagenet.json, and {INDEX}: CLASS/PICTURE per line",
    images="ImageNet-1k validation, in folders by class",
    read=read,
    score=score_names,
)
