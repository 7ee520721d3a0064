"""Checks and rerankers, as tiny random models in folders."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")

from tests.models.tiny_models import VIT, VOCABULARY, tiny_tokenizer
from tests.painting.tiny_painters import tiny_painter

from polylens.data.neighbours import DualEncoder
from polylens.errors import UserError
from polylens.painting.guards import (
    ConceptCheck,
    ImageCheck,
    PromptCheck,
    Reranker,
    SafetyChecker,
    image_check,
)
from polylens.painting.sampling import Sampling
from polylens.painting.scores.clip import ClipScorer
from polylens.painting.studio import Studio

torch.set_num_threads(1)
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 24,
}
SEES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
SEES |= {"image_size": 16, "patch_size": 8}
SIZE = {"height": 16, "width": 16}
DUAL = {
    "clip": (CLIPModel, CLIPConfig, CLIPImageProcessor(size=SIZE, crop_size=SIZE)),
    "chinese-clip": (ChineseCLIPModel, ChineseCLIPConfig, CLIPImageProcessor(size=SIZE, crop_size=SIZE)),
    "siglip": (SiglipModel, SiglipConfig, SiglipImageProcessor(size=SIZE)),
    "siglip2": (Siglip2Model, Siglip2Config, Siglip2ImageProcessor(patch_size=8, max_num_patches=4)),
}


def save_classifier(folder: Path, labels: dict[int, str], favoured: int) -> Path:
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(**VIT, id2label=labels))
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.eye(len(labels))[favoured] * 5
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_prompt_classifier(folder: Path) -> Path:
    """Finds prompts with an `x` in their first place unsafe, whatever the weights of the rest."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES, id2label={0: "safe", 1: "toxic"}))
    model.save_pretrained(folder)
    tiny_tokenizer(False).save_pretrained(folder)
    return folder


def save_dual(kind: str, folder: Path) -> Path:
    torch.manual_seed(1)
    model_class, config_class, processor = DUAL[kind]
    sees = SEES | ({"num_patches": 4} if kind == "siglip2" else {})
    settings = {"text_config": SIZES, "vision_config": sees}
    if "siglip" not in kind:
        settings["projection_dim"] = 8
    model_class(config_class(**settings)).save_pretrained(folder)
    tiny_tokenizer(False).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def images() -> list[Image.Image]:
    return [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]


@pytest.mark.parametrize("kind", sorted(DUAL))
def test_any_dual_encoder_reranks(tmp_path: Path, kind: str) -> None:
    reranker = Reranker(str(save_dual(kind, tmp_path / kind)))
    scores = reranker.scores("a dog", images())
    assert len(scores) == 3
    assert len({round(score, 6) for score in scores}) > 1
    assert all(-1 <= score <= 1 for score in scores)
    assert reranker.scores("a dog", images()[:1])[0] == pytest.approx(scores[0], abs=1e-4)


