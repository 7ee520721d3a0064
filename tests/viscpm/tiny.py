"""Tiny VisCPMs: one of random weights, and those of the golden folders."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.tiny_models import NoisePicture

from polylens.data.sample import Sample, Turn
from polylens.viscpm.beit3 import Beit3Config
from polylens.viscpm.cpm_bee.config import CpmBeeConfig
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.files import viscpm_processor
from polylens.viscpm.model import VisCpmChat
from polylens.viscpm.modeling import VisCpm, VisCpmConfig

DEFAULT = Path(__file__).parents[3] / "shared" / "golden"
SPECIAL = "<pad> <unk> <mask> <sep> </n> </_> <s> </s> <root> <ans> <option> <eod>".split()
WORDS = [
    *"abcdefghijklmnopqrstuvwxyz.:?<>",
    "image",
    "context",
    "question",
    "input",
    "User",
    "AI",
    "cat",
    "猫",
]


def golden_folders() -> list[Path]:
    """The folders under `viscpm/`; where they are not, one that `open_golden` skips or fails on."""
    root = Path(os.environ.get("POLYLENS_GOLDEN") or DEFAULT) / "viscpm"
    return sorted(path for path in root.glob("*") if path.is_dir()) or [root / "tiny"]


def open_golden(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(cases, tensors) of a golden folder."""
    if not (folder / "cases.json").is_file():
        if os.environ.get("POLYLENS_GOLDEN"):
            pytest.fail(f"POLYLENS_GOLDEN is set, but {folder} is missing")
        pytest.skip(f"no golden folder {folder}")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return cases, load_file(folder / "tensors.safetensors")


def tiny_tokenizer() -> CpmBeeTokenizer:
    return CpmBeeTokenizer([*SPECIAL, *WORDS])


def tiny_config(width: int = 32) -> VisCpmConfig:
    return VisCpmConfig(
        llm=CpmBeeConfig(
            vocab_size=len(SPECIAL) + len(WORDS),
            hidden_size=width,
            intermediate_size=48 if width == 32 else 2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            head_dim=width // 4,
            num_position_buckets=32,
            max_distance=64,
        ),
        vision=Beit3Config(
            image_size=32,
            patch_size=8,
            vocab_size=20,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
        ),
        num_queries=3,
    )


def tiny_chat(seed: int = 0, width: int = 32) -> VisCpmChat:
    torch.manual_seed(seed)
    return VisCpmChat(VisCpm(tiny_config(width)), tiny_tokenizer(), viscpm_processor(32)).eval()


def ask(
    *turns: tuple[str, str], pictures: tuple[int, ...] = (), task: str = "chat", name: str = "s"
) -> Sample:
    images = tuple(NoisePicture(i) for i in pictures)
    return Sample(name, images, tuple(Turn(*turn) for turn in turns), "en", task, "test")
