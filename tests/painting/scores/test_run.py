import json

import pytest
import torch
from PIL import Image
from tests.models.tiny_models import VOCABULARY, tiny_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
)
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.painting.scores.clip import ClipScorer
from polylens.painting.scores.run import read_paintings

torch.set_num_threads(1)


@pytest.fixture
def paintings(tmp_path):
    folder = tmp_path / "painted"
    folder.mkdir()
    rows = []
    for number in range(6):
        Image.new("RGB", (40, 40), (40 * number, 90, 200 - 30 * number)).save(folder / f"{number}.png")
        code = "zh" if number % 2 else "en"
        rows.append(
            {"image": f"{number}.png", "prompt": "a cat" if number < 3 else "two cats", "language": code}
        )
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "real").mkdir()
    for number in range(5):
        Image.new("RGB", (40, 40), (200, 40 * number, 90)).save(tmp_path / "real" / f"{number}.png")
    return folder


@pytest.fixture
def clip(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=16, eos_token_id=1, **sizes)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **sizes)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    tokenizer = tiny_tokenizer(encoder_decoder=True)
    tokenizer.model_max_length = 16
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(processor, tokenizer).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_clip_score_is_the_cosine_of_embeddings(clip, paintings):
    scorer = ClipScorer(clip)
    found = read_paintings(paintings)
    pictures, prompts = [one.picture.load() for one in found], [one.prompt for one in found]
    together = scorer(pictures, prompts)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    for picture, prompt, score in zip(pictures, prompts, together, strict=True):
        with torch.no_grad():
            output = model(**processor(text=[prompt], images=[picture], return_tensors="pt", padding=True))
        logit = output.logits_per_image.item() / model.logit_scale.exp().item()
        assert score == pytest.approx(max(0.0, 100 * logit), abs=1e-3)
    with pytest.raises(UserError, match="6 pictures and 5 prompts"):
        scorer(pictures, prompts[:5])
    with pytest.raises(UserError, match="cannot be loaded as a CLIP model"):
        ClipScorer(paintings)


def test_the_command(paintings, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["score-paintings", "painted", "--real", "real", "--clip", "clip", "--out", "out"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {code: row["n"] for code, row in results["languages"].items()} == {"en": 3, "zh": 3}
    assert all(
        row["fd_encoder"] > 0 and 0 <= row["clip_score"] <= 100 for row in results["languages"].values()
    )
    assert "compare equal numbers only" in results["notes"][0]
    assert len(results["settings"]["fd_encoder"]["encoder_sha256"]) == 64
    assert "fid" not in results["languages"]["en"]
    for more, message in [
        (["score-paintings", "painted"], "Nothing to score by"),
        (
            ["score-paintings", "painted", "--clip", "clip", "--inception", "x"],
            "give their folder with --real",
        ),
        (["score-paintings", "real", "--clip", "clip"], "There is no file 'real/prompts.jsonl'"),
    ]:
        result = CliRunner().invoke(app, more)
        assert (result.exit_code, message in result.stderr) == (2, True)
    (paintings / "3.png").unlink()
    with pytest.raises(UserError, match=r"1 pictures of .* are not in .*: 3.png"):
        read_paintings(paintings)
