"""Captions balanced by noun phrases."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polylens.cli import app
from polylens.data.phrases import balance_file, balanced_rows, noun_phrases
from polylens.data.readers.capfilt import read_capfilt
from polylens.errors import UserError

pytest.importorskip("HanTa", reason="the extra 'phrases' is not installed")


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A brown dog running on the green grass", ["brown dog", "green grass"]),
        ("the two men in red shirts are playing tennis", ["two men", "red shirts", "tennis"]),
        ("Dog, dog and DOG.", ["dog"]),
        ("it is very big", []),
        ("", []),
        ("!!", []),
    ],
)
def test_noun_phrases(caption: str, phrases: list[str]) -> None:
    assert noun_phrases(caption) == phrases


def test_common_phrases_are_bounded_and_rare_ones_left_out() -> None:
    captions = ["a dog"] * 50 + ["a cat"] * 12 + ["a zebra"] * 3 + ["a zebra with a dog"] * 2
    kept = balanced_rows(iter(captions))
    counts = Counter(captions[place] for place in kept)
    assert counts["a cat"] == 12
    assert counts["a zebra"] == 0
    assert counts["a dog"] + counts["a zebra with a dog"] == 30
    assert balanced_rows(iter(captions)) == kept
    assert balanced_rows(iter(captions), seed=1) != kept
    assert balanced_rows(iter(captions), workers=2) == kept
    with pytest.raises(UserError, match="bounds are 30 and 10"):
        balanced_rows(iter(captions), 30, 10)


def test_the_command_writes_rows_that_the_reader_takes(tmp_path: Path) -> None:
    rows = [{"caption": f"a dog and thing{i}", "url": f"http://a/{i}.jpg", "more": i} for i in range(40)]
    path = tmp_path / "ccs_synthetic_filtered_large.json"
    path.write_text(json.dumps(rows))
    out = tmp_path / "balanced.json"
    result = CliRunner().invoke(app, ["balance", str(path), "--out", str(out), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "30 of 40 captions" in result.output.replace("\n", " ")
    kept = json.loads(out.read_text())
    assert len(kept) == 30
    assert all(row in rows for row in kept)
    assert len(list(read_capfilt(out, images=tmp_path))) == 30
    with pytest.raises(UserError, match=r"No phrase in .* comes 41 times"):
        balance_file(path, out, 41, 50)
