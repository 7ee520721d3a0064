"""A benchmark from files to report, with a predictor that answers by rule."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.evaluation.benchmarks.stand_ins import ByLength, ByRule, draw, right

from polylens.errors import UserError
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.settings import EvaluationSettings

ROWS = [
    ("entailment", "A man sits.", "1"),
    ("contradiction", "A dog sits.", "1"),
    ("neutral", "He waits.", "2"),
    ("-", "Nobody agreed.", "3"),
    ("entailment", "A tree.", "2"),
]


@pytest.fixture
def xvnli(tmp_path):
    """Two languages of XVNLI's form, and the pictures."""
    for code in ("en", "fr"):
        folder = tmp_path / "xvnli" / code
        folder.mkdir(parents=True)
        rows = [
            {
                "gold_label": label,
                "sentence2": f"{code}: {text}",
                "Flikr30kID": image,
                "pairID": f"{image}r{number}",
            }
            for number, (label, text, image) in enumerate(ROWS)
        ]
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw(tmp_path / "images", ["1.jpg", "2.jpg", "3.jpg"])
    return tmp_path


def request(place, **changes):
    given = {"benchmark": "xvnli", "data": place / "xvnli", "images": (place / "images",)}
    return EvaluationSettings(**given | changes)


def test_a_run_leaves_everything_behind(xvnli):
    predictor = ByRule(
        lambda sample: "Yes" if "fr:" in sample.turns[-1].prompt else right(sample), weights="w"
    )
    out = xvnli / "out"
    results = evaluate_benchmark(predictor, request(xvnli), out)
    assert {code: row["accuracy"] for code, row in results["languages"].items()} == {"en": 1.0, "fr": 0.5}
    assert {code: row["n"] for code, row in results["languages"].items()} == {"en": 4, "fr": 4}
    assert results["majority"] == {"en": 0.5, "fr": 0.5}
    assert results["means"]["accuracy"] == {"all": 0.75, "without_en": 0.5}
    assert results["notes"] == []
    settings = results["settings"]
    assert (settings["protocol"], settings["answers"]) == ("mblip", "generated")
    assert settings["generation"] == {
        "num_beams": 5,
        "max_new_tokens": 10,
        "length_penalty": -1.0,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "batch_size": 64,
    }
    assert settings["model"] == {"weights": "w"}
    assert settings["prompt"] == (
        'Is it guaranteed true that "en: A man sits."? Yes, no, or maybe? Answer in English:'
    )
    assert json.loads((out / "results.json").read_text()) == results
    assert (out / "report.html").is_file()
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()[1:]]
    assert len(rows) == 8
    assert {row["prediction"] for row in rows if row["prompt"].count("fr:")} == {"Yes"}
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [item["scores"]["accuracy"] for item in items if item["language"] == "fr"] == [1, 0, 0, 1]
    # All questions about a picture stand side by side.
    pictures = [sample.images[0].key for sample in predictor.asked]
    assert sum(a != b for a, b in itertools.pairwise(pictures)) == len(set(pictures)) - 1


def test_what_is_done_is_not_asked_again(xvnli):
    out = xvnli / "out"
    evaluate_benchmark(ByRule(right), request(xvnli, languages="fr"), out)
    second = ByRule(right)
    evaluate_benchmark(second, request(xvnli), out)
    assert {sample.id[:2] for sample in second.asked} == {"en"}
    third = ByRule(right)
    results = evaluate_benchmark(third, request(xvnli, batch_size=1), out)
    assert third.asked == []
    assert results["languages"]["en"]["accuracy"] == 1
    # A changed question is asked anew, another model's answers are refused.
    path = xvnli / "xvnli" / "en" / "test.jsonl"
    path.write_text(path.read_text().replace("A man sits.", "A woman sits."))
    fourth = ByRule(right)
    evaluate_benchmark(fourth, request(xvnli), out)
    assert len(fourth.asked) == 1
    with pytest.raises(UserError, match="answers of other settings"):
        evaluate_benchmark(ByRule(right, weights="other"), request(xvnli), out)
    with pytest.raises(UserError, match="answers of other settings"):
        evaluate_benchmark(ByRule(right), request(xvnli, num_beams=1), out)


