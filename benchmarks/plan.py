"""Check `polylens plan` against reality: peak memory and time of real training steps on this CPU, beside its estimates.

    python benchmarks/plan.py [--steps 3] [--sizes small,medium]

Every model is measured in a process of its own, on one thread: peak resident memory of the steps (loading may take
more, and what the allocator keeps of it is given back) above what it had before the model, and the processor time of
a step (the median of those after the first), so that what else the machine does matters little. The estimate of time
takes the speed of a matrix product measured in the same way. Prints a Markdown table, each row when it is measured;
two minutes on a free core.
"""

import argparse
import ctypes
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from polylens.commands.common import quiet_libraries

# (width, layers)
SIZES = {"tiny": (64, 2), "small": (256, 4), "medium": (512, 8), "large": (768, 12)}
# (language model, whether adapters train instead of everything, precision) of each size's rows.
ROWS = (
    ("llama", False, "float32"),
    ("llama", True, "bfloat16"),
    ("mt5", False, "float32"),
    ("mt5", True, "bfloat16"),
)
VOCABULARY = 8000
M_MMAP_THRESHOLD = -3  # of glibc's mallopt
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


def measure(given: dict[str, Any], steps: int) -> tuple[int, float]:
    """(bytes at the peak above those before, processor seconds of a step) of real steps, in this process."""
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
    before = _memory("VmRSS")
    model = new_model(recipe)
    plan = apply_stage(model, recipe.stages[0])
    optimizer = build_optimizer(model, plan)
    prompt = " ".join(f"w{number}" for number in range(10, 10 + PROMPT))
    answer = " ".join(f"w{number}" for number in range(50, 50 + ANSWER - 1))
    samples = [Sample(str(i), (Noise(),), (Turn(prompt, answer),), "en", "caption", "") for i in range(BATCH)]
    batch = model.collator()(samples)
    ctypes.CDLL(None).malloc_trim(0)  # What loading has freed goes back to the system,
    Path("/proc/self/clear_refs").write_text("5")  # and the peak counts from here.
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - start)
    return _memory("VmHWM") - before, statistics.median(seconds[1:] or seconds)


def measure_warm(small: dict[str, Any], given: dict[str, Any], steps: int) -> tuple[int, float]:
    """The same after a step of a small model, so that code which is loaded when first run does not count."""
    measure(small, 1)
    return measure(given, steps)


def _memory(key: str) -> int:
    """Bytes that /proc says of this process: resident now (VmRSS), or at the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def speed(precision: str) -> float:
    """FLOP/s of a matrix product of the size that training has."""
    dtype = getattr(torch, precision)
    rows, weight = torch.randn(512, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    torch.nn.functional.linear(rows, weight)
    start = time.process_time()
    for _ in range(20):
        torch.nn.functional.linear(rows, weight)
    return 20 * 2 * 512 * 1024 * 1024 / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--sizes", default="small,medium", help="of small, medium, large")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    quiet_libraries()
    torch.set_num_threads(1)
    # Freed tensors of more than 64 KiB go back to the system at once, or the peak would count holes between others.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
    print(f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {cpu()}, one thread;", flush=True)
    print(f"batch {BATCH}, {PROMPT} + {ANSWER} text tokens, 112 px.\n", flush=True)
    heads = (
        "model",
        "trained",
        "precision",
        "peak planned",
        "measured",
        "ratio",
        "s/step at full speed",
        "measured",
    )
    print(f"| {' | '.join(heads)} |\n|---|---|---|{'---:|' * 5}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_parts(folder / "tiny", *SIZES["tiny"])
        for size in arguments.sizes.split(","):
            save_parts(folder / size, *SIZES[size])
            for kind, lora, precision in ROWS:
                print(row(folder, size, kind, lora, precision, arguments.steps), flush=True)


def row(folder: Path, size: str, kind: str, lora: bool, precision: str, steps: int) -> str:
    """A row of the table, measured in a process that ends with it."""
    from polylens.recipe import Recipe
    from polylens.training.plan import plan_recipe
    from polylens.training.trainable import Length

    small, given = (settings(folder / each, kind, lora, precision) for each in ("tiny", size))
    recipe = Recipe.model_validate(given)
    (planned,) = plan_recipe(recipe, 10**12, speed(precision), Length(PROMPT, ANSWER), context=0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        peak, seconds = pool.apply(measure_warm, (small, given, steps))
    return (
        f"| {kind} {size} | {'LoRA' if lora else 'all'} | {precision} | {planned.total / 2**20:.0f} MiB "
        f"| {peak / 2**20:.0f} MiB | {peak / planned.total:.2f} | {planned.seconds:.2f} | {seconds:.2f} |"
    )


def cpu() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
