"""`polylens download` and `polylens mix` as a user calls them; `neighbours` is in tests/data."""

import json

import pytest
from PIL import Image
from tests.data.test_download import Server
from typer.testing import CliRunner

from polylens.cli import app


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def data(tmp_path):
    """A recipe's data: four captions of two pictures, one of which is missing."""
    Image.new("RGB", (9, 9), (1, 2, 3)).save(tmp_path / "0.png")
    with open(tmp_path / "a.jsonl", "w", encoding="utf-8") as file:
        for i in range(4):
            row = {"id": f"{i}", "images": [f"{i // 2}.png"], "turns": [["", f"c{i}"]], "language": "de"}
            file.write(json.dumps(row | {"task": "caption", "source": "own"}) + "\n")
    part = {"name": "own", "source": "jsonl", "path": str(tmp_path / "a.jsonl"), "build": "caption"}
    (tmp_path / "r.yaml").write_text(json.dumps({"data": {"mix": [part]}}))
    return tmp_path


def test_mix(data):
    code, said = run("mix", data / "r.yaml", "--out", data / "shards")
    assert code == 2
    assert "1.png' does not exist" in said
    code, said = run("mix", data / "r.yaml", "data.unreadable=skip", "--out", data / "shards")
    assert (code, "2 samples of own in" in said) == (0, True)
    assert (data / "shards" / "own" / "00000.tar").exists()
    code, said = run("mix", data / "r.yaml", "data.unreadable=skip", "--jsonl", data / "rows")
    assert (code, "2 samples in" in said) == (0, True)
    rows = [json.loads(line) for line in (data / "rows" / "own.jsonl").read_text().splitlines()]
    assert [row["turns"][0][1] for row in rows] == ["c0", "c1"]
    assert all("German" in row["turns"][0][0] for row in rows)
    code, said = run("mix", data / "r.yaml")
    assert (code, "Give --out FOLDER" in said) == (2, True)
    code, said = run("mix", "picto-paint", "--out", data / "x")
    assert (code, "has no mix" in said) == (2, True)


def test_download(tmp_path):
    server = Server()
    try:
        (tmp_path / "list.txt").write_text("\n".join(server.url(path) for path in ("ok/1", "ok/2", "gone/1")))
        arguments = ("download", tmp_path / "list.txt", "--out", tmp_path / "out", "--delay", 0)
        code, said = run(*arguments)
        assert code == 0
        assert "2 of 3 pictures are in" in said
        assert "1 status 404" in said
        code, said = run(*arguments, "--json", "--limit", 2)
        assert code == 0
        assert json.loads(said[said.index("{") :])["urls"] == 2
        assert sum(server.asked.values()) == 3
    finally:
        server.shutdown()
        server.server_close()
    code, said = run("download", tmp_path / "none.json", "--out", tmp_path / "out")
    assert (code, "There is no file" in said) == (2, True)