def test_killed_and_gone_on_with(xvnli):
    code = f"""
import sys, time
from pathlib import Path
from tests.evaluation.benchmarks.stand_ins import ByRule, right
from polylens.evaluation.settings import EvaluationSettings
from polylens.evaluation.benchmarks.run import evaluate_benchmark
def slow(sample):
    time.sleep(0.2)
    return right(sample)
place = Path({str(xvnli)!r})
request = EvaluationSettings(benchmark="xvnli", data=place / "xvnli", images=(place / "images",))
evaluate_benchmark(ByRule(slow), request, place / "out")
"""
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, env=os.environ | {"PYTHONPATH": f"{root}/src:{root}"}
    )
    path = xvnli / "out" / "predictions.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 4):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    done = path.read_bytes().count(b"\n") - 1
    assert 3 <= done < 8
    with path.open("ab") as file:
        file.write(b'{"id": "half a li')
    rest = ByRule(right)
    results = evaluate_benchmark(rest, request(xvnli), xvnli / "out")
    assert len(rest.asked) == 8 - done
    assert [row["accuracy"] for row in results["languages"].values()] == [1, 1]


def test_a_missing_picture_stops_the_run_before_it_begins(xvnli):
    for name in ("1.jpg", "2.jpg"):
        (xvnli / "images" / name).unlink()
    predictor = ByRule(right)
    with pytest.raises(UserError, match=r"2 of 2 pictures are not in .*'1.jpg', '2.jpg'"):
        evaluate_benchmark(predictor, request(xvnli), xvnli / "out")
    draw(xvnli / "images", ["2.jpg"])
    with pytest.raises(UserError, match=r"1 of 2 pictures .*'1.jpg'.*--skip-missing"):
        evaluate_benchmark(predictor, request(xvnli), xvnli / "out")
    assert predictor.asked == []
    assert not (xvnli / "out").exists()
    results = evaluate_benchmark(predictor, request(xvnli, skip_missing=True), xvnli / "out")
    assert results["missing_images"] == {"pictures": 1, "questions": 4, "first": ["1.jpg"]}
    assert results["languages"]["en"]["n"] == 2
    assert "left out of the score (--skip-missing): not comparable" in results["notes"][0]


def test_only_five_missing_pictures_are_named(tmp_path):
    rows = [{"sentences": ["x"], "id": str(n), "img_path": f"{n}.jpg"} for n in range(9)]
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        UserError, match=r"9 of 9 pictures .*'0.jpg', '1.jpg', '2.jpg', '3.jpg', '4.jpg', \.\.\."
    ):
        evaluate_benchmark(
            ByRule(right),
            EvaluationSettings(benchmark="xflickrco", data=tmp_path, images=(tmp_path,), languages="de"),
            tmp_path / "out",
        )


def test_a_limit_says_so(xvnli):
    results = evaluate_benchmark(ByRule(right), request(xvnli, limit=3), xvnli / "out")
    assert [row["n"] for row in results["languages"].values()] == [3, 3]
    assert "--limit): not comparable" in results["notes"][0]
    assert results["settings"]["limit"] == 3


