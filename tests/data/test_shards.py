"""Mixes read, written as shards, killed, and read again."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as parquet_file
import pytest
from PIL import Image

from polylens.data import shards
from polylens.data.mix import WINDOW, Mix, MixPart, part_samples, read_mix
from polylens.data.shards import open_shards
from polylens.data.spec import Part
from polylens.data.unreadable import Unreadable
from polylens.errors import UserError

ROOT = Path(__file__).parents[2]
NUM = 60


@pytest.fixture
def place(tmp_path):
    """JSON Lines of captions, two about each of 30 pictures, and of one text without any."""
    rows = []
    for i in range(NUM):
        name = f"{i // 2}.png"
        if i % 2 == 0:
            Image.new("RGB", (12, 8), (i, 9, 90)).save(tmp_path / name)
        language = ("de", "sw", "fa")[i % 3]
        turns = [["", f"caption {i}\u2028‌"]]
        rows.append(
            {"id": str(i), "images": [name], "turns": turns, "language": language, "extra": {"image": name}}
        )
    rows.append({"id": "text", "images": [], "turns": [["Hi", "Hello"]], "language": "en"})
    with open(tmp_path / "a.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row | {"task": "caption", "source": "own"}, ensure_ascii=False) + "\n")
    return tmp_path


def part(place, **changes):
    return Part.model_validate({"source": "jsonl", "path": place / "a.jsonl", "name": "own"} | changes)


def read(place, *parts, folder=None, policy="error", seed=0, format="tar"):
    return read_mix(parts or [part(place)], seed, policy, folder, format=format)


def content(samples):
    return [
        (s.id, s.turns, s.language, s.task, s.source, s.extra, [p.read() for p in s.images]) for s in samples
    ]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 7)


@pytest.mark.usefixtures("small")
def test_shards_hold_the_samples_in_their_order(place):
    memory = read(place, part(place, build="caption"))
    streamed = read(place, part(place, build="caption"), folder=place / "s")
    assert content(streamed) == content(memory)
    assert streamed.counts() == memory.counts() == Counter((s.language, s.task) for s in memory)
    assert len(list((place / "s" / "own").glob("*.tar"))) == 8
    with tarfile.open(place / "s" / "own" / "00000.tar") as tar:
        assert tar.getnames()[:4] == ["000000.png", "000000.json", "000001.png", "000001.json"]
        assert len(json.load(tar.extractfile("000000.json"))) == 2  # the picture once, for both
    image = streamed[5].images[0]
    assert image.load().getpixel((0, 0)) == (4, 9, 90)
    assert image.key.startswith("sha256:")


@pytest.mark.usefixtures("small")
def test_parquet_holds_what_tars_hold_and_streams_the_same(place):
    two = {
        "id": "two",
        "images": ["0.png", "2.png"],
        "turns": [["Q {x}", "A"], ["Q2", "B"]],
        "language": "en",
    }
    row = two | {"task": "vqa", "source": "own", "extra": {"answers": ["a", None], "n": 1.5}}
    with open(place / "a.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    tars, parquet = (read(place, folder=place / kind, format=kind) for kind in ("tar", "parquet"))
    assert content(parquet) == content(tars) == content(read(place))
    assert (parquet.identity(), parquet.counts()) == (tars.identity(), tars.counts())
    assert [p.key for s in parquet for p in s.images] == [p.key for s in tars for p in s.images]
    orders = [mix.order(8, seed=3) for mix in (tars, parquet)]
    for step in (0, 5, 20):
        one, two = (
            [mix[n].id for n, _ in order.batch(step)]
            for mix, order in zip((tars, parquet), orders, strict=True)
        )
        assert one == two
    assert parquet[5].images[0].load().getpixel((0, 0)) == (4, 9, 90)
    assert len(list((place / "parquet" / "own").glob("*.parquet"))) > 1
    with pytest.raises(UserError, match="made with other settings"):
        read(place, folder=place / "parquet")


@pytest.mark.usefixtures("small")
def test_parquet_shards_are_read_by_others(place):
    read(place, folder=place / "s", format="parquet")
    table = parquet_file.read_table(place / "s" / "own" / "00000.parquet")
    first = table.to_pylist()[0]
    assert [sample["id"] for sample in first["samples"]] == ["0", "1"]
    assert first["samples"][0]["turns"] == [{"prompt": "", "answer": "caption 0\u2028\u200c"}]
    assert Image.open(io.BytesIO(first["images"][0]["bytes"])).size == (12, 8)


@pytest.mark.usefixtures("small")
def test_a_second_reading_writes_nothing(place):
    read(place, folder=place / "s")
    times = {path: path.stat().st_mtime_ns for path in (place / "s").rglob("*") if path.is_file()}
    (place / "a.jsonl").unlink()
    assert len(read(place, folder=place / "s")) == NUM + 1
    assert times == {path: path.stat().st_mtime_ns for path in (place / "s").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="made with other settings"):
        read(place, part(place, languages=["de"]), folder=place / "s")
    with pytest.raises(UserError, match="made with other settings"):
        read(place, folder=place / "s", seed=1)
    assert read(place, part(place, weight=3.0), folder=place / "s").parts[0].weight == 3


@pytest.mark.usefixtures("small")
def test_streams_are_drawn_whole_and_from_few_shards_at_a_time(place, monkeypatch):
    monkeypatch.setattr("polylens.data.mix.WINDOW", 2)
    mix = read(place, folder=place / "s")
    order = mix.order(NUM + 1, 3)
    for step in range(3):
        assert sorted(number for number, _ in order.batch(step)) == list(range(NUM + 1))
    sizes = mix.parts[0].shard_sizes
    owners = [shard for shard, size in enumerate(sizes) for _ in range(size)]
    drawn = [owners[number] for number, _ in order.batch(0)]
    start = 0
    while start < len(drawn):
        window = dict.fromkeys(drawn[start:])
        two = list(window)[:2]
        size = sum(sizes[shard] for shard in two)
        assert set(drawn[start : start + size]) == set(two)
        start += size
    assert WINDOW > 2


CHILD = """
import sys
from pathlib import Path
from polylens.data import shards
from polylens.data.mix import read_mix
from polylens.data.spec import Part
shards.SHARD_SAMPLES = 2
part = Part(source="jsonl", path=Path(sys.argv[1]) / "a.jsonl", name="own")
read_mix([part], 0, "error", Path(sys.argv[2]), format=sys.argv[3])
"""


@pytest.mark.parametrize("format", ["tar", "parquet"])
def test_killed_shards_go_on_where_they_were(place, monkeypatch, format):
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 2)
    read(place, folder=place / "whole", format=format)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place), str(place / "killed"), format], env=environment
    )
    killed = place / "killed" / "own"
    while process.poll() is None and len(list(killed.glob("*.json"))) < 6:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in killed.glob("*.json")}
    assert "00003.json" in before
    read(place, folder=place / "killed", format=format)
    for path in (place / "whole" / "own").iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes()
    assert not [path for path in killed.iterdir() if path.name.startswith(".")]
    assert {name: (killed / name).stat().st_mtime_ns for name in before if name != "begun.json"} == {
        name: time for name, time in before.items() if name != "begun.json"
    }


@pytest.mark.usefixtures("small")
def test_pictures_that_are_missing_or_broken(place, caplog):
    (place / "3.png").unlink()
    (place / "5.png").write_bytes((place / "5.png").read_bytes()[:45])
    with pytest.raises(UserError, match=r"3\.png' does not exist.*Sample '6' of own.*data\.unreadable=skip"):
        read(place)
    with pytest.raises(UserError, match=r"3\.png' does not exist"):
        read(place, folder=place / "s")
    memory = read(place, policy="skip")
    assert len(memory) == NUM + 1 - 2
    assert "left out 2 samples" in caplog.text
    caplog.clear()
    streamed = read(place, folder=place / "t", policy="skip")
    assert len(streamed) == NUM + 1 - 4
    assert "left out 4 samples" in caplog.text
    assert json.loads((place / "t" / "own" / "part.json").read_text())["left_out"] == 4
    assert {"6", "7", "10", "11"}.isdisjoint(s.id for s in streamed)


@pytest.mark.parametrize("format", ["tar", "parquet"])
def test_damaged_shards_are_named(place, format):
    read(place, folder=place / "s", format=format)
    file = place / "s" / "own" / f"00000.{format}"
    file.write_bytes(file.read_bytes()[:3000])
    mix = read(place, folder=place / "s", format=format)
    with pytest.raises(UserError, match=rf"00000\.{format}' is cut short"):
        [sample.images[0].load() for sample in mix]
    file.unlink()
    with pytest.raises(UserError, match=rf"00000\.{format}' cannot be read: No such file"):
        mix[0]
    with pytest.raises(UserError, match="holds no whole shards"):
        open_shards(place / "none")


def test_limits_draw_by_the_seed(place):
    ids = [s.id for s in read(place, part(place, limit=10))]
    assert len(ids) == 10
    assert ids == [s.id for s in read(place, part(place, limit=10, build="caption"))]
    assert ids != [s.id for s in read(place, part(place, limit=10), seed=1)]
    assert ids == [s.id for s in read(place) if s.id in ids]
    more = {s.id for s in read(place, part(place, limit=20))}
    assert set(ids) < more
    assert len(read(place, part(place, limit=1000))) == NUM + 1


def test_languages_have_their_shares_of_a_limit(place):
    (place / "table.json").write_text('{"de": 3, "sw": 1, "fa": 1, "en": 5}')
    changes = {"shares": str(place / "table.json"), "limit": 25}
    counts = Counter(s.language for s in read(place, part(place, **changes)))
    # English has one sample only: the others share what it leaves.
    assert counts == {"en": 1, "de": 14, "sw": 5, "fa": 5}
    flat = Counter(s.language for s in read(place, part(place, **changes, temperature=100)))
    assert flat == {"en": 1, "de": 8, "sw": 8, "fa": 8}
    assert Counter(s.language for s in read(place, part(place, **changes | {"limit": 999}))) == {
        "en": 1,
        "de": 20,
        "sw": 20,
        "fa": 20,
    }


def test_languages_of_sources_that_know_none_are_filtered(place):
    assert {s.language for s in read(place, part(place, languages=["de", "pes_Arab"]))} == {"de", "fa"}
    with pytest.raises(UserError, match="'own' has no samples"):
        read(place, part(place, languages=["zu"]))


def test_a_source_registered_by_a_package_is_a_part():
    samples = list(
        part_samples(
            Part(source="picto", languages=["de"], tasks=["caption"], options={"num_concepts": 3}),
            0,
            Unreadable(),
        )
    )
    assert {s.language for s in samples} == {"de"}
    assert len({s.extra["concept"] for s in samples}) == 3


def test_mistakes_in_parts(place):
    with pytest.raises(UserError, match="no source 'jsnol': the nearest is 'jsonl'"):
        read(place, part(place, source="jsnol"))
    with pytest.raises(UserError, match=r"'jsonl' cannot be read: .*'imags'"):
        read(place, part(place, options={"imags": "x"}))
    with pytest.raises(UserError, match=r"'coco' cannot be read: missing .*'images'"):
        read(place, part(place, source="coco"))


def test_what_a_mix_is_tells_it_from_another(place):
    one, two = read(place), read(place, folder=place / "s")
    assert one.identity() == read(place).identity()
    assert two.identity() == read(place, folder=place / "s").identity()
    assert one.identity() != read(place, part(place, limit=50)).identity()
    shuffled = list(one)
    random.Random(0).shuffle(shuffled)
    assert Mix([MixPart("own", shuffled)]).identity() != one.identity()
