"""UniMM-Chat and M3IT as published: read strictly, their pictures found again."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from polylens.data.sample import Turn
from polylens.data.sources import find_source
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra for Parquet")
from pyarrow import parquet  # noqa: E402 (after the skip)


def png(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(content, "PNG")
    return content.getvalue()


def dialogue(*texts: str) -> str:
    return json.dumps([{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)])


def write_unimm(path: Path, *conversations: str) -> None:
    colours = ("red", "blue")
    rows = [
        {"image": {"bytes": png(colours[i]), "path": None}, "conversation": said, "idx": i, "ds_name": "u"}
        for i, said in enumerate(conversations)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)


def test_unimm_chat(tmp_path: Path) -> None:
    write_unimm(tmp_path / "a.parquet", dialogue("<image>\nwhat?", "red", "sure?", "yes"), dialogue("q", "a"))
    one, other = find_source("unimm-chat")(path=tmp_path)
    assert [(turn.prompt, turn.answer) for turn in one.turns] == [("what?", "red"), ("sure?", "yes")]
    assert [sample.images[0].load().getpixel((0, 0)) for sample in (one, other)] == [(255, 0, 0), (0, 0, 255)]
    assert one.images[0].key != other.images[0].key
    assert (one.id, one.task, one.language) == ("a-1", "instruction", "en")
    write_unimm(tmp_path / "a.parquet", dialogue("q", "a", "q"), dialogue("<image>what?", "an <image>"))
    skipped = Unreadable("skip")
    [kept] = find_source("unimm-chat")(path=tmp_path, unreadable=skipped)
    assert (kept.id, kept.turns, skipped.count) == ("a-2", (Turn("what?", "an <image>"),), 1)
    with pytest.raises(UserError, match="row 1: its turns do not go"):
        list(find_source("unimm-chat")(path=tmp_path / "a.parquet"))
    write_unimm(tmp_path / "a.parquet", dialogue("q", "a", "<image> and this?", "b"))
    with pytest.raises(UserError, match="row 1: question 2 has a mark"):
        list(find_source("unimm-chat")(path=tmp_path))
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "x"}]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column 'conversation'"):
        list(find_source("unimm-chat")(path=tmp_path))
    with pytest.raises(UserError, match="check the path"):
        list(find_source("unimm-chat")(path=tmp_path / "none"))


def test_m3it_in_both_forms(tmp_path: Path) -> None:
    both = [base64.b64encode(png(colour)).decode() for colour in ("red", "blue")]
    rows = [
        {"instruction": "Say.", "inputs": "what?", "outputs": "red", "image_base64_str": both},
        {"instruction": "Say.", "inputs": "", "outputs": "blue", "image_base64_str": both[1:]},
    ]
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    one, other = find_source("m3it")(path=tmp_path, language="zh")
    assert [(s.turns[0].prompt, s.turns[0].answer, s.language) for s in (one, other)] == [
        ("Say.\nwhat?", "red", "zh"),
        ("Say.", "blue", "zh"),
    ]
    assert [picture.load().getpixel((0, 0)) for picture in (*one.images, *other.images)] == [
        (255, 0, 0),
        (0, 0, 255),
        (0, 0, 255),
    ]
    stored = [{**row, "image": {"bytes": png("red")}} for row in rows]
    for row in stored:
        del row["image_base64_str"]
    parquet.write_table(pyarrow.Table.from_pylist(stored), tmp_path / "t.parquet")
    first, _ = find_source("m3it")(path=tmp_path / "t.parquet")
    assert first.turns == one.turns
    assert first.images[0].load().getpixel((0, 0)) == (255, 0, 0)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert [len(sample.images) for sample in find_source("m3it")(path=tmp_path / "t.parquet")] == [2, 1]
    file.write_text(json.dumps({**rows[0], "outputs": " "}))
    with pytest.raises(UserError, match="line 1: its instruction or its output is empty"):
        list(find_source("m3it")(path=file))
    skipped = Unreadable("skip")
    assert list(find_source("m3it")(path=file, unreadable=skipped)) == []
    assert skipped.count == 1
    file.write_text('{"instruction": "x"}')
    with pytest.raises(UserError, match="no row of M3IT"):
        list(find_source("m3it")(path=file))
