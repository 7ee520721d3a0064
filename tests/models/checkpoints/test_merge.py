"""LoRA merged shard by shard gives what PEFT merges in memory."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.models.tiny_models import sample, save_language_model, save_released_blip2, save_vision
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model, load_language_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.checkpoints.merge import merge_checkpoint, merge_folder
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora, has_adapters, merge_lora
from polylens.models.vlm import VisionLanguageModel

SAMPLES = [sample("German:", "Katze", (0,)), sample("x", "Hund", (1,))]


def adapted(model: VisionLanguageModel) -> VisionLanguageModel:
    """The model with adapters that say something: PEFT's begin as zeros."""
    apply_lora(model, "language_model.*", rank=2, dropout=0.0)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    return model.eval()


def built(folder: Path, lm: str) -> VisionLanguageModel:
    config = {
        "vision": {"path": str(save_vision("vit", folder / "vision"))},
        "resampler": {"kind": "perceiver", "num_tokens": 2, "width": 16, "depth": 1, "num_heads": 2},
        "language_model": {"path": str(save_language_model(lm, folder / "lm"))},
    }
    torch.manual_seed(0)
    return adapted(build_model(ModelConfig.model_validate(config)))


def scores(model: VisionLanguageModel) -> torch.Tensor:
    return torch.tensor(model.score(SAMPLES, [["Katze", "Hund"]] * 2))


@pytest.mark.parametrize("lm", ["llama", "mt5", "bloom", "gpt2"])
def test_a_checkpoint_says_the_same_once_merged(lm: str, tmp_path: Path) -> None:
    model = built(tmp_path, lm)
    save_model(model, tmp_path / "run" / "model")
    layers = merge_checkpoint(tmp_path / "run" / "model", tmp_path / "merged", shard_bytes=4000)
    assert layers == sum("lora_A" in name for name, _ in model.named_parameters())
    merged = load_model(tmp_path / "merged")
    assert not has_adapters(merged.language_model)
    assert torch.allclose(scores(merged), scores(model), atol=1e-4)
    assert len(list((tmp_path / "merged" / "language_model").glob("*.safetensors"))) > 3
    merge_lora(model)
    theirs = model.lm.state_dict()
    for file in (tmp_path / "merged" / "language_model").glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            key = name if name in theirs else f"{model.lm.base_model_prefix}.{name}"
            assert torch.allclose(tensor, theirs[key], atol=1e-6), name
    with pytest.raises(UserError, match="carries no LoRA adapter"):
        merge_checkpoint(tmp_path / "merged", tmp_path / "again")


def test_a_released_blip2_with_adapters_beside_it_stays_one(tmp_path: Path) -> None:
    folder = save_released_blip2("mt5", tmp_path / "mblip")
    model = adapted(load_model(folder))
    save_model(model, tmp_path / "model")
    result = CliRunner().invoke(
        app,
        [
            "merge",
            str(folder),
            "--adapter",
            str(tmp_path / "model" / "adapter"),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert torch.allclose(scores(load_model(tmp_path / "out")), scores(model), atol=1e-4)
    # Fine-tuned from it, the checkpoint itself merges too.
    merge_checkpoint(tmp_path / "model", tmp_path / "whole")
    assert torch.allclose(scores(load_model(tmp_path / "whole")), scores(model), atol=1e-4)


def test_no_more_than_a_shard_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(tmp_path, "llama")
    save_model(model, tmp_path / "model")
    merge_folder(tmp_path / "lm", tmp_path / "model" / "adapter", tmp_path / "merged", shard_bytes=6000)
    largest = max(p.nbytes for p in model.lm.parameters())
    for file in (tmp_path / "merged").glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            sizes = [opened.get_tensor(name).nbytes for name in opened.keys()]  # noqa: SIM118
        assert sum(sizes) <= max(6000, largest)
    merged, _ = load_language_model(str(tmp_path / "merged"))
    merge_lora(model)
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(merged.parameters(), model.lm.parameters(), strict=True)
    )


def test_adapters_of_another_model_are_refused(tmp_path: Path) -> None:
    save_model(built(tmp_path, "llama"), tmp_path / "model")
    adapter = tmp_path / "model" / "adapter"
    other = save_language_model("bloom", tmp_path / "other")
    with pytest.raises(UserError, match="The model has no layer"):
        merge_folder(other, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds no LoRA adapter that can be read"):
        merge_folder(tmp_path / "lm", tmp_path / "lm", tmp_path / "out")
    weights = adapter / "adapter_model.safetensors"
    save_file({"base_model.model.lm_head.weight": torch.zeros(2)}, weights)
    with pytest.raises(UserError, match="which is no matrix of LoRA"):
        merge_folder(tmp_path / "lm", adapter, tmp_path / "out")
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(UserError, match="has 'use_dora'"):
        merge_folder(tmp_path / "lm", adapter, tmp_path / "out")
