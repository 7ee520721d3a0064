"""Benchmarks on a real (tiny) model: what a picture costs, what a score depends on, and the command."""

import json

import pytest
import torch
from tests.evaluation.benchmarks.stand_ins import draw
from tests.models.tiny_models import NoisePicture, tiny_vlm
from typer.testing import CliRunner

from polylens.cli import app
from polylens.data.sample import Sample, Turn
from polylens.evaluation import predictor as predictors
from polylens.evaluation.benchmarks.asking import Asking
from polylens.evaluation.benchmarks.interface import Question, find_benchmark
from polylens.evaluation.benchmarks.protocols import PROTOCOLS
from polylens.evaluation.generation import Generation
from polylens.evaluation.predictor import LocalPredictor
from polylens.models.checkpoints.folder import save_model

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return tiny_vlm()


def samples():
    """Seven pictures in three languages each, and two questions about two pictures."""
    found = [
        Sample(f"{code}/{n}", (NoisePicture(n),), (Turn(f"{code}: {'x' * n}?", "a"),), code, "vqa", "t")
        for n in range(7)
        for code in ("de", "en", "sw")
    ]
    pair = (NoisePicture(0), NoisePicture(6))
    return [
        *found,
        *(Sample(f"p{n}", pair, (Turn("both?" * (n + 1), "a"),), "en", "vqa", "t") for n in range(2)),
    ]


def test_a_picture_is_encoded_once_however_its_questions_are_cut(model, monkeypatch):
    monkeypatch.setattr(predictors, "SAMPLES_AT_ONCE", 4)
    encoded = []
    encode = model.encode_pictures

    def counting(pictures, batch_size):
        encoded.extend({picture.key for picture in pictures})
        return encode(pictures, batch_size)

    monkeypatch.setattr(model, "encode_pictures", counting)
    answers = dict(LocalPredictor(model).generate(samples(), Generation(max_new_tokens=4, batch_size=3)))
    assert sorted(answers) == list(range(23))
    assert sorted(encoded) == sorted(NoisePicture(n).key for n in range(7))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_do_not_depend_on_the_batch(model, num_beams):
    def say(batch_size, order):
        asked = [samples()[at] for at in order]
        generation = Generation(num_beams=num_beams, max_new_tokens=5, batch_size=batch_size)
        said = dict(LocalPredictor(model).generate(asked, generation))
        return {asked[place].id: text for place, text in said.items()}

    order = list(range(23))
    alone = say(1, order)
    assert len(set(alone.values())) > 3
    assert say(23, order) == alone
    assert say(5, order[::-1]) == alone


def test_the_likeliest_label_does_not_depend_on_the_batch(model):
    labels = [("yes", "no", "maybe so")] * 23

    def pick(batch_size):
        return dict(LocalPredictor(model).choose(samples(), labels, Generation(batch_size=batch_size)))

    assert pick(1) == pick(7) == pick(23)


