"""Beam search on a language model whose every probability can be written down, worked out by hand.

After a token only that token decides what follows (a Markov chain), whatever the picture and the prompt:

    start -> a 0.50   b 0.40   end 0.10
    a     -> a 0.36   b 0.34   end 0.30
    b     -> a 0.05   b 0.05   end 0.90

    answer (end included)   probability                 log      / length   x length (penalty -1)
    end                     0.10                        -2.303   -2.303     -2.303
    a end                   0.50 x 0.30 = 0.150         -1.897   -0.949     -3.794
    b end                   0.40 x 0.90 = 0.360         -1.022   -0.511     -2.043
    a b end                 0.50 x 0.34 x 0.90 = 0.153  -1.877   -0.626     -5.632
    a a end                 0.50 x 0.36 x 0.30 = 0.054  -2.919   -0.973     -8.756
"""

import pytest
import torch
from tests.models.tiny_models import PROCESSOR, RESAMPLERS, sample, tiny_tokenizer, tiny_vision
from transformers import LlamaConfig, LlamaForCausalLM

from polylens.models.checkpoints.build import compose
from polylens.models.config import ModelConfig
from polylens.models.vlm import VisionLanguageModel

END, START, A, B = 1, -1, 4, 5  # START: "." is the last token of the prompt; a and b are the letters
CHAIN = {
    START: {A: 0.50, B: 0.40, END: 0.10},
    A: {A: 0.36, B: 0.34, END: 0.30},
    B: {A: 0.05, B: 0.05, END: 0.90},
}


def chain_model() -> VisionLanguageModel:
    """A Llama whose one layer adds nothing, one-hot embeddings, and the chain in its output head."""
    tokenizer = tiny_tokenizer(False)
    size = len(tokenizer)
    assert tokenizer("ab.", add_special_tokens=False).input_ids == [
        A,
        B,
        tokenizer.convert_tokens_to_ids("."),
    ]
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=size,
        rms_norm_eps=1e-12,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=2,
    )
    lm = LlamaForCausalLM(config)
    with torch.no_grad():
        lm.model.layers[0].self_attn.o_proj.weight.zero_()
        lm.model.layers[0].mlp.down_proj.weight.zero_()
        lm.model.embed_tokens.weight.copy_(torch.eye(size, 64))
        head = torch.full((size, 64), -1e4)
        for token, following in CHAIN.items():
            at = tokenizer.convert_tokens_to_ids(".") if token == START else token
            for then, probability in following.items():
                # The norm makes a one-hot row of 64 numbers 8 times as long.
                head[then, at] = torch.tensor(probability).log() / 8
        lm.lm_head.weight.copy_(head)
    settings = ModelConfig(resampler=RESAMPLERS["perceiver"])
    return compose(settings, tiny_vision("vit"), lm, tokenizer, PROCESSOR).eval()


def test_the_model_has_the_probabilities_of_the_table() -> None:
    scores = chain_model().score([sample("x.")], [["", "a", "b", "ab", "aa"]])[0]
    table = (0.10, 0.150, 0.360, 0.153, 0.054)
    assert torch.tensor(scores).exp().tolist() == pytest.approx(table, rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        # Greedy takes a, and then a for ever: 0.36 beats the end's 0.30.
        ({"num_beams": 1}, "a a a a"),
        # Once a is said, its 0.36 becomes 0.36 ** 1.3 = 0.26, below the 0.34 of b, after which the end comes.
        ({"num_beams": 1, "repetition_penalty": 1.3}, "a b"),
        # Two beams keep a (0.50) and b (0.40); "b end" is the best there is, by sum as by mean.
        ({"num_beams": 2, "length_penalty": 0.0}, "b"),
        ({"num_beams": 2, "length_penalty": 1.0}, "b"),
        # The mean times its own length once more: -2.043 beats the empty answer's -2.303.
        ({"num_beams": 3, "length_penalty": -1.0}, "b"),
        # With twice -2: -1.022 x 4 = -4.09, and the empty answer -2.303 x 1 wins.
        ({"num_beams": 3, "length_penalty": -2.0}, ""),
        # With +3 long answers win: -1.877 / 27 = -0.070 beats -1.022 / 8 = -0.128; none is longer within 3 tokens.
        ({"num_beams": 3, "length_penalty": 3.0, "max_new_tokens": 3}, "a b"),
    ],
)
def test_every_search_finds_what_the_hand_found(setting: dict[str, float], answer: str) -> None:
    model = chain_model()
    for samples in ([sample("x.")], [sample("x."), sample("A longer prompt.", pictures=(1, 2))]):
        found = model.generate(samples, **({"max_new_tokens": 4} | setting))
        assert found == [answer] * len(samples)