def test_likeliest_label(xvnli):
    predictor = ByLength(right)
    results = evaluate_benchmark(predictor, request(xvnli, likelihood=True), xvnli / "out")
    assert results["settings"]["answers"] == "likeliest label"
    assert results["languages"]["en"]["accuracy"] == 0.25
    with pytest.raises(UserError, match="gives no likelihoods"):
        evaluate_benchmark(ByRule(right), request(xvnli, likelihood=True), xvnli / "other")
    rows = [{"sentences": ["x"], "id": "1", "img_path": "1.jpg"}]
    (xvnli / "f" / "de").mkdir(parents=True)
    (xvnli / "f" / "de" / "test.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(UserError, match="no labels to choose from"):
        evaluate_benchmark(
            predictor,
            request(xvnli, benchmark="xflickrco", data=xvnli / "f", likelihood=True),
            xvnli / "third",
        )


def test_baselines_stand_beside_the_score(xvnli):
    def rule(sample):
        if not sample.images:
            return "maybe"
        return right(sample) if "EN[" in sample.turns[-1].prompt or "en:" in sample.turns[-1].prompt else "no"

    translated = []

    def translate(texts, source, target):
        translated.append((source, target))
        return [f"EN[{text}]" for text in texts]

    results = evaluate_benchmark(
        ByRule(rule),
        request(xvnli, baselines=("text-only", "translate-test", "majority")),
        xvnli / "out",
        translate=translate,
        translator="brackets",
    )
    assert {code: row["accuracy"] for code, row in results["languages"].items()} == {"en": 1.0, "fr": 0.25}
    assert results["text_only"] == {"en": 0.25, "fr": 0.25}
    assert results["translate_test"] == {"fr": 1.0}
    assert results["majority"] == {"en": 0.5, "fr": 0.5}
    assert translated == [("fr", "en")]
    assert results["settings"]["translator"] == "brackets"
    with pytest.raises(UserError, match="needs a translator"):
        evaluate_benchmark(ByRule(rule), request(xvnli, baselines=("translate-test",)), xvnli / "out")


def test_captions_are_translated_back_once_per_picture(tmp_path):
    for code, text in (("de", "ein Hund läuft"), ("fr", "un chien court"), ("en", "a dog runs")):
        (tmp_path / code).mkdir()
        rows = [{"sentences": [f"{text} {n}"], "id": str(n), "img_path": f"{n}.jpg"} for n in range(3)]
        (tmp_path / code / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw(tmp_path / "images", [f"{n}.jpg" for n in range(3)])
    back = {"de": "ein Hund läuft", "fr": "un chien court"}
    predictor = ByRule(lambda sample: f"a dog runs {sample.images[0].path.stem}")
    results = evaluate_benchmark(
        predictor,
        EvaluationSettings(
            benchmark="xflickrco",
            data=tmp_path,
            images=(tmp_path / "images",),
            protocol="raw",
            baselines=("translate-test",),
        ),
        tmp_path / "out",
        translate=lambda texts, source, target: [text.replace("a dog runs", back[target]) for text in texts],
    )
    # 9 answers of the run itself, and one in English for each picture.
    assert len(predictor.asked) == 12
    assert predictor.asked[-1].turns[-1].prompt == "caption in en"
    assert results["translate_test"]["de"] == pytest.approx(results["languages"]["en"]["cider_d"])
    assert results["languages"]["de"]["cider_d"] < 0.3 * results["translate_test"]["de"]
    assert any("CIDEr weighs words" in note for note in results["notes"])
    assert results["settings"]["scoring"]["words"] == {"none": ["de", "en", "fr"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "xvnly"}, "did you mean 'xvnli'"),
        ({"protocol": "paligemma"}, "has no prompt for the task 'entailment': choose from mblip, raw"),
        ({"protocol": "lens"}, "There is no protocol 'lens': choose from mblip, paligemma, raw"),
        ({"languages": "sw"}, "has nothing in sw: it has en, fr"),
        ({"languages": "xx"}, "Unknown language 'xx'"),
        ({"languages": "xx,de,Frnech"}, "2 unknown languages: 'xx': .*'Frnech': did you mean 'fr'"),
        ({"languages": " , "}, "No language in"),
        ({"baselines": ("chance",)}, "There is no baseline 'chance'"),
        ({"data": None}, "XVNLI needs the folder of its files"),
        ({"data": Path("/nowhere")}, "There is no folder '/nowhere'"),
        ({"images": (Path("/nowhere"),)}, "There is no folder '/nowhere': give the folder of the pictures"),
        ({"images": ()}, "are not in no folder"),
    ],
)
def test_wrong_requests_are_one_sentence(xvnli, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate_benchmark(ByRule(right), request(xvnli, **changes), xvnli / "out")
