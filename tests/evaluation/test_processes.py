"""Evaluation by two processes: the same files as by one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.models.tiny_models import sample, save_language_model, save_vision, tiny_vlm
from typer.testing import CliRunner

from polylens.cli import app
from polylens.evaluation.processes import shares_of
from polylens.models.checkpoints.folder import save_model

# What `accelerate launch` runs for GPUs; on CPUs it would want MPI.
LAUNCH = [
    "-m",
    "torch.distributed.run",
    "--nproc-per-node",
    "2",
    "--rdzv-endpoint",
    "localhost:0",
    "--rdzv-backend",
    "c10d",
]


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_shares_are_whole_pictures(pictures: list[int], count: int) -> None:
    samples = [sample("", pictures=(seed,), name=str(at)) for at, seed in enumerate(sorted(pictures))]
    shares = shares_of(samples, count)
    assert sorted(place for share in shares for place in share) == list(range(len(samples)))
    homes: dict[str, set[int]] = {}
    for number, share in enumerate(shares):
        assert share == sorted(share)
        for place in share:
            homes.setdefault(samples[place].images[0].key, set()).add(number)
    assert all(len(home) == 1 for home in homes.values())


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    rows = []
    for number in range(5):
        Image.new("RGB", (32, 32), (40 * number, 90, 10)).save(tmp_path / "data" / "images" / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": {"en": ["a colour"], "de": ["eine Farbe"]}})
    (tmp_path / "data" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_vision("vit", tmp_path / "vision")
    save_language_model("llama", tmp_path / "lm")
    save_model(tiny_vlm(), tmp_path / "model")

    def arguments(out: str) -> list[str]:
        given = [
            "evaluate",
            str(tmp_path / "model"),
            "--data",
            str(tmp_path / "data"),
            "--max-new-tokens",
            "4",
        ]
        return [*given, "--out", str(tmp_path / out)]

    def results(out: str) -> dict[str, Any]:
        return json.loads((tmp_path / out / "results.json").read_text(encoding="utf-8"))

    def lines(out: str, name: str) -> list[str]:
        return (tmp_path / out / name).read_text(encoding="utf-8").splitlines()

    assert CliRunner().invoke(app, arguments("one")).exit_code == 0
    # Two go on where one was stopped: a header and three answers are there.
    begun = lines("one", "predictions.jsonl")[:4]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "predictions.jsonl").write_text(
        "".join(f"{line}\n" for line in begun), encoding="utf-8"
    )
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(Path(__file__).parent / "as_one_of_two.py"), *arguments("two")],
        capture_output=True, text=True, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The report is") == 1
    alone, together = results("one"), results("two")
    for key in ("languages", "settings", "notes", "n"):
        assert together[key] == alone[key], key
    assert lines("two", "predictions.jsonl")[:4] == begun
    assert sorted(lines("two", "predictions.jsonl")) == sorted(lines("one", "predictions.jsonl"))
    assert lines("two", "items.jsonl") == lines("one", "items.jsonl")
    assert (len(begun), len(lines("two", "predictions.jsonl"))) == (4, 11)
