"""The commands of docs/from-viscpm.md, on tiny files of the same kinds and names."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import NoisePicture
from tests.viscpm.tiny import tiny_chat
from typer.testing import CliRunner

from polylens.cli import app
from polylens.viscpm.beit3 import RELEASED as VISION
from polylens.viscpm.cpm_bee.config import RELEASED as LANGUAGE_MODEL

PAGE = Path(__file__).parents[2] / "docs" / "from-viscpm.md"
SMALL = ["stages.0.batch_size=1", "stages.0.epochs=1", "stages.0.warmup_steps=0"]
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def sizes(config: object, names: dict[str, str]) -> dict[str, object]:
    return {released: getattr(config, ours) for released, ours in names.items()}


def prepare(folder: Path) -> None:
    from diffusers import UNet2DConditionModel
    from tests.painting.test_guards import save_safety_checker
    from tests.painting.tiny_painters import save_stable_diffusion

    from polylens.painting.bridge import LinearBridge

    chat = tiny_chat(width=64)
    torch.save(chat.model.state_dict(), folder / "viscpm_chat_balance_checkpoint.pt")
    chat.tokenizer.save_pretrained(folder)
    config = chat.model.config
    own = {
        "llm": sizes(config.llm, LANGUAGE_MODEL),
        "vision": sizes(config.vision, VISION),
        "query_num": config.num_queries,
    }
    (folder / "sizes.json").write_text(json.dumps(own))
    save_stable_diffusion(folder / "sd-2.1-base", UNET)
    torch.manual_seed(0)
    paint = {f"llm.{name}": tensor for name, tensor in chat.lm.state_dict().items()}
    parts = {"trans_block": LinearBridge(64, 24, 1e-6), "unet": UNet2DConditionModel(**UNET)}
    for prefix, module in parts.items():
        paint |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save(paint, folder / "viscpm_paint_balance_checkpoint.pt")
    (folder / "train2017").mkdir()
    for number in range(2):
        NoisePicture(number).load().save(folder / "train2017" / f"{number}.png")
    NoisePicture(0).load().save(folder / "photo.png")
    said = [{"from": "human", "value": "<image>\ncat?"}, {"from": "gpt", "value": "a cat"}]
    rows = [{"id": str(n), "image": f"{n}.png", "conversations": said} for n in range(2)]
    (folder / "llava_zh.json").write_text(json.dumps(rows))
    captions = [{"id": n, "image_id": n, "caption": "a cat"} for n in range(3)]
    (folder / "captions_val2014.json").write_text(json.dumps({"annotations": captions}))
    save_safety_checker(folder / "safety-checker", 1.0)


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = commands()
    assert len(found) > 15
    for line in found:
        program, *words = shlex.split(line)
        assert program == "polylens"
        words += {"convert": ["--sizes", "sizes.json"], "train": SMALL}.get(words[0], [])
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    assert len((tmp_path / "painted" / "prompts.jsonl").read_text().splitlines()) == 2
