"""info, export, plan and verify from the command line."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.models.tiny_models import sample, save_language_model, save_released_blip2, save_vision
from typer.testing import CliRunner

from polylens.cli import app
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    """A checkpoint over BLIP-2's image side with adapters that say something."""
    blip2 = save_released_blip2("t5", tmp_path / "blip2")
    lm = save_language_model("mt5", tmp_path / "lm")
    parts = {"vision": {"path": str(blip2)}, "resampler": {"path": str(blip2)}}
    model = build_model(ModelConfig.model_validate(parts | {"language_model": {"path": str(lm)}}))
    apply_lora(model, "language_model.*", rank=2, dropout=0.0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def test_info_and_export_with_adapters_merged(adapted: Path, tmp_path: Path) -> None:
    told = json.loads(run("info", adapted, "--json"))
    assert any("LoRA adapters of rank 2" in note for note in told["notes"])
    run("export", adapted, "--format", "blip2", "--out", tmp_path / "out")
    assert json.loads(run("info", tmp_path / "out", "--json"))["kind"].startswith("BLIP-2")
    asked = [sample("German:", "", (0,))]
    ours = load_model(adapted).generate(asked, max_new_tokens=6)
    assert load_model(tmp_path / "out").generate(asked, max_new_tokens=6) == ours
    assert "not empty" in run("export", adapted, "--format", "blip2", "--out", tmp_path / "out", code=2)
    assert "encoder-decoder" in run("export", adapted, "--format", "llava", "--out", tmp_path / "x", code=2)
    run("export", adapted, "--format", "polylens", "--out", tmp_path / "whole")
    for folder in ("lm", "blip2", "model"):
        shutil.rmtree(tmp_path / folder)
    assert not (tmp_path / "whole" / "adapter").exists()
    assert load_model(tmp_path / "whole").generate(asked, max_new_tokens=6) == ours
    assert "not empty" in run("export", "picto", "--format", "polylens", "--out", tmp_path / "whole", code=2)


def test_plan(tmp_path: Path) -> None:
    recipe = {
        "name": "mine",
        "model": {
            "vision": {"path": str(save_vision("vit", tmp_path / "vision"))},
            "resampler": {"kind": "perceiver", "num_tokens": 2, "width": 16, "depth": 1, "num_heads": 2},
            "language_model": {"path": str(save_language_model("llama", tmp_path / "lm"))},
        },
        "data": {"source": "picto", "split": "train"},
        "stages": [{"name": "only", "table": {"projector.*": 1e-3}, "batch_size": 4, "steps": 36}],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    (stage,) = json.loads(run("plan", tmp_path / "mine.yaml", "--json"))["stages"]
    assert stage["advice"].startswith("fits")
    assert stage["cache_per_picture"] > 0
    shown = run("plan", tmp_path / "mine.yaml", "stages.0.batch_size=8", "--gpu", "1GB")
    assert "peak memory" in shown
    assert "must look like 20+25" in run("plan", tmp_path / "mine.yaml", "--tokens", "20", code=2)
    assert "size of memory" in run("plan", tmp_path / "mine.yaml", "--gpu", "big", code=2)


def test_verify_lists_and_asks_for_what_it_needs() -> None:
    listed = json.loads(run("verify", "--json"))
    assert {"mblip-mt0-xl-xgqa", "viscpm-chat-v1.1-qa90-zh"} <= {check["name"] for check in listed}
    assert "needs --data" in run("verify", "mblip-mt0-xl-xgqa", code=2)
