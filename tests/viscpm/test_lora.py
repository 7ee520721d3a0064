"""LoRA on VisCPM-Chat: trained, gone on with, kept beside its base, merged; over 8 and 4 bits too."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import NoisePicture
from tests.viscpm.tiny import ask, tiny_chat
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.info import describe
from polylens.models.checkpoints.load import load_any
from polylens.models.parts.lora import apply_lora, has_adapters
from polylens.models.parts.precision import is_quantized
from polylens.recipe import Recipe
from polylens.training.run import train
from polylens.viscpm.files import save_folder
from polylens.viscpm.trained import save_trained

LORA = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.0}, "learning_rate": 1e-2}
ASKED = [ask(("Where is the cat?", ""), pictures=(0,))]
CANDIDATES = [["a cat", "cc"]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny VisCPM-Chat, as wide as a block of 4-bit weights, and pictures with captions beside it."""
    start = tiny_chat(width=64)
    for number in range(4):
        NoisePicture(number).load().save(tmp_path / f"{number}.png")
    rows = [f'{{"image": "{n}.png", "captions": {{"en": ["{"cat" * (n + 1)}"]}}}}' for n in range(4)]
    (tmp_path / "captions.jsonl").write_text("\n".join(rows) + "\n")
    return save_folder(start.model, start.tokenizer, tmp_path / "base")


def recipe(base: Path, table: dict[str, Any], steps: int = 6, **more: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"start": str(base)} | more.pop("model", {}),
            "data": {"source": "captions", "path": str(base.parent)},
            "stages": [{"name": "lora", "table": table, "batch_size": 4, "steps": steps}],
            "checkpoints": {"every": 2, "keep": 9},
        }
        | more
    )


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("pattern", ["model.llm.*", "*"])
def test_adapters_train_and_their_folder_loads_over_its_base(
    pattern: str, base: Path, tmp_path: Path
) -> None:
    folder = train(recipe(base, {pattern: LORA}), out=tmp_path / "out")
    said = losses(tmp_path / "out")
    assert said[-1] < said[0]
    manifest = json.loads((folder / "viscpm.json").read_text())
    assert manifest["base"]["path"] == str(base)
    assert manifest["tensors"] == []
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert not (folder / "model.safetensors").exists()
    model = load_any(folder)
    assert has_adapters(model.model)
    assert model.score(ASKED, CANDIDATES) != load_any(base).score(ASKED, CANDIDATES)
    eyes = [name for name in load_file(folder / "adapter_model.safetensors") if ".vpm." in name]
    assert bool(eyes) == (pattern == "*")
    told = describe(folder)
    assert any("base" in note for note in told.notes)
    # A base that lies beside may move with it; another one is refused.
    save_trained(model, tmp_path / "beside", {})
    (tmp_path / "moved").mkdir()
    shutil.copytree(tmp_path / "beside", tmp_path / "moved" / "beside")
    with pytest.raises(UserError, match="missing"):
        load_any(tmp_path / "moved" / "beside")
    shutil.copytree(base, tmp_path / "moved" / "base")
    moved = load_any(tmp_path / "moved" / "beside")
    assert moved.score(ASKED, CANDIDATES) == model.score(ASKED, CANDIDATES)
    other = tiny_chat(1, width=64)
    save_folder(other.model, other.tokenizer, tmp_path / "moved" / "base")
    with pytest.raises(UserError, match="another base"):
        load_any(tmp_path / "moved" / "beside")


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(base: Path, tmp_path: Path) -> None:
    table = {"model.mapping.*": 1e-3, "model.llm.*": LORA}
    train(recipe(base, table), out=tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for name in ("00-00000004", "00-00000006", "01-00000000"):
        shutil.rmtree(tmp_path / "again" / "checkpoints" / name, ignore_errors=True)
    train(recipe(base, table), out=tmp_path / "again")
    one, other = (tmp_path / name / "model" for name in ("whole", "again"))
    changed = load_file(one / "trained.safetensors")
    assert set(changed) == {f"mapping.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    for name in ("trained.safetensors", "adapter_model.safetensors"):
        before, after = load_file(one / name), load_file(other / name)
        assert all(torch.equal(before[key], after[key]) for key in before)
    model = load_any(one)
    assert torch.equal(model.model.mapping[0].weight, changed["mapping.0.weight"])


def test_export_merges_and_chat_talks(base: Path, tmp_path: Path) -> None:
    folder = train(recipe(base, {"model.llm.*": LORA}), out=tmp_path / "out")
    expected = load_any(folder).score(ASKED, CANDIDATES)
    words = ["export", str(folder), "--format", "polylens", "--out", str(tmp_path / "whole")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    whole = load_any(tmp_path / "whole")
    assert not has_adapters(whole.model)
    assert whole.score(ASKED, CANDIDATES)[0] == pytest.approx(expected[0], rel=1e-4)
    result = CliRunner().invoke(app, ["chat", str(folder), "--max-new-tokens", "3"], input="cat?\n")
    assert result.exit_code == 0, result.output
    # Trained again from there, it still stands on the first base.
    further = train(recipe(base, {"model.llm.*": LORA}, model={"start": str(folder)}), out=tmp_path / "more")
    assert json.loads((further / "viscpm.json").read_text())["base"]["path"] == str(base)
    with pytest.raises(UserError, match="carries LoRA adapters of rank 2"):
        apply_lora(load_any(further), "model.llm.*", rank=3)


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_adapters_train_over_few_bits(bits: str, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    quantized = {"language_model": {"quantization": bits}}
    table = {"model.query": 1e-3, "model.llm.*": LORA}
    folder = train(recipe(base, table, steps=12, model=quantized), out=tmp_path / "out")
    said = losses(tmp_path / "out")
    assert said[-1] < said[0]
    manifest = json.loads((folder / "viscpm.json").read_text())
    assert manifest["tensors"] == ["query"]
    model = load_any(folder, torch.bfloat16, bits)
    assert is_quantized(model.lm)
    plain = load_any(folder)
    assert plain.score(ASKED, CANDIDATES)[0] == pytest.approx(model.score(ASKED, CANDIDATES)[0], rel=0.1)


def test_a_pattern_without_layers_and_a_model_without_files_are_refused(tmp_path: Path) -> None:
    model = tiny_chat()
    with pytest.raises(UserError, match=r"matches no linear layer of the model; 'model.\*' does"):
        model.adapt("language_model.*", rank=2, alpha=4, dropout=0.0)
    model.adapt("model.llm.*project_q*", rank=2, alpha=4, dropout=0.0)
    with pytest.raises(UserError, match="has no base"):
        save_trained(model, tmp_path / "x", {})
