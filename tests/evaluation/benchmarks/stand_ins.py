"""A predictor that answers by rule, and pictures by name: what is tested here is all around the model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from polylens.data.sample import Sample
from polylens.evaluation.generation import Generation


class ByRule:
    """Answers with `rule(sample)` in reverse order; counts what it was asked, with which settings."""

    def __init__(self, rule: Callable[[Sample], str], name: str = "by rule", **settings: object) -> None:
        self.rule, self.name, self.settings = rule, name, settings
        self.asked: list[Sample] = []
        self.generations: list[Generation] = []

    def ask_caption(self, code: str) -> str:
        return f"caption in {code}"

    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        self.generations.append(generation)
        for place in reversed(range(len(samples))):
            self.asked.append(samples[place])
            yield place, self.rule(samples[place])


class ByLength(ByRule):
    """Finds the shortest candidate the likeliest."""

    def choose(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], generation: Generation
    ) -> Iterator[tuple[int, int]]:
        for place, texts in enumerate(candidates):
            self.asked.append(samples[place])
            yield place, min(range(len(texts)), key=lambda at: len(texts[at]))


def right(sample: Sample) -> str:
    """The answer that counts."""
    return sample.turns[-1].answer


def draw(folder: Path, names: Sequence[str]) -> Path:
    """A small picture of its own colour under each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.new("RGB", (8, 8), (number * 37 % 256, number * 91 % 256, 90)).save(path, kind)
    return folder
