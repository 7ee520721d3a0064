"""The best of a large vocabulary against torch's own functions, and the screened head against the plain one."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.decoding.test_search import SAMPLES
from tests.models.tiny_models import LANGUAGE_MODELS, tiny_vlm
from torch import nn

from polylens.models.decoding import vocabulary
from polylens.models.decoding.scoring import Prompts, read_prompts
from polylens.models.decoding.search import Search, beam_search
from polylens.models.decoding.vocabulary import BLOCK, SCREENED, ScreenedHead, argmax, best, normaliser
from polylens.models.vlm import VisionLanguageModel

LARGE = (2 * SCREENED + 1) * BLOCK + 100


@given(st.integers(1, 12), st.integers(1, 5 * BLOCK * 12), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_best_of_a_row_are_found(count: int, size: int, seed: int) -> None:
    values = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    highest, places = best(values, count)
    assert torch.equal(highest, values.topk(min(count, size)).values)
    assert torch.equal(values.gather(1, places), highest)


@given(st.integers(1, 5 * BLOCK), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_first_of_the_highest_is_found(size: int, seed: int) -> None:
    values = torch.randn(3, size, generator=torch.Generator().manual_seed(seed)).round()
    assert torch.equal(argmax(values), values.argmax(1))


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_normaliser_is_the_logarithm_of_the_summed_exponentials(scale):
    torch.manual_seed(0)
    logits = torch.randn(5, 700) * scale
    assert torch.equal(normaliser(logits), logits.logsumexp(-1, keepdim=True))
    logits[:, 3] = -torch.inf
    assert torch.allclose(normaliser(logits), logits.double().logsumexp(-1, keepdim=True).float())


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU that multiplies fast in bfloat16; others only take longer."""
    monkeypatch.setattr(vocabulary, "has_amx", lambda: True)


def prompts_of(head: nn.Linear, states_RL: torch.Tensor) -> Prompts:
    return Prompts(head(states_RL), torch.ones(len(states_RL), 1), None, None, states_RL)


def plain_rows(head: nn.Linear) -> list[int]:
    """How many rows `head` is asked for, call by call, from now on."""
    rows: list[int] = []
    head.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    return rows


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize(("scale", "count"), [(0.02, 10), (0.3, 10), (3.0, 10), (3.0, 3 * SCREENED)])
@torch.no_grad()
def test_a_screened_head_finds_what_the_plain_one_does(scale: float, count: int) -> None:
    torch.manual_seed(0)
    head, states = nn.Linear(48, LARGE, bias=False), torch.randn(40, 48)
    head.weight.normal_(std=scale)
    plain, places, normalisers = *best(head(states), count), normaliser(head(states))
    screened = ScreenedHead.of(prompts_of(head, states), head)
    assert screened is not None
    asked = plain_rows(head)
    logits, tokens, whole = screened.best(states, count)
    assert sum(asked) <= 4, "hardly a row is computed plainly"
    assert screened.pays
    assert torch.allclose(logits, plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(tokens, places)
    # With as few as 48 numbers a state, errors average out less than they do in real models.
    assert torch.allclose(whole, normalisers, rtol=0, atol=5e-3)


@pytest.mark.usefixtures("fast_bfloat16")
@torch.no_grad()
def test_where_bfloat16_cannot_tell_tokens_apart_they_are_computed_plainly() -> None:
    torch.manual_seed(0)
    head, states = nn.Linear(48, LARGE, bias=False), torch.randn(6, 48)
    # Differences far below what bfloat16 can hold.
    head.weight.copy_(torch.randn(48) + 1e-4 * torch.randn(LARGE, 48))
    screened = ScreenedHead.of(prompts_of(head, states), head)
    assert screened is not None
    logits, tokens, whole = screened.best(states, 10)
    assert not screened.pays, "the next step is computed plainly from the start"
    plain, places = best(head(states), 10)
    assert torch.equal(logits, plain)
    assert torch.equal(tokens, places)
    assert torch.equal(whole, normaliser(head(states)))


@pytest.mark.usefixtures("fast_bfloat16")
@torch.no_grad()
def test_the_error_bound_holds_where_all_roundings_go_one_way() -> None:
    width, half = 80, 2.0**-8
    head = nn.Linear(width, LARGE, bias=False)
    head.weight.zero_()
    states = torch.full((1, width), 1 + half)
    states[0, 64:] += 2.0**-18
    head.weight[5000, :64] = 1 + half  # the best, which loses by both roundings
    head.weight[6000 : 6000 + 2 * SCREENED, :64] = 1
    head.weight[6000 : 6000 + 2 * SCREENED, 64] = 0.15 + 1e-3 * torch.rand(2 * SCREENED)
    screened = ScreenedHead.of(prompts_of(head, states), head)
    assert screened is not None
    assert screened.best(states, 4)[1][0, 0] == head(states).argmax() == 5000


@torch.no_grad()
def test_only_a_head_that_gains_by_it_is_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    states = torch.randn(3, 48)

    def screened(head: nn.Linear, cap: float = 0.0) -> bool:
        prompts = prompts_of(head, states.to(head.weight.dtype))
        if cap:
            prompts.logits[:, 1000:] = cap * torch.tanh(prompts.logits[:, 1000:] / cap)
        return ScreenedHead.of(prompts, head) is not None

    head = nn.Linear(48, LARGE, bias=False)
    monkeypatch.setattr(vocabulary, "has_amx", lambda: False)
    assert not screened(head)
    monkeypatch.setattr(vocabulary, "has_amx", lambda: True)
    assert screened(head)
    wide = nn.Linear(768, LARGE, bias=False)
    wide.weight.normal_()
    wide_states = torch.randn(3, 768)
    large_logits = prompts_of(wide, wide_states)
    large_logits.logits += 1e-4 * torch.randn_like(large_logits.logits)  # sums taken in another order
    assert ScreenedHead.of(large_logits, wide), "rounding of large logits is none of the model's doing"
    assert not screened(head, cap=30.0), "its logits are not the model's"
    assert not screened(nn.Linear(48, LARGE))
    with torch.autocast("cpu", torch.bfloat16):
        assert not screened(head)
    assert not screened(nn.Linear(48, 1000, bias=False))
    assert not screened(copy.deepcopy(head).bfloat16())


def large_vlm(lm: str) -> VisionLanguageModel:
    """A random model whose vocabulary is large enough, with answers that are not all alike."""
    torch.manual_seed(1)
    model = tiny_vlm(lm)
    model.lm.resize_token_embeddings(LARGE, mean_resizing=False)
    with torch.no_grad():
        model.lm.get_output_embeddings().weight.normal_(std=0.5)
    return model


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
def test_beams_are_the_same_with_a_screened_head(lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = large_vlm(lm), []
    visual = model.encode_pictures([picture for one in SAMPLES for picture in one.images])
    find = ScreenedHead.best
    monkeypatch.setattr(ScreenedHead, "best", lambda *args: calls.append(1) or find(*args))

    @torch.no_grad()
    def answers(amx: bool) -> list[list[int]]:
        monkeypatch.setattr(vocabulary, "has_amx", lambda: amx)
        batch = model.visual_batch(SAMPLES, visual)
        search = Search(4, 8, 1.0, 1.0, frozenset([model.tokenizer.eos_token_id]))
        return beam_search(model, read_prompts(model, batch), search)

    plain = answers(False)
    assert not calls
    assert answers(True) == plain
    assert len(calls) >= 7
