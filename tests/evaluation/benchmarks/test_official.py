"""Every official file that lies in the folder POLYLENS_BENCHMARKS is read whole, whatever languages there are."""

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from tests.evaluation.benchmarks.stand_ins import ByRule, draw, right

from polylens.evaluation.benchmarks.interface import find_benchmark, picture_name
from polylens.evaluation.benchmarks.pictures import locate
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.benchmarks.xvnli import LABELS
from polylens.evaluation.settings import EvaluationSettings
from polylens.languages import LANGUAGES

pytestmark = pytest.mark.official
DEFAULT = Path(__file__).parents[4] / "shared" / "benchmarks"
# Folder -> benchmark, and how many questions there are per language (None: what the file says).
PUBLISHED = {"xvnli": ("xvnli", 1150), "xflickrco": ("xflickrco", 2000), "xgqa": ("xgqa", None)}
PUBLISHED |= {"marvl": ("marvl", None)}


def official(*names):
    root = Path(os.environ.get("POLYLENS_BENCHMARKS", DEFAULT))
    if "POLYLENS_BENCHMARKS" in os.environ and not (root.is_dir() and any(root.iterdir())):
        pytest.fail(f"POLYLENS_BENCHMARKS is set, and {root} holds nothing")
    folders = [folder for name in names for folder in sorted(root.glob(name)) if folder.is_dir()]
    if not folders:
        pytest.skip(f"{root} holds none of {', '.join(names)}")
    return folders


def questions_of(folder, name):
    found = list(find_benchmark(name).read(folder, None))
    assert len({question.id for question in found}) == len(found)
    assert {question.language for question in found} <= set(LANGUAGES)
    assert all(question.answers and question.images for question in found)
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_read_whole(name):
    [folder] = official(name)
    benchmark, published = PUBLISHED[name]
    found = questions_of(folder, benchmark)
    counts = Counter(question.language for question in found)
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl")]
    # A file or a folder per language.
    assert len(counts) == len({path if path.parent == folder else path.parent for path in files})
    if published:
        assert set(counts.values()) == {published}
    one = next(iter(counts))
    assert [q for q in found if q.language == one] == list(find_benchmark(benchmark).read(folder, [one]))
    print(f"{name}: {len(found)} questions in {', '.join(counts)}")


def test_xvnli_drops_rows_without_a_label():
    [folder] = official("xvnli")
    for path in folder.glob("*/test.jsonl"):
        labels = [
            json.loads(line)["gold_label"] for line in path.read_text(encoding="utf-8").split("\n") if line
        ]
        assert len(labels) == 1164
        scored = [
            question.answers[0]
            for question in questions_of(folder, "xvnli")
            if question.language == path.parent.name
        ]
        assert scored == [LABELS[label] for label in labels if label != "-"]


def test_xgqa_keeps_every_question_and_its_english_answer():
    [folder] = official("xgqa")
    for path in folder.rglob("*.json"):
        rows = json.loads(path.read_text(encoding="utf-8"))
        code = path.parent.name
        found = [question for question in questions_of(folder, "xgqa") if question.language == code]
        assert [question.answers[0] for question in found] == [row["answer"] for row in rows.values()]
        assert {question.answer_language for question in found} == {"en"}
        assert found[0].extra["file"] == f"{code}/{path.name}"


def test_xflickrco_keeps_empty_and_odd_captions():
    [folder] = official("xflickrco")
    for path in folder.glob("*/test.jsonl"):
        code = path.parent.name
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        found = [question for question in questions_of(folder, "xflickrco") if question.language == code]
        assert [list(question.answers) for question in found] == [row["sentences"] for row in rows]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_marvl_finds_its_pictures_in_every_normalisation(tmp_path, form):
    [folder] = official("marvl")
    found = questions_of(folder, "marvl")
    names = {name[0] for question in found for name in question.images}
    for name in names:
        path = tmp_path / unicodedata.normalize(form, name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    located = locate(found, [tmp_path])
    assert len(located.questions) == len(found)
    assert {len(pictures) for pictures in located.pictures} == {2}
    for path in sorted(folder.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        mine = [question for question in found if question.language == rows[0]["language"]]
        assert [question.answers[0] == "yes" for question in mine] == [row["label"] for row in rows]
    print(f"marvl: {len(names)} pictures under {form}")


def test_llava_qa90_is_read_with_its_references():
    for folder in official("llava_qa90*"):
        found = questions_of(folder, "llava-qa90")
        assert len(found) == 90
        assert Counter(question.group for question in found) == {"conv": 30, "detail": 30, "complex": 30}
        assert len({picture_name(question.images[0]) for question in found}) == 30
        assert {question.language for question in found} == ({"zh"} if folder.name.endswith("zh") else {"en"})


def test_a_perfect_model_has_perfect_scores_on_official_files(tmp_path):
    [folder] = official("xflickrco")
    found = questions_of(folder, "xflickrco")
    codes = sorted({question.language for question in found})[:2]
    kept = [question for question in found if question.language in codes]
    images = draw(tmp_path / "images", sorted({picture_name(question.images[0]) for question in kept[:40]}))
    results = evaluate_benchmark(
        ByRule(right),
        EvaluationSettings(
            benchmark="xflickrco",
            data=folder,
            images=(images,),
            languages=",".join(codes),
            limit=40,
            skip_missing=True,
        ),
        tmp_path / "out",
    )
    assert results["languages"][codes[0]]["n"] == 40
    assert results["languages"][codes[0]]["cider_d"] > 8
