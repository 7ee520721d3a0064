"""Cross-attention that a sample's rows share, against transformers' own attention to copies of it."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from polylens.models.decoding.shared_attention import attend

SAMPLES, HEADS, TOKENS, WIDTH = 3, 2, 7, 4


class Layer(torch.nn.Module):
    """What attention functions ask of a layer."""

    is_causal = True


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_rows_of_a_sample_see_what_copies_would_show_them(beams: int, masked: bool, biased: bool) -> None:
    torch.manual_seed(0)
    query = torch.randn(SAMPLES * beams, HEADS, 1, WIDTH)
    key, value = torch.randn(2, SAMPLES, HEADS, TOKENS, WIDTH)
    mask = None
    if masked:
        mask = torch.rand(SAMPLES, 1, 1, TOKENS).gt(0.4).repeat_interleave(beams, 0)
        mask[..., 0] = True
    bias = torch.randn(1, HEADS, 1, TOKENS) if biased else None
    found, _ = attend(Layer(), query, key, value, mask, position_bias=bias, scaling=0.7)
    copies = [states.repeat_interleave(beams, 0) for states in (key, value)]
    expected, _ = sdpa_attention_forward(Layer(), query, *copies, mask, position_bias=bias, scaling=0.7)
    assert found.shape == expected.shape == (SAMPLES * beams, 1, HEADS, WIDTH)
    assert torch.allclose(found, expected, atol=1e-6)


def test_queries_fewer_than_keys_are_left_to_transformers():
    torch.manual_seed(0)
    query, key = torch.randn(1, HEADS, 5, WIDTH), torch.randn(SAMPLES, HEADS, TOKENS, WIDTH)
    found, _ = attend(Layer(), query, key, key, None, is_causal=False)
    expected, _ = sdpa_attention_forward(Layer(), query, key, key, None, is_causal=False)
    assert torch.equal(found, expected)
