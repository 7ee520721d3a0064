"""COCO and Flickr30k captions in English: the test pictures of Karpathy's splits, or a file of COCO's own kind."""

from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from polylens.data.rows import list_field, read_json
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, text_of, texts_of
from polylens.evaluation.benchmarks.files import need, the_file, wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Reader
from polylens.evaluation.benchmarks.scoring import score_captions


def read(
    names: tuple[str, ...], what: str, folder: Path, languages: Container[str] | None
) -> Iterator[Question]:
    """`dataset_*.json`: `images` with `split`, `filename` and `sentences`, of which the split `test` is scored.

    COCO's own `captions_*.json` has `images` and `annotations`, all of which are scored.
    """
    if not wanted("en", languages):
        return
    path = the_file(folder, names, what)
    content = read_json(path)
    if isinstance(content, dict) and "annotations" in content:
        yield from _coco(path, content)
        return
    for number, image in enumerate(list_field(content, "images", str(path)), start=1):
        where = f"{path}, image {number}"
        split, name, sentences = need(image, "split", "filename", "sentences", path=Path(where))
        if split == "test":
            raw = [need(sentence, "raw", path=Path(where))[0] for sentence in sentences]
            answers, name = texts_of(raw, "sentences", where), text_of(name, "filename", where)
            place = f"{image['filepath']}/{name}" if image.get("filepath") else name
            yield Question(
                id=f"en/{name}",
                images=((name, place),),
                language="en",
                answers=answers,
                extra={"file": path.name},
                where=where,
            )


def _coco(path: Path, content: dict[str, Any]) -> Iterator[Question]:
    captions: dict[str, list[str]] = {}
    for number, row in enumerate(list_field(content, "annotations", str(path)), start=1):
        where = f"{path}, annotation {number}"
        image_id, caption = need(row, "image_id", "caption", path=Path(where))
        captions.setdefault(key_of(image_id, "image_id", where), []).append(
            text_of(caption, "caption", where)
        )
    seen: dict[str, str] = {}
    for number, image in enumerate(list_field(content, "images", str(path)), start=1):
        where = f"{path}, image {number}"
        name, image_id = need(image, "file_name", "id", path=Path(where))
        name, image_id = text_of(name, "file_name", where), key_of(image_id, "id", where)
        if image_id not in captions:
            raise UserError(f"{where}: no caption of '{name}': is it the file of a test set?")
        if seen.setdefault(image_id, where) != where:
            raise UserError(f"{where}: the id {image_id} is that of {seen[image_id]} too: give each its own.")
        folder = name.split("_")[1] if name.startswith("COCO_") else "val2017"
        yield Question(
            id=f"en/{name}",
            images=((name, f"{folder}/{name}"),),
            language="en",
            answers=tuple(captions[image_id]),
            extra={"file": path.name},
            where=where,
        )
    if lost := captions.keys() - seen.keys():
        raise UserError(
            f"'{path}' has captions of {len(lost)} images that it does not list, such as {min(lost)}: get it again."
        )


def _benchmark(name: str, title: str, names: tuple[str, ...], images: str) -> Benchmark:
    reader: Reader = partial(read, names, title)
    return Benchmark(
        name=name,
        title=title,
        task="caption",
        files=" or ".join(names),
        images=images,
        read=reader,
        score=score_captions,
    )


COCO = _benchmark("coco", "COCO captions", ("dataset_coco.json", "captions_*.json"), "COCO val2014")
FLICKR30K = _benchmark("flickr30k", "Flickr30k", ("dataset_flickr30k.json",), "Flickr30k")