def test_the_best_candidate_is_kept(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    reranker = Reranker(str(save_dual("clip", tmp_path / "clip")))
    studio = Studio(painter, "tiny", reranker=reranker, settings=Sampling(steps=2), batch_size=4)
    painted = studio.paint("cat", 2, 0, candidates=3)
    single = Studio(painter, "tiny", settings=Sampling(steps=2), batch_size=4).paint("cat", 6, 0)
    scores = [reranker.scores("cat", [one.image])[0] for one in single if one.image]
    for place, one in enumerate(painted):
        assert one.score == pytest.approx(max(scores[3 * place : 3 * place + 3]), abs=1e-3)
        assert one.record is not None
        assert one.record.seed // 3 == place
    with pytest.raises(UserError, match="need a reranker"):
        Studio(painter, "tiny").paint("cat", 1, 0, candidates=2)


def test_unsafe_images_are_blocked_and_reported(tmp_path: Path) -> None:
    painter = tiny_painter(tmp_path)
    unsafe = ImageCheck(str(save_classifier(tmp_path / "a", {0: "normal", 1: "nsfw"}, favoured=1)))
    safe = ImageCheck(str(save_classifier(tmp_path / "b", {0: "normal", 1: "nsfw"}, favoured=0)))
    blocked = Studio(painter, "t", image_check=unsafe, settings=Sampling(steps=2)).paint("cat", 2, 0)
    assert [one.image for one in blocked] == [None, None]
    assert all("finds the image unsafe (0.99)" in str(one.blocked) for one in blocked)
    shown = Studio(painter, "t", image_check=safe, settings=Sampling(steps=2)).paint("cat", 1, 0)
    assert shown[0].image is not None
    assert shown[0].blocked is None


def test_unsafe_prompts_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = tiny_painter(tmp_path)
    path = str(save_prompt_classifier(tmp_path / "prompts"))
    probability = PromptCheck(path).unsafe(PromptCheck(path).reader(["a cat"], return_tensors="pt"))[0]
    strict = PromptCheck(path, threshold=probability - 0.01)
    monkeypatch.setattr(painter, "draw", lambda *_, **__: pytest.fail("drawn"))
    painted = Studio(painter, "t", prompt_check=strict).paint("a cat", 2, 0)
    assert all("finds the prompt unsafe" in str(one.blocked) for one in painted)
    assert PromptCheck(path, threshold=probability + 0.01).refused("a cat") is None
    assert PromptCheck(path, threshold=1.1).refused("x" * 10_000) is None


def save_safety_checker(folder: Path, limit: float, older: bool = True) -> Path:
    """CompVis' checker with one threshold for all concepts, its tensors named as in the published file."""
    torch.manual_seed(2)
    text = {key: SIZES[key] for key in SIZES if key != "vocab_size"}
    checker = SafetyChecker(CLIPConfig(text_config=text, vision_config=SEES, projection_dim=8))
    checker.concept_embeds.data.normal_()
    checker.special_care_embeds.data.normal_()
    checker.concept_embeds_weights.data.fill_(limit)
    checker.special_care_embeds_weights.data.fill_(2.0)
    state = checker.state_dict()
    if older:
        state = {n.replace("vision_model.", "vision_model.vision_model.", 1): t for n, t in state.items()}
    checker.config.architectures = ["StableDiffusionSafetyChecker"]
    checker.config.save_pretrained(folder)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    CLIPImageProcessor(size=SIZE, crop_size=SIZE).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("older", [True, False])
def test_a_safety_checker_judges_by_its_concepts(tmp_path: Path, older: bool) -> None:
    strict = image_check(str(save_safety_checker(tmp_path / "a", -1.0, older)))
    assert all("above its limit" in str(why) for why in strict.refused(images()))
    assert image_check(str(save_safety_checker(tmp_path / "b", 1.0, older))).refused(images()) == [None] * 3
    with pytest.raises(UserError, match="without labels"):
        image_check(str(tmp_path / "a"), ["LABEL_1"])


def test_it_judges_as_the_published_class_does(tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    folder = save_safety_checker(tmp_path / "a", 0.3, older=False)
    theirs = StableDiffusionSafetyChecker.from_pretrained(folder)
    ours = ConceptCheck(str(folder))
    pixels = ours.reader(images(), return_tensors="pt").pixel_values
    for care in (2.0, -1.0):
        for model in (theirs, ours.model):
            model.special_care_embeds_weights.data.fill_(care)
        _, found = theirs(pixels, [image.numpy() for image in pixels])
        assert [why is not None for why in ours.refused(images())] == found


def test_what_would_judge_at_random_is_refused(tmp_path: Path) -> None:
    save_safety_checker(tmp_path / "a", 0.3)
    with pytest.raises(UserError, match=r"lacks 'classifier\.\w+' .*would be random"):
        ImageCheck(str(tmp_path / "a"), ["LABEL_1"])
    save_dual("clip", tmp_path / "clip")
    with pytest.raises(UserError, match="would be random"):
        ImageCheck(str(tmp_path / "clip"), ["LABEL_1"])
    state = load_file(tmp_path / "clip" / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    for opens in (Reranker, ClipScorer, DualEncoder):
        with pytest.raises(UserError, match=r"lacks 'visual_projection.weight'"):
            opens(str(tmp_path / "clip"))


def test_labels_must_be_known(tmp_path: Path) -> None:
    path = str(save_classifier(tmp_path / "a", {0: "one", 1: "two"}, favoured=1))
    with pytest.raises(UserError, match=r"None of the labels .*one, two"):
        ImageCheck(path)
    assert ImageCheck(path, ["Two"]).refused(images())[0] is not None
