"""Released files: found with their vocabulary, by folder and by file, and told apart."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.models.checkpoints.hub_server import Hub, serving
from tests.viscpm.tiny import tiny_chat
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.families import find_family
from polylens.painting.build import load_text
from polylens.painting.config import TextConfig
from polylens.viscpm.files import find_vocabulary, is_released_cpm_bee, released_file

DOWNLOAD = """
import sys
from polylens.errors import UserError
from polylens.models.checkpoints.registry import resolve_model
try:
    print(resolve_model(sys.argv[1]))
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as the hub has it: two checkpoints, no vocabulary and no config."""
    folder = tmp_path / "VisCPM-Chat"
    folder.mkdir()
    for name in ("balance", "zhplus"):
        torch.save(tiny_chat().model.state_dict(), folder / f"viscpm_chat_{name}_checkpoint.pt")
    return folder


def test_a_released_folder_is_known_and_its_file_must_be_named(released: Path) -> None:
    assert find_family(released)[0].name == "viscpm"
    assert find_family(released / "viscpm_chat_balance_checkpoint.pt")[0].name == "viscpm"
    with pytest.raises(UserError, match=r"has viscpm_chat_balance_checkpoint.pt, .*name the file, as in"):
        released_file(released)


def test_a_vocabulary_lies_beside_or_is_said_to_be_missing(released: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"has no vocab.txt, and that of openbmb/cpm-bee-10b"):
        find_vocabulary(released)
    (released / "bee.txt").write_text("x")
    assert find_vocabulary(released).name == "bee.txt"
    (released / "vocab.txt").write_text("x")
    assert find_vocabulary(released).name == "vocab.txt"


def test_a_file_and_a_folder_inside_a_repository_of_the_hub_are_fetched_alone(
    released: Path, tmp_path: Path
) -> None:
    (released / "text-checker").mkdir()
    (released / "text-checker" / "config.json").write_text("{}")
    with serving(Hub({"openbmb/VisCPM-Chat": released})) as hub:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1"}

        def resolve(inside: str) -> subprocess.CompletedProcess[str]:
            words = [sys.executable, "-c", DOWNLOAD, f"openbmb/VisCPM-Chat/{inside}"]
            return subprocess.run(words, env=env, capture_output=True, text=True, check=False)

        file = resolve("viscpm_chat_zhplus_checkpoint.pt")
        assert file.stdout.strip().endswith("/viscpm_chat_zhplus_checkpoint.pt"), file.stderr
        assert Path(file.stdout.strip()).stat().st_size > 1000
        assert not hub.gets("viscpm_chat_balance_checkpoint.pt")
        folder = resolve("text-checker")
        assert (Path(folder.stdout.strip()) / "config.json").is_file(), folder.stderr
        assert "has no 'nothing'" in resolve("nothing").stderr


def test_a_painter_given_to_chat_and_the_reverse_are_told_apart(released: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")
    torch.save({"trans_block.w_out_res.weight": torch.zeros(2, 2)}, tmp_path / "paint.pt")
    result = CliRunner().invoke(app, ["chat", str(tmp_path / "paint.pt")])
    assert result.exit_code == 2
    assert "is a painter, as VisCPM-Paint is" in result.stderr
    file = released / "viscpm_chat_balance_checkpoint.pt"
    words = ["paint", str(file), "a dog", "--base", str(tmp_path), "--vocab", str(tmp_path / "v")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "VisCPM-Chat, which answers and draws nothing" in result.stderr


def test_cpm_bee_of_the_hub_reads_prompts_for_a_painter(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")
    chat = tiny_chat()
    folder = tmp_path / "cpm-bee-10b"
    folder.mkdir()
    state = {f"cpmbee.{name}": tensor for name, tensor in chat.lm.state_dict().items()}
    torch.save(state | {"lm_head.weight": chat.lm.input_embedding.weight.data}, folder / "pytorch_model.bin")
    config = chat.lm.config
    sizes = {
        "model_type": "cpmbee",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "dim_ff": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "dim_head": config.head_dim,
        "position_bias_num_buckets": config.num_position_buckets,
        "position_bias_max_distance": config.max_distance,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    chat.tokenizer.save_pretrained(folder)
    assert is_released_cpm_bee(folder)
    text = load_text(TextConfig(path=str(folder)))
    (states,) = text.encode(["a cat"])
    assert states.shape[1] == config.hidden_size