@pytest.mark.parametrize(
    ("benchmark", "protocol", "question", "prompt"),
    [
        # As mBLIP's evaluation names it, not its training.
        ("xm3600", "mblip", {"language": "he"}, "Caption in Hebrew: "),
        ("xm3600", "mblip", {"language": "uk"}, "Caption in Ukranian: "),
        (
            "maxm",
            "mblip",
            {"language": "he", "fields": {"question": "?"}},
            "Question: ? Short answer in Hebrew:",
        ),
        ("xm3600", "paligemma", {"language": "he"}, "caption he"),
        ("xm3600", "raw", {"language": "sw"}, "Caption in Swahili: "),
        (
            "xgqa",
            "mblip",
            {"language": "de", "answer_language": "en", "fields": {"question": "Was?"}},
            "Question: Was? Short answer in English:",
        ),
        (
            "maxm",
            "mblip",
            {"language": "fr", "fields": {"question": "Quoi ?"}},
            "Question: Quoi ? Short answer in French:",
        ),
        (
            "marvl",
            "mblip",
            {"language": "zh", "answer_language": "en", "fields": {"statement": "{左}"}},
            'Based on the two images, is it correct to say "{左}"? Yes or no? Answer in English:',
        ),
        (
            "nlvr2",
            "mblip",
            {"language": "en", "fields": {"statement": "Two dogs."}},
            'Based on the two images, is it correct to say "Two dogs."? Yes or no? Answer in English:',
        ),
        ("pope", "mblip", {"language": "en", "fields": {"question": "Is there a dog?"}}, "Is there a dog?"),
        ("chair", "mblip", {"language": "en"}, "Caption in English:"),
        (
            "chair-detail",
            "mblip",
            {"language": "en"},
            "Describe the image in English with as much detail as possible.",
        ),
        (
            "xgqa",
            "paligemma",
            {"language": "de", "answer_language": "en", "fields": {"question": "Was?"}},
            "answer en Was?",
        ),
    ],
)
def test_prompts_of_the_protocols(model, benchmark, protocol, question, prompt):
    asking = Asking(find_benchmark(benchmark), PROTOCOLS[protocol], LocalPredictor(model))
    assert asking.prompt(Question(id="1", images=(), answers=("a",), **question)) == prompt


def test_generation_of_mblips_protocol():
    settings = PROTOCOLS["mblip"].settings_of
    assert settings("caption") == Generation(num_beams=5, max_new_tokens=50, length_penalty=1)
    assert (
        settings("vqa")
        == settings("reasoning")
        == Generation(num_beams=5, max_new_tokens=10, length_penalty=-1)
    )
    assert settings("chair") == Generation(num_beams=5, max_new_tokens=256, repetition_penalty=1.5)


def test_the_command(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    save_model(model, tmp_path / "model")
    (tmp_path / "xvnli" / "fr").mkdir(parents=True)
    rows = [
        {"gold_label": label, "sentence2": "Il dort.", "Flikr30kID": "1", "pairID": label}
        for label in ("entailment", "neutral")
    ]
    (tmp_path / "xvnli" / "fr" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw(tmp_path / "images", ["1.jpg"])

    def run(*more, exit_code=0):
        result = CliRunner().invoke(app, ["evaluate", "model", *more])
        assert result.exit_code == exit_code, result.output
        return result

    given = ("--benchmark", "xvnli", "--data", "xvnli", "--images", "images", "--lang", "fr")
    run(
        *given,
        "--protocol",
        "mblip",
        "--likelihood",
        "--limit",
        "2",
        "--num-beams",
        "1",
        "--out",
        "out",
        "--json",
    )
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["model"]["dtype"] == "float32"
    assert len(results["settings"]["model"]["model_sha256"]) == 64
    assert results["settings"]["generation"]["num_beams"] == 1
    assert "departs from the protocol (num_beams 1)" in results["notes"][1]
    said = [
        json.loads(line)["prediction"]
        for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[1:]
    ]
    assert set(said) <= {"yes", "no", "maybe"}
    for more, message in [
        ((*given, "--split", "1"), "No picture lies above the split 1.0: lower it"),
        ((*given, "--group-by", "x"), "No row has a field 'x' to group by: they have none"),
        ((*given, "--choices", "3"), "--choices is of captions, and XVNLI has none"),
        ((*given, "--baselines", "text-ceiling"), "XVNLI has no captions, so no text-ceiling"),
        (("--data", "xvnli", "--protocol", "mblip"), "There is no captions.jsonl in 'xvnli'"),
        ((), "Nothing to score"),
        ((*given[:-4], "--images", "elsewhere"), "There is no folder 'elsewhere'"),
    ]:
        assert message in run(*more, exit_code=2).stderr
    listed = CliRunner().invoke(app, ["benchmarks", "--json"])
    assert len(json.loads(listed.stdout)) == 23
