"""Check `polylens plan` against reality: peak memory and time of real training steps on this CPU, beside its estimates.

    python benchmarks/plan/measure.py [--steps 3] [--sizes small,medium]

Every model is measured in a process of its own: peak resident memory above what it had before the model, and the
median time of a step after the first. The estimate of time takes the speed of a matrix product measured here. Prints a
Markdown table, each row when it is measured; two minutes on two free cores.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

SIZES = {"small": (256, 4), "medium": (512, 8), "large": (768, 12)}
# (language model, whether adapters train instead of everything, precision) of each size's rows.
ROWS = (
    ("llama", False, "float32"),
    ("llama", True, "bfloat16"),
    ("mt5", False, "float32"),
    ("mt5", True, "bfloat16"),
)
VOCABULARY = 8000
PROMPT, ANSWER, BATCH = 20, 25, 8


def settings(folder: Path, kind: str, lora: bool, precision: str) -> dict[str, Any]:
    """The recipe that is measured: everything but the encoder trains, or LoRA does."""
    whole: Any = {"lora": {"rank": 8}, "learning_rate": 1e-4} if lora else 1e-4
    return {
        "name": kind,
        "precision": precision,
        "model": {
            "vision": {"path": str(folder / "vision")},
            "resampler": {"kind": "qformer", "num_tokens": 32, "width": 192, "depth": 4, "num_heads": 4},
            "language_model": {"path": str(folder / kind)},
        },
        "data": {"source": "picto", "split": "train"},
        "augmentation": {"views": "off"},
        "stages": [
            {
                "name": "all",
                "table": {"projector.*": 1e-4, "resampler.*": 1e-4, "language_model.*": whole},
                "batch_size": BATCH,
                "steps": 1,
            }
        ],
    }


def save_parts(folder: Path, width: int, depth: int) -> None:
    """A random encoder, decoder and encoder-decoder of that size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        LlamaConfig,
        MT5Config,
        PreTrainedTokenizerFast,
        ViTConfig,
        ViTModel,
    )

    from polylens.data.images import ImageProcessor

    ids = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": VOCABULARY}
    heads = {"num_attention_heads": width // 64, "num_hidden_layers": depth}
    vit = ViTConfig(hidden_size=width, intermediate_size=4 * width, image_size=112, patch_size=14, **heads)
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "vision")
    half = (0.5, 0.5, 0.5)
    ImageProcessor(height=112, width=112, mean=half, std=half).save(folder / "vision")
    llama = LlamaConfig(hidden_size=width, intermediate_size=3 * width, **heads, **ids)
    AutoModelForCausalLM.from_config(llama).save_pretrained(folder / "llama")
    mt5 = MT5Config(
        d_model=width,
        d_ff=2 * width,
        d_kv=64,
        num_heads=width // 64,
        num_layers=depth // 2,
        decoder_start_token_id=0,
        **ids,
    )
    AutoModelForSeq2SeqLM.from_config(mt5).save_pretrained(folder / "mt5")
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    for kind in ("llama", "mt5"):
        fast.save_pretrained(folder / kind)


def measure(given: dict[str, Any], steps: int) -> dict[str, float]:
    """Peak memory and time of real steps, in this process."""
    from PIL import Image

    from polylens.data.sample import Sample, Turn
    from polylens.recipe import Recipe
    from polylens.training.optimizer import build_optimizer
    from polylens.training.run import new_model
    from polylens.training.stages import apply_stage

    class Noise:
        key = "noise"

        def load(self) -> Image.Image:
            return Image.new("RGB", (112, 112), "red")

    recipe = Recipe.model_validate(given)
    before = _resident()
    model = new_model(recipe)
    plan = apply_stage(model, recipe.stages[0])
    optimizer = build_optimizer(model, plan)
    prompt = " ".join(f"w{number}" for number in range(10, 10 + PROMPT))
    answer = " ".join(f"w{number}" for number in range(50, 50 + ANSWER - 1))
    samples = [Sample(str(i), (Noise(),), (Turn(prompt, answer),), "en", "caption", "") for i in range(BATCH)]
    batch = model.collator()(samples)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak - before, "seconds": statistics.median(seconds[1:] or seconds)}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def speed(precision: str) -> float:
    """FLOP/s of a matrix product of the size that training has."""
    dtype = getattr(torch, precision)
    rows, weight = torch.randn(512, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    torch.nn.functional.linear(rows, weight)
    start = time.perf_counter()
    for _ in range(20):
        torch.nn.functional.linear(rows, weight)
    return 20 * 2 * 512 * 1024 * 1024 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--sizes", default="small,medium", help="of small, medium, large")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child), arguments.steps)))
        return
    from polylens.recipe import Recipe
    from polylens.training.plan import plan_recipe
    from polylens.training.walk import Length

    print(
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {platform.processor() or platform.machine()},"
    )
    print(
        f"{torch.get_num_threads()} threads; batch {BATCH}, {PROMPT} + {ANSWER} text tokens, 112 px.\n",
        flush=True,
    )
    print(
        "| model | trained | precision | peak planned | peak measured | ratio | s/step at full speed | measured |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|", flush=True)
    for size in arguments.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            save_parts(Path(folder), *SIZES[size])
            for kind, lora, precision in ROWS:
                print(f"measuring {kind} {size} ...", file=sys.stderr)
                given = settings(Path(folder), kind, lora, precision)
                recipe = Recipe.model_validate(given)
                (planned,) = plan_recipe(recipe, 10**12, speed(precision), Length(PROMPT, ANSWER), context=0)
                command = [
                    sys.executable,
                    __file__,
                    "--steps",
                    str(arguments.steps),
                    "--child",
                    json.dumps(given),
                ]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"| {kind} {size} | {'LoRA' if lora else 'all'} | {precision} | {planned.total / 2**20:.0f} MiB "
                    f"| {found['peak'] / 2**20:.0f} MiB | {found['peak'] / planned.total:.2f} "
                    f"| {planned.seconds:.2f} | {found['seconds']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
