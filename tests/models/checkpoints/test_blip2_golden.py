"""BLIP-2 folders saved by transformers 4.31, against what that version computed from them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import NoisePicture
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor

from polylens.batching import chunks
from polylens.data.collate import Batch
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.models.checkpoints.blip2 import load_blip2, save_blip2
from polylens.models.checkpoints.blip2_parts import read_tensors
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig
from polylens.models.decoding.generation import generate_answers
from polylens.models.parts.lora import apply_lora, merge_lora
from polylens.models.vlm import VisionLanguageModel

pytestmark = pytest.mark.golden
NAMES = ("mt5", "t5", "bloom", "opt")
DEFAULT = Path(__file__).parents[4] / "shared" / "golden"


def golden(name: str) -> Path:
    given = os.environ.get("POLYLENS_GOLDEN")
    folder = Path(given or DEFAULT) / "mblip" / name
    if not folder.is_dir():
        if given:
            pytest.fail(f"POLYLENS_GOLDEN is set, but {folder} is missing")
        pytest.skip(f"no golden folder {folder}")
    return folder


def cases(name: str) -> list[dict[str, Any]]:
    found = json.loads((golden(name) / "cases.json").read_text())["cases"]
    assert found
    return found


def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(golden(name) / "tensors.safetensors")


def load(name: str) -> VisionLanguageModel:
    return load_blip2(golden(name) / "checkpoint").eval()


def as_sample(number: int, case: dict[str, Any]) -> Sample:
    pictures = tuple(NoisePicture(i) for i in case["images"])
    return Sample(str(number), pictures, (Turn(case["prompt"], "?"),), "en", "caption", "golden")


def tokens_by_key(model: VisionLanguageModel, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        tokens = model.visual_tokens(model.encode(pixels))
    return {NoisePicture(i).key: row for i, row in enumerate(tokens)}


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def with_answer(model: VisionLanguageModel, batch: Batch, labels: list[int]) -> Batch:
    """The batch, its row followed by (a decoder) or answered with (an encoder-decoder) the golden answer."""
    answer = torch.tensor([labels])
    if model.is_encoder_decoder:
        batch.labels = answer
    else:
        batch.labels = torch.cat([torch.full_like(batch.input_ids, -100), answer], 1)
        batch.input_ids = torch.cat([batch.input_ids, answer], 1)
        batch.attention_mask = torch.cat([batch.attention_mask, torch.ones_like(answer)], 1)
        batch.image_mask = torch.cat([batch.image_mask, torch.zeros_like(answer).bool()], 1)
    batch.num_targets = len(labels)
    return batch


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_states_logits_and_losses(name: str) -> None:
    model, wanted = load(name), tensors(name)
    patches = model.encode(wanted["pixel_values"])
    assert_near(patches, wanted["vision"])
    assert_near(model.visual_tokens(patches), wanted["projected"])
    tokens = tokens_by_key(model, wanted["pixel_values"])
    for i, case in enumerate(cases(name)):
        batch = model.visual_batch([as_sample(i, case)], tokens)
        assert batch.input_ids[~batch.image_mask].tolist() == case["input_ids"]
        batch = with_answer(model, batch, case["labels"])
        answer_logits = wanted[f"logits.{i}" if model.is_encoder_decoder else f"answer_logits.{i}"]
        assert_near(model(batch), answer_logits[0])
        assert model.loss(batch).item() == pytest.approx(case["loss"], rel=1e-5)
        if not model.is_encoder_decoder:
            prompt = model.visual_batch([as_sample(i, case)], tokens)
            inputs = {"inputs_embeds": model.embed(prompt), "attention_mask": prompt.attention_mask}
            assert_near(
                model.lm(**inputs, **model.positions(prompt.attention_mask)).logits, wanted[f"logits.{i}"]
            )
    print(f"{name}: {len(cases(name))} cases")


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_decoding(name: str) -> None:
    model, found = load(name), cases(name)
    tokens = tokens_by_key(model, tensors(name)["pixel_values"])
    samples = [as_sample(i, case) for i, case in enumerate(found)]
    decodings = [key for key, value in found[0].items() if isinstance(value, dict) and "ids" in value]
    assert len(decodings) == 4
    for decoding in decodings:
        setting = {k: v for k, v in found[0][decoding].items() if k not in ("ids", "text")}
        penalty = setting.pop("repetition_penalty", 1.0)
        setting.setdefault("length_penalty", 1.0)
        skip = 0 if model.is_encoder_decoder else 1  # the begin token that 4.31 puts in front
        wanted = [case[decoding]["ids"][skip:] for case in found]
        for batch_size in (1, len(samples)):
            with torch.no_grad():
                batches = [model.visual_batch(some, tokens) for some in chunks(samples, batch_size)]
                assert generate_answers(model, batches, penalty, dict(setting)) == wanted
        texts = model.generate(samples, visual=tokens, repetition_penalty=penalty, **setting)
        assert texts == [case[decoding]["text"].strip() for case in found]
    print(f"{name}: {len(decodings) * len(found)} decodings, one by one and batched")


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_exported_folders_run_in_plain_transformers(name: str, tmp_path: Path) -> None:
    model, pixels = load(name), tensors(name)["pixel_values"]
    save_blip2(model, tmp_path / "out")
    plain = Blip2ForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    processor = Blip2Processor.from_pretrained(tmp_path / "out")
    assert processor.num_query_tokens == model.num_image_tokens
    image_token = plain.config.image_token_id
    assert tokenizer.convert_tokens_to_ids("<image>") == image_token
    tokens = tokens_by_key(model, pixels)
    single = [(i, case) for i, case in enumerate(cases(name)) if len(case["images"]) == 1]
    for i, case in single:
        ids = torch.tensor([[image_token] * model.num_image_tokens + case["input_ids"]])
        for setting in ({"num_beams": 1}, {"num_beams": 3, "length_penalty": -1.0}):
            found = plain.generate(
                pixel_values=pixels[case["images"]],
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                **setting,
            )
            answer = found[0] if model.is_encoder_decoder else found[0, ids.shape[1] :]
            text = tokenizer.decode(answer, skip_special_tokens=True).strip()
            assert (
                text == model.generate([as_sample(i, case)], visual=tokens, max_new_tokens=12, **setting)[0]
            )
    again = load_blip2(tmp_path / "out").eval()
    for own, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, other)
    encoded = processor(text=single[0][1]["prompt"], return_tensors="pt")
    assert encoded.input_ids[0].tolist() == single[0][1]["input_ids"]


@pytest.mark.parametrize("name", ["mt5", "t5"])
@torch.no_grad()
def test_an_untied_head_survives_all_that_is_done_to_it(name: str, tmp_path: Path) -> None:
    head = read_tensors(golden(name) / "checkpoint", "language_model.lm_head.weight")[""]
    model = load(name)

    def check() -> None:
        assert torch.equal(model.lm.get_output_embeddings().weight, head)
        assert not torch.equal(model.lm.get_input_embeddings().weight, head)

    check()
    model.lm.tie_weights()
    check()
    apply_lora(model, "language_model.*")
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            parameter.normal_(std=0.1)
    check()
    sample = as_sample(0, cases(name)[0])
    tokens = tokens_by_key(model, tensors(name)["pixel_values"])
    expected = model.score([sample], [["a cat", "cats"]], visual=tokens)
    save_model(model, tmp_path / "adapted")
    model = load_model(tmp_path / "adapted")
    check()
    assert model.score([sample], [["a cat", "cats"]], visual=tokens) == expected
    merge_lora(model)
    check()
    for standalone in (False, True):
        save_model(model, tmp_path / f"merged{standalone}", standalone=standalone)
        model = load_model(tmp_path / f"merged{standalone}")
        check()
        scores = model.score([sample], [["a cat", "cats"]], visual=tokens)[0]
        assert scores == pytest.approx(expected[0], rel=1e-5)
    model.lm.resize_token_embeddings(400)
    assert torch.equal(model.lm.get_output_embeddings().weight[: len(head)], head)


def test_a_new_model_takes_encoder_and_qformer_without_the_language_models_shards(tmp_path: Path) -> None:
    source = golden("mt5") / "checkpoint"
    folder = shutil.copytree(source, tmp_path / "blip2")
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())["weight_map"]
    needed = {
        file for name, file in index.items() if name.startswith(("vision_model.", "qformer.", "query_"))
    }
    for file in set(index.values()) - needed:
        (folder / file).unlink()
    assert len(needed) < len(set(index.values()))
    config = ModelConfig.model_validate(
        {
            "vision": {"path": str(folder)},
            "resampler": {"kind": "qformer", "path": str(folder)},
            "language_model": {"path": str(golden("bloom") / "checkpoint")},
        }
    )
    model, whole = build_model(config).eval(), load("mt5")
    pixels = tensors("mt5")["pixel_values"]
    with torch.no_grad():
        assert torch.equal(model.resampler(model.encode(pixels)), whole.resampler(whole.encode(pixels)))
    assert not model.is_encoder_decoder
    with pytest.raises(UserError, match="missing or damaged"):
        load_blip2(folder)


def test_a_folder_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(golden("opt") / "checkpoint", tmp_path / "blip2")
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    index["weight_map"] = {n: f for n, f in index["weight_map"].items() if "layers.1.fc1" not in n}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    shard = {f for n, f in index["weight_map"].items() if "language_model" in n}
    for file in shard:
        content = torch.load(folder / file, weights_only=True)
        torch.save({n: t for n, t in content.items() if "layers.1.fc1" not in n}, folder / file)
    with pytest.raises(UserError, match=r"lacks .*layers\.1\.fc1"):
        load_blip2(folder)
