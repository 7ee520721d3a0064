"""What the demo spends its time on, as plainly as one would write it and as Polylens does it.

  views      pictures in changed styles, one by one in a loop, or a batch at once, each picture read once
  encoder    Picto's image encoder, channels first, or channels last as on CPUs
  languages  English names put into six languages with all threads, or a process for each of them (on Linux)

Results must agree before any time counts. Prints seconds, medians of five turns, and what part of the time is left.

    python benchmarks/demo_steps.py            a minute on two cores
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from _machine import print_machine
from torch import Tensor

from polylens.commands.common import quiet_libraries
from polylens.models.checkpoints.folder import load_model
from polylens.models.parts.precision import fast_dtype
from polylens.models.vlm import VisionLanguageModel
from polylens.picto import measure
from polylens.picto.tasks import Drawn, pictures
from polylens.recipe import Augmentation
from polylens.training.augment import View, augment, load_views

LANGUAGES = ("de", "zh", "sw", "ar", "hi", "ru")
TURNS = 5

Side = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=64, help="of every part")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    quiet_libraries()
    torch.manual_seed(0)
    model = load_model("picto", fast_dtype("cpu")).eval()
    print_machine(dtype=fast_dtype("cpu"), pictures=arguments.pictures, turns=arguments.turns)
    print(f"{'':10} {'plain':>9} {'Polylens':>9}  of the time (least to most)")
    drawn = pictures("test", num_concepts=arguments.pictures)
    with torch.no_grad():
        compare("views", *views(drawn), arguments.turns)
        compare("encoder", *encoder(model, arguments.pictures), arguments.turns)
    compare("languages", *languages(model, drawn), arguments.turns)


def compare(name: str, plain: Side, ours: Side, turns: int) -> None:
    """Both sides in turns, after one that is not counted."""
    spent: dict[Side, list[float]] = {plain: [], ours: []}
    plain(), ours()
    for _ in range(turns):
        for side, seconds in spent.items():
            start = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(*spent.values(), strict=True)]
    one, other = (statistics.median(seconds) for seconds in spent.values())
    print(f"{name:10} {one:9.3f} {other:9.3f}  {other / one:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def views(drawn: list[Drawn]) -> tuple[Side, Side]:
    settings, size = Augmentation(flip=True, style=True, views=2), (64, 64)
    wanted = [View(concept.picture(style), number) for concept, style in drawn for number in (1, 2)]

    def plain() -> list[bytes]:
        made = (augment(view.picture.load(), view.name, settings, size) for view in wanted)
        return [image.tobytes() for image in made]

    def ours() -> list[bytes]:
        return [image.tobytes() for image in load_views(wanted, settings, size)]

    assert plain() == ours()
    return plain, ours


def encoder(model: VisionLanguageModel, count: int) -> tuple[Side, Side]:
    pixels = torch.rand(count, 3, 64, 64)

    def plain() -> Tensor:
        states = model.vision.model(pixel_values=pixels.to(model.vision.model.dtype)).last_hidden_state
        return states.flatten(2).transpose(1, 2)

    def ours() -> Tensor:
        return model.encode(pixels)

    assert torch.allclose(plain().float(), ours().float(), atol=0.1)
    return plain, ours


def languages(model: VisionLanguageModel, drawn: list[Drawn]) -> tuple[Side, Side]:
    names = [concept.name("en") or "" for concept, _ in drawn]

    def plain() -> dict[str, list[str]]:
        # One language alone is not shared out.
        return {code: measure.translate(model, names, [code])[code] for code in LANGUAGES}

    def ours() -> dict[str, list[str]]:
        return measure.translate(model, names, LANGUAGES)

    texts, others = plain(), ours()
    same = [a == b for code in LANGUAGES for a, b in zip(texts[code], others[code], strict=True)]
    assert sum(same) >= 0.98 * len(same), "other threads round sums otherwise, and hardly a text may change"
    return plain, ours


if __name__ == "__main__":
    main()
