"""Drawing: the published VisCPM-Paint procedure against Polylens, at equal size, on random weights.

The peer draws as published: for each of 4 candidates a call of its own that encodes prompt and empty prompt anew (with
logits, as the forward pass gives them), float32, 50 DDPM steps, guidance 7.5.

    same work     the same sampler, steps, precision and candidates; latents must agree first
    then, one by one on top: fewer steps (DPM-Solver++ 20), bfloat16, no reranker's candidates (1 image drawn, not 4)

`fd_picto` is not measured here: random weights draw nothing. `polylens demo --paint` gives it for the packaged painter.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from _machine import print_machine
from diffusers import DDPMScheduler
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from polylens.painting.build import build_painter
from polylens.painting.config import PainterConfig
from polylens.painting.painter import Painter
from polylens.painting.sampling import Sampling
from polylens.picto import parts_folder

PROMPT = "ein Hund im Schnee"
CANDIDATES, GUIDANCE = 4, 7.5
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"channels": [32, 64], "layers": 1, "latents": 8, "lm": 64, "lm_layers": 2},
    "mid": {"channels": [128, 256, 384], "layers": 2, "latents": 32, "lm": 768, "lm_layers": 12},
}


def build(size: dict[str, Any], folder: Path) -> tuple[Painter, LlamaForCausalLM]:
    """A painter in latents (which stay latents: the same decoder would follow on both sides), and its whole LM."""
    tokenizer = AutoTokenizer.from_pretrained(parts_folder() / "decoder")
    torch.manual_seed(0)
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size["lm"],
            intermediate_size=4 * size["lm"],
            num_hidden_layers=size["lm_layers"],
            num_attention_heads=size["lm"] // 32,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    language_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    down = ["CrossAttnDownBlock2D"] * (len(size["channels"]) - 1) + ["DownBlock2D"]
    denoiser = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": size["latents"],
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": size["layers"],
        "block_out_channels": size["channels"],
        "down_block_types": down,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (len(down) - 1),
        "cross_attention_dim": size["lm"],
        "attention_head_dim": 4,
        "norm_num_groups": 16,
    }
    config = {"text": {"path": str(folder)}, "denoiser": {"config": denoiser}, "size": size["latents"]}
    return build_painter(PainterConfig.model_validate(config)), language_model.eval()


@torch.no_grad()
def published(
    painter: Painter, language_model: LlamaForCausalLM, seeds: list[int], steps: int, count: list[int]
) -> torch.Tensor:
    """The published procedure, image by image; `count` hears of UNet evaluations (of one row each)."""
    scheduler = DDPMScheduler.from_config(painter.schedule)
    tokenizer = painter.text.tokenizer
    side = painter.config.size
    drawn = []
    for seed in seeds:
        ids = [tokenizer(text).input_ids or [tokenizer.eos_token_id] for text in ("", PROMPT)]
        length = max(map(len, ids))
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
        padded = torch.tensor([row + [0] * (length - len(row)) for row in ids])
        states = language_model(
            input_ids=padded, attention_mask=mask, output_hidden_states=True
        ).hidden_states[-1]
        context, _ = painter.bridge(states, None)
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn((1, 3, side, side), generator=generator)
        scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps:
            output = painter.denoiser(
                torch.cat([latents] * 2),
                timestep,
                encoder_hidden_states=context,
                encoder_attention_mask=mask.bool(),
            ).sample
            count[0] += 2
            away, towards = output.chunk(2)
            latents = scheduler.step(
                away + GUIDANCE * (towards - away), timestep, latents, generator=generator
            ).prev_sample
        drawn.append(latents)
    return torch.cat(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="smoke", help="of the random models")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="of the published procedure")
    parser.add_argument("--compile", action="store_true", help="also measure a compiled denoiser")
    arguments = parser.parse_args()
    seeds = list(range(CANDIDATES))
    with tempfile.TemporaryDirectory() as folder:
        painter, language_model = build(SIZES[arguments.size], Path(folder))
    parameters = sum(p.numel() for p in painter.denoiser.parameters())
    print_machine(diffusers=diffusers.__version__, size=arguments.size, unet=f"{parameters:,}", seed=0)

    count = [0]

    def ours(settings: Sampling, images: int) -> Callable[[], torch.Tensor]:
        def draw() -> torch.Tensor:
            evaluations = 2 * images
            return painter.latents(
                [PROMPT] * images,
                seeds[:images],
                settings,
                advance=lambda steps: count.__setitem__(0, count[0] + evaluations * steps),
            )

        return draw

    def peer() -> torch.Tensor:
        return published(painter, language_model, seeds, arguments.steps, count)

    same = Sampling(sampler="ddpm", steps=arguments.steps, guidance=GUIDANCE)
    fewer = Sampling(sampler="dpm++", steps=20, guidance=GUIDANCE)
    wanted = peer()
    difference = (ours(same, CANDIDATES)() - wanted).abs().max() / wanted.abs().max()
    if difference > 1e-3:
        raise SystemExit(
            f"The latents differ by {difference:.1e} of the largest: faster and wrong does not count."
        )
    print(f"latents agree to {difference:.1e} of the largest")
    painter.speed_up()
    base = compare("published", peer, "same work", ours(same, CANDIDATES), arguments.turns, count)
    before = step("+ DPM-Solver++ 20", ours(fewer, CANDIDATES), base, base, arguments.turns, count)
    painter.to(torch.bfloat16)
    before = step("+ bfloat16", ours(fewer, CANDIDATES), base, before, arguments.turns, count)
    before = step("+ no candidates", ours(fewer, 1), base, before, arguments.turns, count)
    if arguments.compile:
        painter.speed_up(compiled=True)
        step("+ compiled", ours(fewer, 1), base, before, arguments.turns, count)


def seconds(draw: Callable[[], torch.Tensor], count: list[int]) -> tuple[float, int]:
    count[0] = 0
    start = time.perf_counter()
    draw()
    return time.perf_counter() - start, count[0]


def compare(
    peer_name: str,
    peer: Callable[[], torch.Tensor],
    name: str,
    draw: Callable[[], torch.Tensor],
    turns: int,
    count: list[int],
) -> tuple[float, float]:
    """(median of the peer, median of ours), in turns."""
    found = [(seconds(peer, count), seconds(draw, count)) for _ in range(turns)]
    medians = []
    for at, label in enumerate((peer_name, name)):
        times = [pair[at][0] for pair in found]
        medians.append(statistics.median(times))
        print(
            f"{label:20} {medians[-1]:8.3f} s per returned image ({min(times):.3f} to {max(times):.3f}), "
            f"{found[0][at][1]} UNet rows"
        )
    print(f"{name}: {medians[0] / medians[1]:.2f} times as fast as {peer_name}")
    return medians[0], medians[1]


def step(
    name: str,
    draw: Callable[[], torch.Tensor],
    base: tuple[float, float],
    before: tuple[float, float],
    turns: int,
    count: list[int],
) -> tuple[float, float]:
    """One more of our defaults; its own factor, and that of all so far."""
    draw()
    found = [seconds(draw, count) for _ in range(turns)]
    median = statistics.median(time for time, _ in found)
    print(
        f"{name:20} {median:8.3f} s per returned image, {found[0][1]} UNet rows; its factor "
        f"{before[1] / median:.2f}, in all {base[0] / median:.2f} times as fast as published"
    )
    return base[0], median


if __name__ == "__main__":
    main()
