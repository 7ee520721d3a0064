"""Visual tokens as mixtures of the language model's words."""

import pytest
import torch
from tests.models.tiny_models import sample, tiny_vlm
from torch.nn.functional import cross_entropy

from polylens.errors import UserError
from polylens.models.blip2 import save_blip2
from polylens.models.words import VisualWords

torch.manual_seed(0)
WORDS = torch.randn(40, 64)


def test_a_word_stays_itself():
    chosen = WORDS[[3, 7, 39]][None]
    assert torch.allclose(VisualWords().mixed(3 * chosen, WORDS), chosen, atol=1e-3)


def test_logits_of_a_word_are_the_root_of_the_width_for_itself_and_unit_noise_for_others():
    logits = VisualWords().logits(WORDS[None], WORDS)[0]
    own = logits.diagonal()
    others = logits[~torch.eye(40, dtype=torch.bool)]
    assert own.mean().item() == pytest.approx(8, rel=0.1)
    assert others.std().item() == pytest.approx(1, rel=0.1)


def test_words_that_change_are_measured_anew():
    words, mixtures = WORDS.clone(), VisualWords()
    before = mixtures.logits(WORDS[None], words)
    words *= 2
    assert torch.allclose(mixtures.logits(2 * WORDS[None], words), before)
    assert torch.allclose(mixtures.logits(WORDS[None], WORDS), before)


def test_words_in_training_are_measured_every_time():
    words, mixtures = WORDS.clone().requires_grad_(), VisualWords()
    before = mixtures.logits(WORDS[None], words)
    words.data *= 2  # a fused optimizer's step leaves no other trace
    assert torch.allclose(mixtures.logits(2 * WORDS[None], words), before)


def test_words_without_values_give_shapes():
    assert VisualWords().logits(WORDS[None].to("meta"), WORDS.to("meta")).shape == (1, 40, 40)


def test_the_cross_entropy_is_that_of_the_logits_in_pieces_or_at_once():
    tokens = torch.randn(60, 9, 64).requires_grad_()
    ids = torch.randint(40, (60, 9))
    whole = cross_entropy(VisualWords().logits(tokens, WORDS).transpose(1, 2), ids, reduction="none")
    in_pieces = VisualWords().cross_entropy(tokens, WORDS, ids)
    assert torch.allclose(in_pieces, whole, atol=1e-6)
    gradients = [torch.autograd.grad(errors.sum(), tokens)[0] for errors in (in_pieces, whole)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_mixtures_lie_between_the_words():
    mixed = VisualWords().mixed(torch.randn(2, 5, 64), WORDS)
    assert (mixed <= WORDS.max(0).values + 1e-5).all()
    assert (mixed >= WORDS.min(0).values - 1e-5).all()


def words_vlm(lm="llama"):
    model = tiny_vlm(lm)
    model.config.visual_words = True
    return model


def test_every_way_to_visual_tokens_gives_words():
    model, asked = words_vlm(), sample("German:", "Katze", (0,), "a")
    batch = model.collator()([asked])
    embeds = model.embed(batch)
    encoded = model.encode_pictures(asked.images)[asked.images[0].key]
    assert torch.allclose(embeds[batch.image_mask], encoded, atol=1e-5)
    words = model.lm.get_input_embeddings().weight
    assert (encoded <= words.max(0).values + 1e-5).all()


def test_the_embedding_loss_is_the_cross_entropy_of_the_answers_words():
    model = words_vlm()
    batch = model.collator()([sample("German:", "Katze", (0,), "a")])
    ids = model.tokenizer("Katze", add_special_tokens=False).input_ids
    tokens = model.projector(model.resampler(model.encode(batch.pixel_values)))
    logits = VisualWords().logits(tokens, model.lm.get_input_embeddings().weight)[0].log_softmax(-1)
    expected = -torch.stack([logits[at, ids[at % len(ids)]] for at in range(len(logits))]).mean()
    assert model.embedding_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_reach_the_projector_and_not_the_words():
    model = words_vlm()
    model.loss(model.collator()([sample("German:", "Katze", (0,), "a")])).backward()
    assert model.projector.weight.grad.abs().sum() > 0


def test_formats_that_do_not_know_them_are_refused(tmp_path):
    with pytest.raises(UserError, match="visual_words"):
        save_blip2(words_vlm(), tmp_path / "out")
