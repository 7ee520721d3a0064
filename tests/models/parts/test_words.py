"""Visual tokens as mixtures of the language model's words."""

import pytest
import torch
from tests.models.tiny_models import sample, tiny_vlm
from torch.nn.functional import cross_entropy

from polylens.errors import UserError
from polylens.models.checkpoints.blip2 import save_blip2
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import ModelConfig
from polylens.models.parts.words import VisualWords, repeated

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


# Three captions of two tokens; 5 and 9 begin one each, 6 ends two.
CAPTIONS = torch.tensor([[5, 6], [9, 6], [30, 31]])


def remembering(ids=CAPTIONS):
    mixtures = VisualWords()
    mixtures.remember(ids)
    return mixtures


def test_a_caption_is_said_again_and_again():
    assert repeated([4, 7, 2], 8) == [4, 7, 2, 4, 7, 2, 4, 7]
    assert repeated([4, 7, 2], 2) == [4, 7]


def test_tokens_are_what_the_captions_in_memory_have_at_their_place_or_stay_their_own():
    tokens, words = torch.randn(3, 2, 64), torch.tensor([5, 6, 9, 30, 31])
    likely = VisualWords().logits(tokens, WORDS)[..., words].log_softmax(-1)
    at = torch.searchsorted(words, CAPTIONS)
    scores = [(likely[:, 0, a] + likely[:, 1, b]) / 2 for a, b in at.tolist()]
    expected_of_themselves = (likely.exp() * likely).sum(-1).mean(1)
    shares = torch.stack([*scores, expected_of_themselves - 1], 1).softmax(-1)
    expected = torch.einsum("nm,mql->nql", shares[:, :3], WORDS[CAPTIONS])
    expected += shares[:, 3, None, None] * (likely.exp() @ WORDS[words])
    assert torch.allclose(remembering().mixed(tokens, WORDS), expected, atol=1e-5)


def test_what_no_caption_says_stays_as_it_is():
    new = 5 * WORDS[[31, 30]][None]
    mixed = remembering().mixed(new, WORDS)[0]
    assert (mixed @ WORDS.T).argmax(-1).tolist() == [31, 30]


def test_tokens_that_disagree_come_to_say_one_caption():
    # The first is the beginning of one caption and a little of another's; the second ends the other, and nothing else.
    tokens = torch.stack([2 * WORDS[30] + WORDS[9], 8 * WORDS[6]])[None]
    apart = VisualWords().mixed(tokens, WORDS)[0]
    agreed = remembering().mixed(tokens, WORDS)[0]
    assert (apart @ WORDS.T).argmax(-1).tolist() == [30, 6]
    assert (agreed @ WORDS.T).argmax(-1).tolist() == [9, 6]


def test_with_a_memory_only_its_words_count():
    mixtures, tokens = remembering(), torch.randn(4, 2, 64)
    words = torch.tensor([5, 6, 9, 30, 31])
    assert mixtures.logits(tokens, WORDS).shape == (4, 2, 5)
    expected = VisualWords().logits(tokens, WORDS)[..., words]
    assert torch.allclose(mixtures.logits(tokens, WORDS), expected, atol=1e-5)
    wanted = CAPTIONS[[0, 1, 2, 2]]
    few = VisualWords().logits(tokens, WORDS)[..., words].log_softmax(-1)
    expected = -few.gather(2, torch.searchsorted(words, wanted)[..., None])[..., 0]
    assert torch.allclose(mixtures.cross_entropy(tokens, WORDS, wanted), expected, atol=1e-5)


def test_captions_agreed_on_teach_the_tokens():
    tokens = torch.randn(2, 2, 64, requires_grad=True)
    remembering().mixed(tokens, WORDS).square().sum().backward()
    assert (tokens.grad.abs().sum(-1) > 0).all()


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


def test_a_memory_lives_on_in_the_checkpoint(tmp_path):
    model = words_vlm()
    model.remember(["Katze", "Hund", "Katze"])
    assert model.config.memory == ["Katze", "Hund"]
    pictures = sample("German:", "Katze", (0,), "a").images
    tokens = model.encode_pictures(pictures)[pictures[0].key]
    model.config.memory = None
    assert not torch.allclose(words_vlm().encode_pictures(pictures)[pictures[0].key], tokens)
    model.config.memory = ["Katze", "Hund"]
    save_model(model, tmp_path / "out")
    loaded = load_model(tmp_path / "out")
    assert loaded.config.memory == ["Katze", "Hund"]
    assert torch.equal(loaded.encode_pictures(pictures)[pictures[0].key], tokens)


def test_an_answer_that_no_caption_in_memory_can_say_is_named():
    model = words_vlm()
    model.remember(["Katze", "Hund"])
    known, unknown = (sample("German:", text, (0,), text) for text in ("Hund", "Maus"))
    assert model.embedding_loss(model.collator()([known])).isfinite()
    with pytest.raises(UserError, match="'Maus' has words that no caption"):
        model.embedding_loss(model.collator()([known, unknown]))


@pytest.mark.parametrize(("captions", "message"), [([], "has 0 captions"), (["Katze", ""], "'' .* no token")])
def test_memories_that_cannot_be(captions, message):
    with pytest.raises(UserError, match=message):
        words_vlm().remember(captions)


def test_a_memory_has_a_size(monkeypatch):
    monkeypatch.setattr("polylens.models.parts.words.MAX_CAPTIONS", 2)
    with pytest.raises(UserError, match="has 3 captions and must have 1 to 2"):
        words_vlm().remember(["a", "b", "c"])


def test_a_memory_needs_words():
    with pytest.raises(ValueError, match="set 'visual_words' to true"):
        ModelConfig(memory=["Katze"])


def test_formats_that_do_not_know_them_are_refused(tmp_path):
    with pytest.raises(UserError, match="visual_words"):
        save_blip2(words_vlm(), tmp_path / "out")
