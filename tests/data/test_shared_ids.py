"""Ids are unique across the parts of a mix, and what is not so is refused before any shard is written."""

import json

import pytest
from PIL import Image

from polylens.data.mix import read_mix
from polylens.data.shared_ids import refuse_shared_ids
from polylens.data.spec import Part
from polylens.errors import UserError


def part(tmp_path, name, rows, **more):
    for row in rows:
        Image.new("RGB", (4, 4)).save(tmp_path / row["images"][0])
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Part(name=name, source="jsonl", path=tmp_path / f"{name}.jsonl", **more)


def row(id="1", image="a.png", answer="a cat", **more):
    common = {"language": "en", "task": "caption", "source": "own"}
    return {"id": id, "images": [image], "turns": [["", answer]]} | common | more


@pytest.mark.parametrize("other", [row(image="b.png"), row(answer="a dog")])
def test_one_id_of_two_samples(tmp_path, other):
    parts = [part(tmp_path, "one", [row(), row("2")]), part(tmp_path, "two", [row("3"), other])]
    for shards in (None, tmp_path / "shards"):
        with pytest.raises(UserError, match=r"id '1' of own stands for two samples: .*'one', and .*'two'"):
            read_mix(parts, 0, shards=shards)
    assert not (tmp_path / "shards").exists()


def test_one_sample_in_two_parts(tmp_path):
    one = part(tmp_path, "one", [row(), row("2")], build="caption")
    two = part(tmp_path, "two", [row(), row("2"), row("4", language="de"), row("1", source="other")], limit=2)
    assert len(read_mix([one, two], 0)) == 4
    refuse_shared_ids([one, two])
