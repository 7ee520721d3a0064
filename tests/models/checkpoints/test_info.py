"""What a model is, from configs and headers: the sizes are those of the loaded model, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.models.tiny_models import save_language_model, save_released_blip2, save_vision
from torch import nn

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.checkpoints.info import describe
from polylens.models.checkpoints.inventory import read_headers
from polylens.models.checkpoints.skeleton import KNOWN, language_model_skeleton
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora
from polylens.models.parts.precision import split_precision

BILLIONS = {
    "Salesforce/blip2-flan-t5-xl": 2.85,
    "bigscience/mt0-xl": 3.74,
    "bigscience/bloomz-7b1": 7.07,
    "Qwen/Qwen3-1.7B": 1.72,
    "Qwen/Qwen3-4B-Instruct-2507": 4.02,
    "google/gemma-3-1b-it": 1.00,
    "CohereLabs/aya-expanse-8b": 8.03,
}


def held(module: nn.Module) -> int:
    """The bytes that a loaded module really holds, shared ones once, with the scales of quantized weights."""
    tensors = [*module.parameters(), *module.buffers()]
    for child in module.modules():
        weight = getattr(child, "weight", None)
        state = getattr(weight, "quant_state", None)
        if type(child).__name__ == "Linear8bitLt":
            tensors.append(weight.SCB if weight.SCB is not None else child.state.SCB)
        elif state is not None:
            tensors += [state.absmax, state.code]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("lm", ["mt5", "opt", "bloom"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "nf4"])
def test_memory_is_what_the_loaded_model_holds(lm: str, precision: Any, tmp_path: Path) -> None:
    if precision in ("int8", "nf4"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    folder = save_released_blip2(lm, tmp_path / "blip2")
    told = describe(folder).memory[precision]
    model = load_model(folder, *split_precision(precision))
    for part in ("vision", "resampler", "projector", "language_model"):
        # Buffers are as the class makes them; a loaded one may hold a few bytes more or less of them.
        assert told[part] == pytest.approx(held(getattr(model, part)), abs=600 if part == "vision" else 0), (
            part
        )


def test_a_released_folder_is_told_without_reading_its_weights(tmp_path: Path) -> None:
    folder = save_released_blip2("mt5", tmp_path / "blip2")
    found = describe(folder)
    assert found.kind == "BLIP-2 (mBLIP) over mt5, encoder-decoder"
    assert any("no image token" in note for note in found.notes)
    assert any("apart from the embeddings" in note for note in found.notes)
    sizes = {part.name: part.size_on_disk for part in found.parts}
    model = load_model(folder)
    assert sizes["vision"] == sum(p.nbytes for p in model.vision.parameters())
    assert sizes["projector"] == sum(p.nbytes for p in model.projector.parameters())
    assert {part.name: part.parameters for part in found.parts} == {
        part: sum(p.numel() for p in getattr(model, part).parameters()) for part in sizes
    }
    # With the numbers themselves gone, the headers still tell all of it.
    for file in folder.glob("*.bin"):
        content = torch.load(file)
        torch.save({name: torch.zeros_like(tensor) for name, tensor in content.items()}, file)
    assert describe(folder) == found


@pytest.mark.parametrize("lm", ["llama", "t5"])
def test_a_checkpoint_with_adapters(lm: str, tmp_path: Path) -> None:
    config = {
        "vision": {"path": str(save_vision("vit", tmp_path / "vision"))},
        "resampler": {"kind": "qformer", "num_tokens": 3, "width": 16, "depth": 2, "num_heads": 2},
        "language_model": {"path": str(save_language_model(lm, tmp_path / "lm"))},
    }
    model = build_model(ModelConfig.model_validate(config))
    apply_lora(model, "language_model.*", rank=2)
    save_model(model, tmp_path / "out")
    found = describe(tmp_path / "out")
    assert found.kind.startswith("Polylens checkpoint: qformer over ")
    assert any("LoRA adapters of rank 2" in note for note in found.notes)
    plain = build_model(ModelConfig.model_validate(config))
    assert {part.name: part.parameters for part in found.parts} == {
        part: sum(p.numel() for p in getattr(plain, part).parameters())
        for part in ("vision", "resampler", "projector", "language_model")
    }
    assert json.dumps(found.to_dict())


def test_language_models_viscpm_files_and_others(tmp_path: Path) -> None:
    found = describe(save_language_model("llama", tmp_path / "lm"))
    assert found.kind == "decoder language model (llama)"
    assert found.memory["float32"]["language_model"] > found.memory["int8"]["language_model"]
    chat = {"vpm.beit3.x": torch.zeros(2, 3), "query": torch.zeros(4), "mapping.0.weight": torch.zeros(2)}
    save_file(chat | {"llm.encoder.y": torch.zeros(5, dtype=torch.float16)}, tmp_path / "vlu.safetensors")
    found = describe(tmp_path / "vlu.safetensors")
    assert found.kind == "VisCPM-Chat"
    assert {p.name: p.parameters for p in found.parts} == {
        "vision": 6,
        "resampler": 4,
        "projector": 2,
        "language_model": 5,
    }
    torch.save(
        {"state_dict": {"trans_block.0.weight": torch.zeros(3), "unet.a": torch.zeros(7)}}, tmp_path / "p.pt"
    )
    assert describe(tmp_path / "p.pt").kind == "VisCPM-Paint"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model folder"):
        describe(tmp_path / "empty")
    (tmp_path / "vlu.safetensors").write_bytes(b"\x08")
    with pytest.raises(UserError, match="cannot be read"):
        read_headers(tmp_path / "vlu.safetensors")


def test_known_sizes_are_the_published_ones() -> None:
    for name, billions in BILLIONS.items():
        lm = language_model_skeleton(KNOWN[name])
        assert sum(p.numel() for p in lm.parameters()) / 1e9 == pytest.approx(billions, abs=0.005), name
    head = language_model_skeleton(KNOWN["bigscience/mt0-xl"])
    assert head.get_output_embeddings().weight is not head.get_input_embeddings().weight
