"""MaXM: questions about pictures of XM3600, written in seven languages, with short answers in the same language."""

from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

from polylens.data.rows import list_field, read_json
from polylens.errors import UserError
from polylens.evaluation.benchmarks.fields import key_of, texts_of
from polylens.evaluation.benchmarks.files import need, wanted_code
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.scoring import MaxmScorer

YES_NO = "yesno"


def read(yes_no: bool, folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """A JSON file per language, named in its `split`; `annotations` of `image_id` and `qa_pairs`.

    The yes/no questions come in files of their own (`yesno_*`) and are a benchmark of their own.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if path.name.startswith(YES_NO) == yes_no]
    if not paths:
        raise UserError(f"'{folder}' holds no file of MaXM: give the folder with maxm_v1_LANGUAGE.json.")
    for path in paths:
        content = read_json(path)
        annotations = list_field(content, "annotations", str(path))
        code = wanted_code(content.get("split") or path.stem.rsplit("_", 1)[-1], languages, path)
        if code is None:
            continue
        for annotation in annotations:
            image = key_of(need(annotation, "image_id", path=path)[0], "image_id", str(path))
            for number, pair in enumerate(list_field(annotation, "qa_pairs", str(path)), start=1):
                where = f"{path}, image {image}, question {number}"
                question, answers = need(pair, "question", "processed_answers", path=Path(where))
                key = pair.get("question_id", question)
                yield Question(
                    id=f"{code}/{image}/{key}",
                    images=(f"{image}.jpg",),
                    language=code,
                    answers=texts_of(answers, "processed_answers", where),
                    fields={"question": question},
                    group="collection" if pair.get("is_collection") in (True, "true") else "",
                    where=where,
                )


BENCHMARK = Benchmark(
    name="maxm",
    title="MaXM",
    task="vqa",
    files="maxm_v1_LANGUAGE.json",
    images="XM3600",
    read=partial(read, False),
    score=MaxmScorer(),
)
YES_NO_BENCHMARK = Benchmark(
    name="maxm-yesno",
    title="MaXM, yes/no questions",
    task="vqa",
    files="yesno_*.json",
    images="XM3600",
    read=partial(read, True),
    score=MaxmScorer(),
)
