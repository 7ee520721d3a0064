"""8 and 4 bits by bitsandbytes, here on its CPU side, with tiny weights: what is quantized and what is not."""

from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import sample, save_language_model, save_released_blip2, save_vision

from polylens.errors import UserError
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.export import text_side
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig
from polylens.models.parts import precision
from polylens.models.parts.lora import apply_lora, merge_lora
from polylens.models.parts.precision import (
    check_device,
    fast_dtype,
    is_quantized,
    loading_settings,
    split_precision,
)

pytest.importorskip(
    "bitsandbytes", reason="bitsandbytes is not installed: pip install 'polylens[quantization]'"
)
SAMPLES = [sample("German:", "Katze", (0,)), sample("x", "Hund", (1,))]


def test_only_the_language_models_inner_layers_are_quantized(tmp_path: Path) -> None:
    folder = save_released_blip2("mt5", tmp_path / "blip2")
    plain = load_model(folder, torch.bfloat16)
    model = load_model(folder, torch.bfloat16, "int8")
    assert is_quantized(model.lm)
    assert not is_quantized(plain)
    for part in (model.vision, model.resampler, model.projector):
        assert {p.dtype for p in part.parameters()} == {torch.bfloat16}
    head, own = model.lm.get_output_embeddings().weight, plain.lm.get_output_embeddings().weight
    assert torch.equal(head, own)
    assert not torch.equal(head, model.lm.get_input_embeddings().weight)
    eight = {n for n, p in model.lm.named_parameters() if p.dtype == torch.int8}
    assert eight == {
        f"{n}.weight"
        for n, m in plain.lm.named_modules()
        # The last of T5's feed-forward layers is one that transformers keeps out, for its large values.
        if isinstance(m, torch.nn.Linear) and n != "lm_head" and not n.endswith(".wo")
    }
    wanted = plain.score(SAMPLES, [["Katze", "Hund"]] * 2)
    found = model.score(SAMPLES, [["Katze", "Hund"]] * 2)
    for ours, exact in zip(found, wanted, strict=True):
        assert ours != exact
        assert ours == pytest.approx(exact, rel=0.1)


def test_adapters_train_over_8_bits_and_are_saved_without_the_base(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = {
        "vision": {"path": str(save_vision("vit", tmp_path / "vision"))},
        "resampler": {"kind": "perceiver", "num_tokens": 2, "width": 16, "depth": 1, "num_heads": 2},
        "language_model": {
            "path": str(save_language_model("llama", tmp_path / "lm")),
            "quantization": "int8",
        },
    }
    model = build_model(ModelConfig.model_validate(config))
    assert is_quantized(model.lm)
    apply_lora(model, "language_model.*", rank=2, dropout=0.0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    batch = model.collator()(SAMPLES)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(5):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with pytest.raises(UserError, match="8 or 4 bits"):
        merge_lora(model)
    save_model(model, tmp_path / "out")
    assert not (tmp_path / "out" / "language_model").exists()
    again = load_model(tmp_path / "out", torch.bfloat16, "int8")
    assert again.config.language_model.quantization == "int8"
    # In full precision the same adapters sit on the exact base, and can be merged.
    exact = load_model(tmp_path / "out")
    merge_lora(exact)
    assert exact.score(SAMPLES, [["Katze"]] * 2)[0] == pytest.approx(
        again.score(SAMPLES, [["Katze"]] * 2)[0], rel=0.1
    )


def test_four_bits_are_packed_two_to_a_byte(tmp_path: Path) -> None:
    folder = save_released_blip2("opt", tmp_path / "blip2")
    model = load_model(folder, torch.bfloat16, "nf4")
    weight = model.lm.model.decoder.layers[0].fc1.weight
    assert weight.dtype == torch.uint8
    assert weight.numel() == 32 * 48 // 2
    with pytest.raises(UserError, match="8 or 4 bits"):
        text_side(model)
    with pytest.raises(UserError, match="8 or 4 bits"):
        save_model(model, tmp_path / "out", standalone=True)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_precision("nf4") == (torch.bfloat16, "nf4")
    assert split_precision("float32") == (torch.float32, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_device("bfloat16")
    with pytest.raises(UserError, match=r"nf4 needs a CUDA GPU.*use bfloat16"):
        check_device("nf4")
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"polylens\[quantization\]"):
        loading_settings(torch.bfloat16, "int8")


@pytest.mark.parametrize(
    ("amx", "avx512", "fast"), [(0, 0, "float32"), (1, 0, "bfloat16"), (0, 1, "bfloat16")]
)
def test_the_fast_type_of_a_cpu_is_what_it_multiplies_natively(monkeypatch, amx, avx512, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    assert fast_dtype("cpu") == getattr(torch, fast)


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_a_trained_language_model_is_not_put_into_bits_from_its_differences(
    bits: str, tmp_path: Path
) -> None:
    model = load_model(save_released_blip2("mt5", tmp_path / "blip2"))
    for name, parameter in model.lm.named_parameters():
        if name.endswith("q.weight"):
            parameter.data = parameter.data + 1
    save_model(model, tmp_path / "trained")
    with pytest.raises(UserError, match=r"was trained itself .* write it in one folder first"):
        load_model(tmp_path / "trained", torch.bfloat16, bits)  # type: ignore[arg-type]
    save_model(model, tmp_path / "whole", standalone=True)
    whole = load_model(tmp_path / "whole", torch.bfloat16, bits)  # type: ignore[arg-type]
    assert is_quantized(whole.lm)
    if bits == "nf4":
        return  # bitsandbytes cannot run layers this small in 4 bits on a CPU.
    exact = model.score(SAMPLES, [["Katze", "Hund"]] * 2)
    for ours, theirs in zip(whole.score(SAMPLES, [["Katze", "Hund"]] * 2), exact, strict=True):
        assert ours == pytest.approx(theirs, rel=0.2)
