"""VisCPM-Chat against what the original code computed, in every golden folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import NoisePicture
from tests.viscpm.tiny import golden_folders, open_golden

from polylens.data.sample import Sample, Turn
from polylens.viscpm.cpm_bee.layout import collate_data, encode_data
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.files import (
    read_released_cpm_bee,
    read_released_viscpm,
    read_viscpm,
    save_folder,
    viscpm_processor,
)
from polylens.viscpm.model import VisCpmChat

pytestmark = [
    pytest.mark.golden,
    pytest.mark.parametrize("folder", golden_folders(), ids=lambda folder: folder.name),
]
EXTRA_TOKENS = 2  # the original's max_length lets two more through


def released(folder: Path, cases: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """(a file as it was released, its sizes): half of it is a head that nobody needs."""
    weights = load_file(folder / "vlu.safetensors") | {"vpm.mim_head.weight": torch.zeros(7)}
    torch.save(weights, out / "vlu.pt")
    (out / "sizes.json").write_text(json.dumps(cases["config"]))
    return out / "vlu.pt", out / "sizes.json"


@pytest.fixture
def chat(folder: Path, tmp_path: Path) -> VisCpmChat:
    cases, _ = open_golden(folder)
    model = read_released_viscpm(*released(folder, cases, tmp_path))
    tokenizer = CpmBeeTokenizer.from_pretrained(folder / "vocab.txt")
    return VisCpmChat(model, tokenizer, viscpm_processor(model.config.vision.image_size)).eval()


def assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_tokenizer(folder: Path) -> None:
    cases, _ = open_golden(folder)
    tokenizer = CpmBeeTokenizer.from_pretrained(folder)
    for case in cases["tokenizer"]:
        ids, table = tokenizer.encode(case["text"])
        assert ids == case["ids"]
        assert table == {int(i): word for i, word in case["ext"].items()}
        assert tokenizer.decode(ids, table) == case["decoded"]
    print(f"{folder.name}: {len(cases['tokenizer'])} texts")


def test_layout(folder: Path) -> None:
    cases, tensors = open_golden(folder)
    tokenizer = CpmBeeTokenizer.from_pretrained(folder)
    rows = [encode_data(tokenizer, case["data"]) for case in cases["convert"]]
    for row, case in zip(rows, cases["convert"], strict=True):
        assert (row.ids, row.subs, row.context) == (case["ids"], case["subs"], case["context"])
        assert (row.segments, row.relations) == (case["segments"], case["segment_rel"])
        assert row.num_segments == case["num_segments"]
        assert [list(bound) for bound in row.images] == case["image_bound"]
    batch = collate_data(rows, tokenizer)
    for name, found in {
        "input_ids": batch.input_ids,
        "input_id_subs": batch.input_subs,
        "segment_ids": batch.segments,
        "context": batch.context,
        "target": batch.labels,
        "length": batch.mask.sum(1),
        "ext_table_ids": batch.extension[:, 0],
        "ext_table_sub": batch.extension[:, 1],
    }.items():
        assert found.tolist() == tensors[f"batch.{name}"].long().tolist(), name
    print(f"{folder.name}: {len(rows)} dictionaries")


@torch.no_grad()
def test_states_logits_and_loss(folder: Path, chat: VisCpmChat) -> None:
    cases, tensors = open_golden(folder)
    assert_near(chat.model.see(tensors["batch.pixel_values"]), tensors["vision_hidden"])
    visual = chat.model(tensors["batch.pixel_values"])
    assert_near(visual, tensors["projected"])
    rows = [encode_data(chat.tokenizer, case["data"]) for case in cases["convert"]]
    batch = collate_data(rows, chat.tokenizer)
    states = chat.lm(batch, visual)
    assert_near(states, tensors["llm_hidden"])
    logits = chat.lm.logits(states, batch.extension)
    assert_near(logits, tensors["logits"])
    assert chat.lm.loss(batch, visual).item() == pytest.approx(tensors["loss"].item(), rel=1e-5)
    for number, row in enumerate(rows):  # alone as in the batch
        single = collate_data([row], chat.tokenizer)
        alone = chat.lm(single, visual[number : number + 1])
        assert_near(alone[0], states[number, : len(row.ids)])
    print(f"{folder.name}: {len(rows)} rows, together and alone")


@torch.no_grad()
def test_the_text_side_of_painting(folder: Path, tmp_path: Path) -> None:
    cases, tensors = open_golden(folder)
    model = read_released_cpm_bee(*released(folder, cases, tmp_path))
    tokenizer = CpmBeeTokenizer.from_pretrained(folder)
    length = tensors["paint.hidden"].shape[1]
    for prompt, name in (("prompt", "hidden"), ("negative_prompt", "uncond_hidden")):
        data = {"caption": cases["config"]["paint"][prompt], "objects": ""}
        batch = collate_data([encode_data(tokenizer, data)], tokenizer, length)
        assert_near(model(batch), tensors[f"paint.{name}"])


def as_sample(case: dict[str, Any]) -> Sample:
    turns = [Turn(*turn) for turn in re.findall(r"User: (.*)\nAI: (.*)\n", case["context"])]
    turns.append(Turn(case["question"], ""))
    return Sample("golden", (NoisePicture(case["image"]),), tuple(turns), "zh", "chat", "golden")


def as_settings(recorded: dict[str, Any]) -> dict[str, Any]:
    renamed = {"beam_size": "num_beams", "max_length": "max_new_tokens"}
    settings = {renamed.get(name, name): value for name, value in recorded.items()}
    return settings | {"max_new_tokens": recorded["max_length"] + EXTRA_TOKENS}


def test_every_recorded_answer(folder: Path, chat: VisCpmChat, tmp_path: Path) -> None:
    cases, tensors = open_golden(folder)
    visual = {
        NoisePicture(i).key: tokens for i, tokens in enumerate(chat.model(tensors["batch.pixel_values"]))
    }
    converted = save_folder(chat.model, chat.tokenizer, tmp_path / "folder", max_shard_size="200KB")
    assert len(list(converted.glob("*.safetensors"))) > 1
    again = VisCpmChat.from_pretrained(converted)
    for case in cases["generate"]:
        settings = as_settings(case["kwargs"])
        alike = [other for other in cases["generate"] if other["kwargs"] == case["kwargs"]]
        wanted = [other["answer"].strip() for other in alike]
        samples = [as_sample(other) for other in alike]
        assert chat.data(samples[0])["context"] == alike[0]["context"]
        for size in (1, len(samples)):
            assert chat.generate(samples, visual=visual, batch_size=size, **settings) == wanted
        assert again.generate(samples, visual=visual, **settings) == wanted
    print(f"{folder.name}: {len(cases['generate'])} answers, one by one and batched")


@torch.no_grad()
def test_layers_streamed_from_disk_compute_the_same(folder: Path, chat: VisCpmChat, tmp_path: Path) -> None:
    cases, tensors = open_golden(folder)
    converted = save_folder(chat.model, chat.tokenizer, tmp_path / "folder")
    streamed = read_viscpm(converted, stream="disk")
    assert next(streamed.llm.encoder.layers.parameters()).device.type == "meta"
    rows = [encode_data(chat.tokenizer, case["data"]) for case in cases["convert"]]
    batch = collate_data(rows, chat.tokenizer)
    assert_near(streamed.llm(batch, streamed(tensors["batch.pixel_values"])), tensors["llm_hidden"])
