import json

import pytest
from PIL import Image
from tests.data.translation.backwards import Backwards
from typer.testing import CliRunner

from polylens.cli import app
from polylens.data.translation import engines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(data / f"{name}.png")
    rows = [
        {"image": "a.png", "captions": {"en": ["dog"], "de": ["Hund"]}},
        {"image": "b.png", "captions": {"en": ["cat", "a cat on a mat"]}},
    ]
    (data / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def polylens(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_captions_by_the_dictionary(folder):
    result = polylens(
        "translate", folder / "data", "--lang", "de,sw", "--engine", "picto", "--out", folder / "out"
    )
    assert result.exit_code == 0, result.output
    assert "Swahili" in result.output
    assert "2 unknown" not in result.output
    assert "1 unknown" in result.output
    accepted = lines(folder / "out" / "samples.jsonl")
    assert [(row["language"], row["turns"]) for row in accepted] == [
        ("de", [["Caption in German: ", "Hund"]]),
        ("sw", [["Caption in Swahili: ", "mbwa"]]),
        ("de", [["Caption in German: ", "Katze"]]),
        ("sw", [["Caption in Swahili: ", "paka"]]),
    ]
    rejects = lines(folder / "out" / "rejects" / "rejects.jsonl")
    assert [(row["id"], row["language"], row["faults"][0]["reasons"]) for row in rejects] == [
        ("b.png:en:1", "de", ["unknown"]),
        ("b.png:en:1", "sw", ["unknown"]),
    ]
    # What came out can be translated again, from its own language, and shown as JSON.
    again = polylens(
        "translate", folder / "out" / "samples.jsonl", "--from", "de", "--shares", "equal", "--lang", "sw",
        "--engine", "picto", "--out", folder / "again", "--json",
    )  # fmt: skip
    assert json.loads(again.stdout)["sw"]["accepted"] == 2


def test_a_source_by_its_name(folder):
    result = polylens(
        "translate", "picto", "--set", "tasks=[caption]", "--set", "num_concepts=5", "--set", "split=test",
        "--lang", "de", "--engine", "picto", "--out", folder / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "de": {"accepted": 5, "rejected": 0, "unchanged": 0, "unidentified": 0, "reasons": {}}
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("DATA", "--engine", "picto"), "No languages to translate into"),
        (("DATA", "--engine", "picto", "--lang", "ceb"), "Picto has no names in Cebuano"),
        (("DATA", "--engine", "picto", "--lang", "dee"), "did you mean 'de'"),
        (("DATA", "--engine", "google", "--lang", "de"), "No engine 'google'"),
        (("DATA", "--lang", "de"), "No model to translate with"),
        (("DATA", "--lang", "de", "--model", "/none/here"), "No model '/none/here'"),
        (("DATA", "--engine", "picto", "--lang", "de", "--from", "sw"), "sw"),
        (("DATA", "--engine", "picto", "--lang", "de", "--keep", "/none"), "no file '/none'"),
        (("DATA", "--engine", "picto", "--shares", "mc5"), "No shares 'mc5'"),
        (("DATA", "--engine", "picto", "--lang", "de", "--texts", "x"), "does not say what of a task"),
        (("/none.jsonl", "--engine", "picto", "--lang", "de"), "There is no '/none.jsonl'"),
        (("pictos", "--engine", "picto", "--lang", "de"), "There is no source 'pictos'"),
        (("picto", "--set", "split", "--engine", "picto", "--lang", "de"), "must look like key=value"),
        (
            ("picto", "--set", "split=a", "--set", "split=b", "--engine", "picto", "--lang", "de"),
            "split is there twice",
        ),
        (("DATA", "--set", "split=test", "--engine", "picto", "--lang", "de"), "--set split is for a source"),
        (("BAD", "--engine", "picto", "--lang", "de"), "line 2: not valid JSON"),
        (("DATA", "--engine", "picto", "--lang", "de", "--cache", "FILE"), "a file is in its way"),
    ],
)
def test_mistakes_are_one_sentence(folder, words, message):
    (folder / "bad.jsonl").write_text(
        '{"id": "1", "turns": [["", "dog"]], "language": "en", "task": "caption", "source": "s"}\n{"id":\n'
    )
    places = {"DATA": folder / "data", "BAD": folder / "bad.jsonl", "FILE": folder / "bad.jsonl"}
    result = polylens("translate", *(places.get(word, word) for word in words), "--out", folder / "out")
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not (folder / "out" / "samples.jsonl").exists()


def test_plan_languages():
    result = polylens("plan-languages", "--num", "2273005", "--json")
    counts = json.loads(result.stdout)
    assert sum(counts.values()) == 2273005
    assert len(counts) == 96
    assert counts["en"] == 996548
    table = polylens("plan-languages", "--num", "100", "--lang", "de,sw", "--temperature", "1000")
    assert "German" in table.output
    assert "50" in table.output
    assert polylens("plan-languages", "--num", "10", "--lang", "ak").exit_code == 2


def test_prompts_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(engines.BUILT_IN, "backwards", lambda settings: Backwards())
    words = ("translate-prompts", "--lang", "ceb", "--engine", "backwards", "--out", tmp_path / "out")
    result = polylens(*words, "--tasks", "caption,vqa")
    assert result.exit_code == 0, result.output
    assert "Translated prompts" in result.output
    content = json.loads((tmp_path / "out" / "templates.json").read_text())
    assert content["vqa"]["ceb"][0] == ":noitseuQ {question} trohS rewsna ni {own_language}:"
    assert set(content) == {"caption", "vqa"}
    wrong = polylens(*words, "--tasks", "captions")
    assert wrong.exit_code == 2
    assert "no prompts of 'captions'" in wrong.output
