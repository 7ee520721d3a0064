"""The page for people who come from mBLIP: its commands run as they stand, on tiny models and files."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.translation.backwards import Backwards
from tests.models.tiny_models import NoisePicture, save_language_model, save_released_blip2
from typer.testing import CliRunner

from polylens.cli import app
from polylens.data.translation import engines
from polylens.models.checkpoints.build import build_model
from polylens.models.config import ModelConfig
from polylens.models.parts.lora import apply_lora, save_adapters
from polylens.recipe import packaged_recipes

PAGE = (Path(__file__).parents[1] / "docs" / "from-mblip.md").read_text(encoding="utf-8")
# Of the released recipe: as published it would take days.
SHORT = {"stages.0.steps=1", "stages.1.epochs=null", "stages.1.steps=1", "stages.0.warmup_steps=0"}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.strip().splitlines()]


def put(path: str, content: Any, lines: bool = False) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content)
    Path(path).write_text(text, encoding="utf-8")


def draw(*paths: str) -> None:
    for number, path in enumerate(paths):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        NoisePicture(number).load().save(path)


def models() -> None:
    """Tiny models under the names of the real ones: a folder of that name comes before the hub."""
    save_released_blip2("mt5", Path("Gregor/mblip-mt0-xl"))
    save_released_blip2("mt5", Path("Gregor/mblip-mt0-xl@v1-arxiv"))
    blip2 = save_released_blip2("t5", Path("Salesforce/blip2-flan-t5-xl"))
    lm = save_language_model("mt5", Path("bigscience/mt0-xl"))
    Path("facebook/nllb-200-distilled-1.3B").mkdir(parents=True)
    parts = {"path": str(blip2)}
    config = {"vision": parts, "resampler": parts, "language_model": {"path": str(lm)}}
    model = build_model(ModelConfig.model_validate(config))
    apply_lora(model, "language_model.*", rank=2)
    state = {f"model.model.qformer.{name}": t for name, t in model.resampler.model.state_dict().items()}
    state |= {f"model.model.language_projection.{n}": t for n, t in model.projector.state_dict().items()}
    state["model.model.query_tokens"] = model.resampler.query_tokens.detach()
    Path("checkpoints").mkdir()
    torch.save({"state_dict": state}, "checkpoints/1-60663.ckpt")
    save_adapters(model.language_model, Path("checkpoints/1-60663"), "bigscience/mt0-xl")


def benchmarks() -> None:
    question = {"q": {"imageId": "1", "question": "What is it?", "answer": "dog"}}
    put("data/gqa/train_balanced_questions.json", question)
    for code in ("en", "de"):
        put(f"data/xgqa/few_shot/{code}/dev.json", question)
        put(f"data/xgqa/zero_shot/testdev_balanced_questions_{code}.json", question)
    draw("data/gqa/images/1.jpg")
    nli = {"Flikr30kID": "1", "pairID": "1", "sentence2": "Il dort.", "gold_label": "neutral"}
    nli["annotator_labels"] = ["neutral"]  # type: ignore[assignment]
    for name in ("en/train", "en/dev", "en/dev-fr_gmt", "fr/test"):
        put(f"data/xvnli/{name}.jsonl", [nli], lines=True)
    pair = {"identifier": "a-0-0", "sentence": "Two dogs.", "label": "True"}
    for name in ("train.json", "dev.json", "dev-id_gmt.jsonl"):
        put(f"data/nlvr2/{name}", [pair], lines=True)
    for split in ("train", "dev"):
        draw(f"data/nlvr2/images/{split}/a-0-img0.png", f"data/nlvr2/images/{split}/a-0-img1.png")
    marvl = {
        "concept": "1-Dog",
        "language": "sw",
        "caption": "Mbwa.",
        "left_img": "1.jpg",
        "right_img": "2.jpg",
    }
    put("data/marvl/marvl-sw.jsonl", [marvl | {"label": True, "id": "1"}], lines=True)
    draw("data/marvl/images/1-Dog/1.jpg", "data/marvl/images/1-Dog/2.jpg")
    put(
        "data/flickr30k/dataset_flickr30k.json",
        {
            "images": [
                {"split": s, "filename": f"{n}.jpg", "sentences": [{"raw": "a dog"}]}
                for n, s in ((1, "train"), (2, "val"))
            ]
        },
    )
    draw("data/flickr30k/images/1.jpg", "data/flickr30k/images/2.jpg")
    put(
        "data/xm3600/captions.jsonl",
        [{"image/key": "1", "he": {"caption": ["x"]}, "en": {"caption": ["a dog"]}}],
        lines=True,
    )
    draw("data/xm3600/images/1.jpg")
    answers = {"question_id": "1", "question": "Quoi ?", "processed_answers": ["un chien"]}
    put(
        "data/maxm/maxm_v1_fr.json",
        {"split": "fr", "annotations": [{"image_id": "1", "qa_pairs": [answers]}]},
    )
    name = "COCO_val2014_000000000001.jpg"
    put("data/chair/coco_ground_truth_segmentation.json", [{"image": name, "objects": ["dog"]}], lines=True)
    put("data/chair/dataset_coco.json", {"images": [{"split": "val", "filename": name}]})
    Path("data/chair/synonyms.txt").write_text("dog, puppy\n")
    draw(f"data/coco/val2014/{name}")


def training_data() -> None:
    rows = [{"context": "Caption the image in German.", "label": "Ein Hund.", "image_id": "1.jpg"}] * 502
    put("data/ccs_synthetic_filtered_large_2273005_mt.json", rows)
    put("data/task_mix_v2_mt.json", rows)
    draw("data/web/1.jpg")
    for folder in ("data/coco/train2014", "data/imagenet"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    put(
        "data/ccs_synthetic_filtered_large.json",
        [{"caption": "a brown dog", "url": f"http://a/{i}"} for i in range(12)],
    )
    coco = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}],
    }
    put("data/coco/captions_train2014.json", coco)
    draw("data/coco/train2014/1.jpg")
    [recipe] = re.findall(r"```yaml\n# released.yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("released.yaml").write_text(recipe, encoding="utf-8")


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install 'polylens[quantization]'"
    )
    pytest.importorskip("HanTa", reason="the extra 'phrases' is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(engines.BUILT_IN, "nllb", lambda settings: Backwards())
    models()
    benchmarks()
    training_data()
    draw("photo.jpg")
    ran = set()
    for program, *words in commands():
        assert program == "polylens"
        more = sorted(SHORT) if words[:2] == ["train", "released.yaml"] else []
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}\n{result.exception!r}"
        ran.add(words[0])
    assert ran == set(
        "info caption evaluate inspect train balance translate merge export convert-mblip".split()
    )


def test_every_recipe_of_mblip_stands_on_the_page() -> None:
    for name in packaged_recipes():
        if name.startswith("mblip"):
            assert f"`{name}`" in PAGE, name


def test_the_links_of_the_page_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([\w-]+\.md)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / link).is_file(), link
