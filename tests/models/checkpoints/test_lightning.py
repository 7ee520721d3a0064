"""Checkpoints of mBLIP's own training program: a Lightning file and an adapter's folder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import sample, save_language_model, save_released_blip2
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model
from polylens.models.checkpoints.lightning import read_lightning
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora, has_adapters, save_adapters
from polylens.models.vlm import VisionLanguageModel

SAMPLES = [sample("German:", "Katze", (0,)), sample("x", "Hund", (1,))]


class Callback:
    """An object of the training program, which this program does not have: unpickling must not run it."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_run, ("x",))


def _run(text: str) -> str:
    Callback.ran = True
    return text


def run(folder: Path) -> tuple[VisionLanguageModel, list[str]]:
    """A tiny run: its model, and the options that say where its parts are; 1.ckpt and 1/ lie in the folder."""
    Callback.ran = False
    blip2 = save_released_blip2("t5", folder / "blip2")
    lm = save_language_model("mt5", folder / "lm")
    parts = {"path": str(blip2)}
    model = build_model(
        ModelConfig.model_validate({"vision": parts, "resampler": parts, "language_model": {"path": str(lm)}})
    )
    apply_lora(model, "language_model.*", rank=2, dropout=0.0)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name or not name.startswith(("vision", "language_model")):
            parameter.data = parameter.data + 0.3 * torch.randn_like(parameter)
    state = {f"model.model.qformer.{n}": t for n, t in model.resampler.model.state_dict().items()}
    state |= {f"model.model.language_projection.{n}": t for n, t in model.projector.state_dict().items()}
    state["model.model.query_tokens"] = model.resampler.query_tokens.detach()
    content = {
        "state_dict": state,
        "epoch": 1,
        "hyper_parameters": Callback(),
        "callbacks": {"a": Callback()},
    }
    torch.save(content, folder / "1.ckpt")
    save_adapters(model.language_model, folder / "1", str(lm))
    # As PEFT saved it then.
    safe = folder / "1" / "adapter_model.safetensors"
    torch.save(load_file(safe), folder / "1" / "adapter_model.bin")
    safe.unlink()
    return model.eval(), ["--blip2", str(blip2), "--language-model", str(lm)]


def test_a_run_becomes_a_checkpoint_that_answers_as_it_did(tmp_path: Path) -> None:
    model, parts = run(tmp_path)
    command = ["convert-mblip", str(tmp_path / "1.ckpt"), "--adapter", str(tmp_path / "1"), *parts]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    converted = load_model(tmp_path / "out")
    assert has_adapters(converted.language_model)
    candidates = [["Katze", "Hund"]] * 2
    assert torch.allclose(
        torch.tensor(converted.score(SAMPLES, candidates)),
        torch.tensor(model.score(SAMPLES, candidates)),
        atol=1e-4,
    )
    # Nothing in the file ran.
    assert not Callback.ran


def test_a_warm_up_has_the_projection_alone(tmp_path: Path) -> None:
    model, parts = run(tmp_path)
    state = torch.load(tmp_path / "1.ckpt", weights_only=False)["state_dict"]
    torch.save({k: v for k, v in state.items() if "projection" in k}, tmp_path / "warm.ckpt")
    out = str(tmp_path / "out")
    result = CliRunner().invoke(app, ["convert-mblip", str(tmp_path / "warm.ckpt"), *parts, "--out", out])
    assert result.exit_code == 0, result.output
    converted = load_model(out)
    assert torch.equal(converted.projector.weight, model.projector.weight)
    assert not torch.equal(converted.resampler.query_tokens, model.resampler.query_tokens)
    assert not has_adapters(converted.language_model)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"model.model.head.weight": torch.zeros(1)}, "which mBLIP has no part for"),
        ({"model.model.vision_model.x": torch.zeros(1)}, "holds no projection and no Q-Former"),
        ({"model.model.vision_model.x.lora_A.weight": torch.zeros(1)}, "holds adapters itself"),
        (b"nothing", "cannot be read as a Lightning checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, state: object, message: str) -> None:
    path = tmp_path / "x.ckpt"
    if isinstance(state, bytes):
        path.write_bytes(state)
    else:
        torch.save({"state_dict": state}, path)
    with pytest.raises(UserError, match=message):
        read_lightning(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_lightning(tmp_path / "none.ckpt")


def test_parts_of_another_run_do_not_fit(tmp_path: Path) -> None:
    _, parts = run(tmp_path)
    torch.save({"language_projection.weight": torch.zeros(3, 3)}, tmp_path / "x.ckpt")
    result = CliRunner().invoke(
        app, ["convert-mblip", str(tmp_path / "x.ckpt"), *parts, "--out", str(tmp_path / "o")]
    )
    assert result.exit_code == 2
    assert "The projection in" in result.output
    assert "name the parts of that run" in result.output
