"""A translation in a process of its own, which a test kills: LOG of what the engine was shown, CACHE, OUT, seconds."""

import sys
import time
from pathlib import Path

from tests.data.translation.backwards import Backwards

from polylens.data.sample import Sample, Turn
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.run import Plan, translate_samples


class Slow(Backwards):
    seconds = 0.0

    def translate(self, texts, source, target):
        time.sleep(self.seconds)
        return super().translate(texts, source, target)


def samples():
    return [
        Sample(
            f"s{i}",
            (),
            (Turn("", f"the caption of picture {chr(97 + i % 26)}{i}"),),
            "en",
            "caption",
            "made-up",
        )
        for i in range(200)
    ]


def run(log: Path, cache: Path, out: Path, seconds: float) -> None:
    engine = Slow(log)
    engine.seconds = seconds
    with TranslationCache(cache, engine.fingerprint) as translations:
        translate_samples(samples, Plan(["ceb", "wo"]), engine, translations, out, batch_size=5)


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:4]), float(sys.argv[4]))
