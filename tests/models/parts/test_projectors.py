"""Projectors: visual tokens as mixtures of the language model's words, and one from another package."""

import copy
import json
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import (
    PROCESSOR,
    RESAMPLERS,
    sample,
    tiny_language_model,
    tiny_tokenizer,
    tiny_vision,
    tiny_vlm,
)
from tests.plugins import install
from torch import nn
from torch.nn.functional import cross_entropy

from polylens.errors import UserError
from polylens.models.checkpoints.blip2 import save_blip2
from polylens.models.checkpoints.build import compose
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig
from polylens.models.parts.projectors import ProjectorConfig, VisualWords

torch.manual_seed(0)
WORDS = torch.randn(40, 64)
KATZE = sample("German:", "Katze", (0,), "a")


def words_of(table: torch.Tensor = WORDS, frozen: bool = True) -> tuple[VisualWords, nn.Embedding]:
    """A projector whose linear layer changes nothing, and the embeddings that it mixes."""
    embeddings = nn.Embedding.from_pretrained(table.clone(), freeze=frozen)
    projector = VisualWords(64, lambda: embeddings)
    with torch.no_grad():
        projector.weight.copy_(torch.eye(64))
        projector.bias.zero_()
    return projector, embeddings


def words_vlm(lm: str = "llama", **settings: object):
    return tiny_vlm(lm, projector={"kind": "words"}, **settings)


def test_a_word_stays_itself() -> None:
    chosen = WORDS[[3, 7, 39]][None]
    assert torch.allclose(words_of()[0](3 * chosen), chosen, atol=1e-3)


def test_logits_of_a_word_are_the_root_of_the_width_for_itself_and_unit_noise_for_others() -> None:
    logits = words_of()[0].logits(WORDS[None])[0]
    own = logits.diagonal()
    others = logits[~torch.eye(40, dtype=torch.bool)]
    assert own.mean().item() == pytest.approx(8, rel=0.1)
    assert others.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("frozen", [True, False])
def test_words_that_change_are_measured_anew(frozen: bool) -> None:
    projector, embeddings = words_of(frozen=frozen)
    before = projector.logits(WORDS[None])
    if frozen:
        embeddings.weight *= 2
    else:
        embeddings.weight.data *= 2  # a fused optimizer's step leaves no other trace
    assert torch.allclose(projector.logits(2 * WORDS[None]), before)


def test_a_copy_mixes_the_words_of_its_own_language_model() -> None:
    model = words_vlm()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm.get_input_embeddings().weight.mul_(2)
    queries = torch.zeros(1, 3, 16)
    assert not torch.allclose(other.project(queries), model.project(queries))


def test_the_cross_entropy_is_that_of_the_logits_in_pieces_or_at_once() -> None:
    projector, _ = words_of()
    queries = torch.randn(60, 9, 64).requires_grad_()
    ids = torch.randint(40, (60, 9))
    whole = cross_entropy(projector.logits(queries).transpose(1, 2), ids, reduction="none")
    in_pieces = projector.cross_entropy(queries, ids)
    assert torch.allclose(in_pieces, whole, atol=1e-6)
    gradients = [torch.autograd.grad(errors.sum(), queries)[0] for errors in (in_pieces, whole)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_mixtures_lie_between_the_words() -> None:
    mixed = words_of()[0](torch.randn(2, 5, 64))
    assert (mixed <= WORDS.max(0).values + 1e-5).all()
    assert (mixed >= WORDS.min(0).values - 1e-5).all()


@pytest.mark.parametrize("resampler", ["perceiver", "mlp"])
def test_every_way_to_visual_tokens_gives_words(resampler: str) -> None:
    model = words_vlm(resampler=resampler)
    batch = model.collator()([KATZE])
    embeds = model.embed(batch)
    encoded = model.encode_pictures(KATZE.images)["noise-0"]
    assert torch.allclose(embeds[batch.image_mask], encoded, atol=1e-5)
    words = model.lm.get_input_embeddings().weight
    assert (encoded <= words.max(0).values + 1e-5).all()


def test_gradients_reach_the_projector_and_its_words_are_the_language_models() -> None:
    model = words_vlm()
    model.loss(model.collator()([KATZE])).backward()
    assert model.projector.weight.grad.abs().sum() > 0
    assert set(model.projector.state_dict()) == {"weight", "bias"}


def test_a_checkpoint_keeps_the_kind_and_older_ones_are_understood(tmp_path: Path) -> None:
    model = words_vlm()
    expected = model.encode_pictures(KATZE.images)["noise-0"]
    save_model(model, tmp_path / "out")
    manifest = tmp_path / "out" / "polylens.json"
    today = json.loads(manifest.read_text())
    assert today["config"]["projector"] == {"kind": "words", "path": None}
    older = copy.deepcopy(today)
    older["config"] |= {"projector": {"path": None}, "visual_words": True, "memory": None}
    for written in (today, older):
        manifest.write_text(json.dumps(written))
        assert torch.equal(load_model(tmp_path / "out").encode_pictures(KATZE.images)["noise-0"], expected)
    older["config"]["memory"] = ["Katze"]
    manifest.write_text(json.dumps(older))
    with pytest.raises(UserError, match="memory of captions, which Polylens no longer reads"):
        load_model(tmp_path / "out")


def test_an_older_checkpoint_without_words_stays_linear(tmp_path: Path) -> None:
    save_model(tiny_vlm(), tmp_path / "out")
    manifest = tmp_path / "out" / "polylens.json"
    older = json.loads(manifest.read_text())
    older["config"] |= {"projector": {"path": None}, "visual_words": False}
    manifest.write_text(json.dumps(older))
    assert load_model(tmp_path / "out").config.projector.kind == "linear"


def test_formats_that_do_not_know_them_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="projector of the kind 'words'"):
        save_blip2(words_vlm(), tmp_path / "out")


HALVES = """
from torch import nn

class Halves(nn.Linear):
    '''Half of what a linear layer says.'''

    @classmethod
    def new(cls, resampler, language_model):
        return cls(resampler.width, language_model.get_input_embeddings().weight.shape[1])

    def forward(self, queries):
        return super().forward(queries) / 2
"""


def test_a_projector_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no projector 'halves': the nearest is"):
        ProjectorConfig(kind="halves")
    install(
        tmp_path,
        monkeypatch,
        "halves_projector",
        HALVES,
        "polylens.projectors",
        "halves = halves_projector:Halves",
    )
    model = compose(
        ModelConfig(projector=ProjectorConfig(kind="halves"), resampler=RESAMPLERS["perceiver"]),
        tiny_vision("vit"), tiny_language_model("llama"), tiny_tokenizer(False), PROCESSOR,
    )  # fmt: skip
    queries = torch.randn(1, 2, 16)
    assert torch.allclose(2 * model.project(queries), nn.Linear.forward(model.projector, queries))
