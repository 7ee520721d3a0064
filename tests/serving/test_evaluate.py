"""`polylens evaluate` over HTTP gives the scores of the model itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models.tiny_models import NoisePicture
from tests.serving.processes import SECONDS, Serving

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("openai", reason="the extra 'endpoint' is not installed")


def test_an_endpoint_has_the_scores_of_its_model(server: Serving, model_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for number in range(3):
        NoisePicture(number).load().save(data / "images" / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": {"en": ["a colour"], "de": ["eine Farbe"]}})
    (data / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def scores(model: str, out: str) -> tuple[Any, list[str]]:
        command = [
            sys.executable,
            "-m",
            "polylens",
            "evaluate",
            model,
            "--data",
            str(data),
            "--protocol",
            "mblip",
            "--num-beams",
            "1",
            "--max-new-tokens",
        ]
        env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [*command, "8", "--out", str(tmp_path / out), "--json"],
            capture_output=True, text=True, timeout=SECONDS, env=env, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / out / "predictions.jsonl").read_text("utf-8").splitlines()
        answers = sorted(line for line in lines if '"prediction"' in line or '"answer"' in line)
        return json.loads(done.stdout)["languages"], answers

    own = scores(str(model_folder), "own")
    served = scores(f"{server.url}/v1#{model_folder}", "served")
    assert served == own
