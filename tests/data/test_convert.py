"""One's own data in the formats that people have, to ours and back."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from polylens.cli import app
from polylens.data.captions import read_captions
from polylens.data.readers.jsonl import read_jsonl

CAPTIONS = {
    "a.png": {"de": ["Ein Hund, braun.", "Hund"], "en": ["a dog"]},
    "b.png": {"de": ['Katze \u2028 "x"']},
}
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "caption": "a dog"},
        {"id": 2, "image_id": 2, "caption": "a cat"},
    ],
}
TALK = [
    {
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}],
    }
]


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(data / name)
    return data


def convert(*words):
    return CliRunner().invoke(app, ["convert-data", *map(str, words)])


def found(out):
    return {
        (sample.images[0].path.name, sample.language, sample.turns[0].answer) for sample in read_captions(out)
    }


def test_captions_to_samples_and_back(folder, tmp_path):
    lines = [json.dumps({"image": name, "captions": texts, "year": 2}) for name, texts in CAPTIONS.items()]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    result = convert(folder, "--out", tmp_path / "samples", "--write-split", "0.5")
    assert result.exit_code == 0, result.output
    samples = list(read_jsonl(tmp_path / "samples" / "samples.jsonl"))
    assert len(samples) == 4
    assert samples[0].extra["year"] == 2
    held_out = (tmp_path / "samples" / "held-out.txt").read_text().splitlines()
    assert set(held_out) <= {str(folder / name) for name in CAPTIONS}
    result = convert(tmp_path / "samples" / "samples.jsonl", "--to", "captions", "--out", tmp_path / "back")
    assert result.exit_code == 0, result.output
    assert found(tmp_path / "back") == found(folder)
    assert read_captions(tmp_path / "back")[0].extra == {"year": 2}
    again = convert(folder, "--to", "captions", "--out", folder)
    assert again.exit_code == 2
    assert "there already" in again.output


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "ein Hund"}', {("a.png", "de", "ein Hund")}),
        ("metadata.csv", '\ufefffile_name,text\r\na.png,"Hund, braun"\r\n', {("a.png", "de", "Hund, braun")}),
        (
            "own.csv",
            "image,caption,language\na.png,a dog,en\nb.png,eine Katze,\n",
            {("a.png", "en", "a dog"), ("b.png", "de", "eine Katze")},
        ),
        (
            "own.csv",
            "id,image,caption_en,caption_no\n7,a.png,a dog,en hund\n8,b.png,,katt\n",
            {("a.png", "en", "a dog"), ("a.png", "no", "en hund"), ("b.png", "no", "katt")},
        ),
        ("coco.json", json.dumps(COCO), {("a.png", "de", "a dog"), ("b.png", "de", "a cat")}),
    ],
)
def test_what_people_have(folder, tmp_path, name, text, expected):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    data = folder if name.startswith("metadata") else folder / name
    result = convert(data, "--to", "captions", "--lang", "de", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert found(tmp_path / "out") == expected


def test_conversations_become_samples_only(folder, tmp_path):
    (folder / "talk.json").write_text(json.dumps(TALK))
    assert convert(folder / "talk.json", "--out", tmp_path / "out").exit_code == 0
    (sample,) = read_jsonl(tmp_path / "out" / "samples.jsonl")
    assert (sample.task, sample.turns[0].prompt) == ("instruction", "What?")
    result = convert(folder / "talk.json", "--to", "captions", "--out", tmp_path / "captions")
    assert result.exit_code == 2
    assert "is no caption of one picture" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,caption\na.png,a dog,brown\n", "line 2: 3 columns, and the head has 2"),
        ("a.csv", "image,image\n", "line 1: the columns"),
        ("a.csv", "image,caption\na.png,\n", "line 2: 'caption' is empty"),
        ("a.csv", "image,caption_xxnot\na.png,a\n", "Unknown language 'xxnot'"),
        ("a.csv", "picture,caption\na.png,a\n", "no column 'file_name' or 'image'"),
        ("a.csv", 'image,caption\na.png,"a\n', "no valid CSV"),
        ("a.parquet", "", "none of what can be converted"),
    ],
)
def test_what_is_off_is_named(folder, tmp_path, name, text, message):
    (folder / name).write_text(text)
    result = convert(folder / name, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
