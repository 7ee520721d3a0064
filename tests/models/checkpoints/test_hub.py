"""Hub ids, from a real local server that speaks the hub's file API: whole, in part, cut off, killed, offline."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.checkpoints.hub_server import Hub, serving

DOWNLOAD = """
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 1 << 14  # what is kept of a broken download; files here are small
from polylens.errors import UserError
from polylens.models.checkpoints.registry import resolve_model
try:
    print(resolve_model(sys.argv[1], part=sys.argv[2] or None, weights=sys.argv[3] == "weights"))
except UserError as error:
    sys.exit(str(error))
"""
MODEL = "someone/mblip-like"
SHARDS = {
    "model-00001-of-00003.safetensors": ["vision_model.a", "query_tokens"],
    "model-00002-of-00003.safetensors": ["qformer.b", "language_model.c"],
    "model-00003-of-00003.safetensors": ["language_model.d", "language_projection.weight"],
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip-2"}')
    (folder / "tokenizer.json").write_text("{}")
    weight_map = {name: file for file, names in SHARDS.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for number, file in enumerate(SHARDS):
        (folder / file).write_bytes(os.urandom(200_000 + number))
    (folder / "pytorch_model.bin").write_bytes(b"the same once more")
    (folder / "flax_model.msgpack").write_bytes(b"and again")
    with serving(Hub({MODEL: folder}, gated={"someone/gated"})) as served:
        yield served


def start(
    hub: Hub, tmp_path: Path, name: str = MODEL, part: str = "", weights: bool = True, **env: str
) -> subprocess.Popen[str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE"))}
    given |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1"}
    given |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", DOWNLOAD, name, part, "weights" if weights else "none"],
        env=given | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def download(hub: Hub, tmp_path: Path, *args: object, **env: object) -> Path:
    out, errors = (process := start(hub, tmp_path, *args, **env)).communicate(timeout=120)  # type: ignore[arg-type]
    assert process.returncode == 0, errors
    return Path(out.strip().splitlines()[-1])


def failure(hub: Hub, tmp_path: Path, *args: object, **env: object) -> str:
    _, errors = (process := start(hub, tmp_path, *args, **env)).communicate(timeout=120)  # type: ignore[arg-type]
    assert process.returncode == 1
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_once_and_in_one_format_only(hub: Hub, tmp_path: Path) -> None:
    folder = download(hub, tmp_path)
    assert names(folder) == {"config.json", "tokenizer.json", "model.safetensors.index.json", *SHARDS}
    for file in SHARDS:
        assert (folder / file).read_bytes() == (hub.repositories[MODEL] / file).read_bytes()
        assert hub.gets(file) == [0]
    assert download(hub, tmp_path) == folder
    assert all(hub.gets(file) == [0] for file in SHARDS)
    assert download(hub, tmp_path, HF_HUB_OFFLINE="1") == folder


@pytest.mark.parametrize(
    ("part", "shards"),
    [("vision", [0]), ("resampler", [0, 1]), ("projector", [2]), ("language_model", [1, 2])],
)
def test_of_a_part_only_its_shards_are_fetched(
    part: str, shards: list[int], hub: Hub, tmp_path: Path
) -> None:
    folder = download(hub, tmp_path, MODEL, part)
    assert names(folder) & set(SHARDS) == {list(SHARDS)[number] for number in shards}
    assert sorted(names(download(hub, tmp_path, MODEL, "", False)) - names(folder)) == []


def test_a_connection_that_breaks_off_is_taken_up_where_it_was(hub: Hub, tmp_path: Path) -> None:
    file = list(SHARDS)[1]
    hub.cut[file] = 2
    folder = download(hub, tmp_path)
    assert (folder / file).read_bytes() == (hub.repositories[MODEL] / file).read_bytes()
    assert hub.gets(file)[0] == 0
    assert all(first > 0 for first in hub.gets(file)[1:])
    assert len(hub.gets(file)) == 3


def test_a_killed_download_keeps_the_files_that_had_arrived(hub: Hub, tmp_path: Path) -> None:
    *before, file = SHARDS
    hub.stall = file
    process = start(hub, tmp_path)
    assert hub.stalled.wait(60)
    for _ in range(600):  # until the others have reached the disk
        if {path.name for path in (tmp_path / "home").rglob("*.safetensors")} == set(before):
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
    hub.stall = None
    error = failure(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "Only a part of 'someone/mblip-like' has been downloaded" in error
    assert "HF_HUB_OFFLINE" in error
    folder = download(hub, tmp_path)
    assert (folder / file).read_bytes() == (hub.repositories[MODEL] / file).read_bytes()
    assert [hub.gets(name) for name in before] == [[0], [0]]
    assert len(hub.gets(file)) == 2


def test_what_cannot_be_had_is_said(hub: Hub, tmp_path: Path) -> None:
    assert "has no such model" in failure(hub, tmp_path, "someone/nothing")
    gated = failure(hub, tmp_path, "someone/gated")
    assert "is gated" in gated
    assert f"{hub.endpoint}/someone/gated" in gated
    offline = failure(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "has not been downloaded before" in offline
    assert "HF_HUB_OFFLINE" in offline
    unreachable = failure(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in unreachable
    assert "neither a folder nor a hub id" in failure(hub, tmp_path, "someone/..bad")


def test_a_revision_is_fetched_by_its_name(hub: Hub, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text('{"model_type": "blip-2", "of": "the old version"}')
    (old / "model.safetensors").write_bytes(b"old weights")
    hub.repositories[f"{MODEL}@v1-arxiv"] = old
    folder = download(hub, tmp_path, f"{MODEL}@v1-arxiv")
    assert (folder / "model.safetensors").read_bytes() == b"old weights"
    assert "old version" in (folder / "config.json").read_text()
    assert "old version" not in (download(hub, tmp_path) / "config.json").read_text()
    assert "has no revision 'v9'" in failure(hub, tmp_path, f"{MODEL}@v9")
    assert "names no revision after the '@'" in failure(hub, tmp_path, f"{MODEL}@")
