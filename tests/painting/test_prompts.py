"""Prompts out of files: read strictly, drawn one by one, gone on with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.painting.tiny_painters import tiny_painter

from polylens.cli import app
from polylens.errors import UserError
from polylens.painting.folder import save_painter
from polylens.painting.prompts import read_prompts
from polylens.painting.record import read_record
from polylens.painting.scores.run import read_paintings


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_three_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n\n ein Hund \n", encoding="utf-8")
    found = read_prompts(tmp_path / "a.txt", "de")
    assert [(p.id, p.text, p.language) for p in found] == [
        ("000001", "a cat", "de"),
        ("000003", "ein Hund", "de"),
    ]
    rows = [{"prompt": "猫", "language": "zh", "id": "x-1"}, {"prompt": "cat"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert [(p.id, p.language) for p in read_prompts(tmp_path / "a.jsonl")] == [
        ("x-1", "zh"),
        ("000002", "en"),
    ]
    said = {"annotations": [{"id": 37, "image_id": 1, "caption": "A cat. "}, {"id": 40, "caption": "B"}]}
    (tmp_path / "a.json").write_text(json.dumps(said))
    assert [(p.id, p.text) for p in read_prompts(tmp_path / "a.json", limit=1)] == [
        ("000000000037", "A cat.")
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x", "no file of prompts"),
        ("a.txt", "\n", "has no prompt"),
        ("a.jsonl", '{"prompt": "a", "id": "../x"}', "names a file"),
        ("a.jsonl", '{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "twice"),
        ("a.jsonl", '{"text": "a"}', "prompt"),
        ("a.json", '{"images": []}', "annotations"),
    ],
)
def test_what_is_off_is_said(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_prompts(tmp_path / name)


def test_a_file_is_drawn_gone_on_with_and_scored(tmp_path: Path) -> None:
    save_painter(tiny_painter(tmp_path), tmp_path / "painter")
    (tmp_path / "p.txt").write_text("cat\ndog\ncow\n")
    given = ("paint", tmp_path / "painter", "--prompts", tmp_path / "p.txt", "--steps", 2, "--size", "16x16")
    out = tmp_path / "out"
    run(*given, "--out", out)
    files = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert sorted(files) == ["000001.png", "000002.png", "000003.png"]
    assert read_record(out / "000002.png").seed == 1
    (out / "000002.png").unlink()
    (out / "prompts.jsonl").unlink()
    told = CliRunner().invoke(app, [str(word) for word in (*given, "--out", out, "--json")])
    assert json.loads(told.stdout) == {"images": 3, "blocked": 0}
    assert "2 of 3 images are there already" in told.stderr
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == files
    assert [(one.prompt, one.language) for one in read_paintings(out)] == [
        (word, "en") for word in ("cat", "dog", "cow")
    ]
    assert "guidance differ" in run(*given, "--guidance", 3, "--out", out, code=2)
    assert "one image for each prompt" in run(*given, "--n", 2, "--out", tmp_path / "x", code=2)
