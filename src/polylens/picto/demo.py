"""The main job: align on English names only, then measure every language on a drawing style that no one trained on.

    picto.yaml -> train (English) -> describe Twemoji in every language -> controls, yardsticks -> results.json, report
    what needs no alignment: beside it, in a process of its own

`full` adds two runs of the same budget: each of three languages trained on its own names, and all languages mixed.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from polylens import __version__
from polylens.batching import chunks
from polylens.data.sample import Sample
from polylens.evaluation.report import Example, print_table, write_report
from polylens.files import make_writable_folder, write_atomic
from polylens.models.checkpoints.folder import load_model
from polylens.models.parts.precision import fast_dtype
from polylens.models.vlm import VisionLanguageModel
from polylens.picto import measure
from polylens.picto.measures import DESCRIBED
from polylens.picto.tasks import pictures
from polylens.picto.workers import beside, each_part
from polylens.progress import progress_bar
from polylens.recipe import Recipe, load_recipe
from polylens.training.run import beginning, new_model, prepare, train

NUM_PICTURES = 500
NUM_CONTROLS = 50
NUM_EXAMPLES = 12
# Samples whose pictures a process encodes before the bar moves on.
PART = 512
NATIVE = ("de", "zh", "sw")
RECIPE = "picto"
NEXT_STEPS = [
    "Caption a pictogram of your own: `polylens caption my.png --lang de,sw,zh`.",
    "Change the recipe and train again: `polylens train picto stages.2.steps=2000 seed=1`.",
    "See what native and mixed training add at equal budget: `polylens demo --full`.",
]


@dataclass
class Clock:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 1)


@dataclass
class Demo:
    """One demo run; everything it writes lies in `out`. It trains and measures in `dtype`."""

    out: Path
    console: Console
    dtype: torch.dtype = field(default_factory=fast_dtype)
    clock: Clock = field(default_factory=Clock)

    def run(
        self, *, full: bool = False, seeds: Sequence[int] = (0,), num_pictures: int | None = NUM_PICTURES
    ) -> dict[str, Any]:
        """Align, measure, and write results.json, report.html and PNGs. Returns the results.

        Raises `UserError` when `out` cannot be written.
        """
        make_writable_folder(self.out)
        drawn = pictures("test", num_concepts=num_pictures)
        recipe = self._recipe(seeds[0])
        runs = [self._one_seed(seed, drawn) for seed in seeds]
        averaged = average([results for results, _ in runs])
        results = {
            "title": "English-only alignment, measured in every language",
            "measures": DESCRIBED,
            "model": RECIPE,
            "polylens_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **averaged,
            # The worst language on average, which need not be the worst of any seed.
            **measure.summary(averaged["languages"]),
        }
        if len(seeds) > 1:
            results["by_seed"] = [headline(seed, one) for seed, (one, _) in zip(seeds, runs, strict=True)]
        if full:
            results["baselines"] = {
                "native": self._native(drawn, seeds[0]),
                "mix": self._mix(drawn, seeds[0]),
            }
        results |= {
            "n": len(drawn),
            "seeds": list(seeds),
            "seconds": self.clock.seconds,
            "settings": {
                "recipe": json.loads(recipe.model_dump_json()),
                "style": "twemoji",
                "pictures": len(drawn),
                "control_pictures": NUM_CONTROLS,
                "candidates": measure.NUM_CANDIDATES,
                "generation": {"num_beams": 1, "max_new_tokens": measure.MAX_NEW_TOKENS},
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            "next_steps": NEXT_STEPS,
        }
        with self.clock.phase("report"):
            write_report(results, examples(runs[0][1]), self.out)
        write_atomic(self.out / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
        print_table(results, self.console)
        for row in results.get("by_seed", []):
            exact, choice = row["exact_match"], row["choice_accuracy"]
            self.console.print(f"Seed {row['seed']}: English {exact:.1%} exact match, {choice:.1%} choice")
        return results

    def _recipe(self, seed: int, languages: Sequence[str] = (measure.PIVOT,)) -> Recipe:
        precision = str(self.dtype).removeprefix("torch.")
        changes = [f"seed={seed}", f"data.languages=[{', '.join(languages)}]", f"precision={precision}"]
        return load_recipe(RECIPE, changes)

    def _align(self, recipe: Recipe, name: str) -> VisionLanguageModel:
        with self.clock.phase("alignment"):
            return load_model(train(recipe, out=self.out / "runs" / name, report=self.console), self.dtype)

    def _one_seed(self, seed: int, drawn: Sequence[measure.Drawn]) -> tuple[dict[str, Any], measure.Answers]:
        recipe = self._recipe(seed)
        torch.manual_seed(seed)
        start, samples, _ = beginning(recipe)
        assert isinstance(start, VisionLanguageModel)
        languages = start.config.language_model.languages or [measure.PIVOT]
        shown = drawn[:: max(1, len(drawn) // NUM_CONTROLS)]
        self.console.rule(f"1  Align on English names (seed {seed})")
        self._encode(recipe, start, samples)
        start.to(self.dtype)
        with beside(lambda: unaligned(start, drawn, shown, languages), start.device) as known:
            model = self._align(recipe, f"english-{seed}")
            with self.clock.phase("controls"), self.console.status("text ceiling and controls"):
                ceiling, blind, before = known()
        self.console.rule(f"2  Measure {len(languages)} languages on {len(drawn)} unseen drawings")
        # Held-out concepts in the same batches: their pictures show captions that others show as well.
        measured = [*drawn, *pictures("heldout")]
        with (
            self.clock.phase("measurement"),
            progress(self.console, "answers", len(measured) * len(languages)) as advance,
        ):
            both = measure.describe(model, measured, languages, advance=advance)
        answers, unseen = both[: len(drawn)], both[len(drawn) :]
        rows = measure.language_rows(answers)
        results = {
            "languages": rows,
            **measure.summary(rows),
            "heldout_concepts": measure.language_rows(unseen),
        }
        self.console.rule("3  Yardsticks and controls")
        with (
            self.clock.phase("yardsticks"),
            progress(self.console, "translate-test", len(drawn) * (len(languages) - 1)) as advance,
        ):
            # Most of what is said is a name that the text ceiling has translated, too.
            names = measure.names_of(drawn, measure.PIVOT)
            dictionary = {code: dict(zip(names, texts, strict=True)) for code, texts in ceiling.items()}
            translated = measure.from_text(
                model, drawn, answers.said[measure.PIVOT], languages, known=dictionary, advance=advance
            )
        results["text_ceiling"] = _exact_by_language(ceiling, drawn)
        results["translate_test"] = _exact_by_language(translated, drawn)
        with (
            self.clock.phase("controls"),
            progress(self.console, "other pictures", len(shown) * len(languages)) as advance,
        ):
            others = [each for each in pictures("test") if each not in set(drawn)][: len(shown)] or shown[
                ::-1
            ]
            swapped = measure.describe(model, others, languages, choose=False, advance=advance)
        results["controls"] = {
            "no_image": measure.mean_exact(blind.said, shown),
            "other_image": measure.mean_exact(swapped.said, others),
            "before_alignment": measure.mean_exact(before.said, shown),
        }
        results["choice_controls"] = {
            "no_image": measure.mean_choice(blind),
            "before_alignment": measure.mean_choice(before),
        }
        return results, answers

    def _encode(self, recipe: Recipe, model: VisionLanguageModel, samples: Sequence[Sample]) -> None:
        """All pictures in the cache, by as many processes as there are threads: training itself has but one."""
        parts = chunks(samples, PART)
        with (
            self.clock.phase("alignment"),
            progress(self.console, "pictures encoded", len(samples)) as advance,
        ):
            for part, _ in each_part(lambda part: prepare(recipe, model, part), parts, model.device):
                advance(len(part))

    def _native(self, drawn: Sequence[measure.Drawn], seed: int) -> dict[str, Any]:
        """Each of three languages trained on its own names, with the budget of the English run."""
        rows: dict[str, Any] = {}
        for code in NATIVE:
            self.console.rule(f"Native baseline: {code}")
            model = self._align(self._recipe(seed, [code]), f"native-{code}")
            with self.clock.phase("baselines"):
                rows |= measure.language_rows(measure.describe(model, drawn, [code]))
        return rows

    def _mix(self, drawn: Sequence[measure.Drawn], seed: int) -> dict[str, Any]:
        """All languages mixed, as mBLIP does, with the budget of the English run."""
        self.console.rule("Mixed baseline: all languages")
        start = new_model(self._recipe(seed))
        languages = start.config.language_model.languages or [measure.PIVOT]
        model = self._align(self._recipe(seed, languages), "mix")
        with self.clock.phase("baselines"):
            return measure.language_rows(measure.describe(model, drawn, languages))


def unaligned(
    model: VisionLanguageModel,
    drawn: Sequence[measure.Drawn],
    shown: Sequence[measure.Drawn],
    languages: Sequence[str],
) -> tuple[dict[str, list[str]], measure.Answers, measure.Answers]:
    """What needs no alignment, which leaves the language model as it is: the text ceiling of what is `drawn`, and for
    what is `shown` the answers without pictures and those before re-alignment.
    """
    return (
        measure.from_text(model, drawn, measure.names_of(drawn, measure.PIVOT), languages),
        measure.without_pictures(model, shown, languages),
        measure.describe(model, shown, languages),
    )


def examples(answers: measure.Answers) -> list[Example]:
    """A few pictures with what was said of them, for the report."""
    step = max(1, len(answers.drawn) // NUM_EXAMPLES)
    found: list[Example] = []
    for at in range(0, len(answers.drawn), step)[:NUM_EXAMPLES]:
        concept, style = answers.drawn[at]
        found.append(
            {
                "picture": concept.picture(style).load(),
                "title": concept.name(measure.PIVOT) or "",
                "answers": {
                    code: {
                        "said": said[at],
                        "wanted": concept.name(code) or "",
                        "right": bool(measure.exact([said[at]], [answers.drawn[at]], code)[0]),
                    }
                    for code, said in answers.said.items()
                },
            }
        )
    return found


def headline(seed: int, results: Mapping[str, Any]) -> dict[str, Any]:
    """What one seed reached, in a few numbers."""
    english = results["languages"][measure.PIVOT]
    means = {key: value for key, value in results.items() if key.endswith("_pivot_ratio")}
    return {"seed": seed, **{key: english[key] for key in ("exact_match", "choice_accuracy")}, **means}


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[measure.Advance]:
    """A bar; gives what moves it on."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _exact_by_language(said: Mapping[str, Sequence[str]], drawn: Sequence[measure.Drawn]) -> dict[str, float]:
    return {code: sum(measure.exact(texts, drawn, code)) / len(drawn) for code, texts in said.items()}


def average(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers averaged over runs, place by place; what is no number is the first run's."""
    first = trees[0]
    averaged: dict[str, Any] = {}
    for key, value in first.items():
        values = [tree.get(key) for tree in trees]
        if isinstance(value, Mapping):
            averaged[key] = average([v for v in values if isinstance(v, Mapping)])
        elif isinstance(value, list) and value and all(isinstance(v, list) for v in values):
            averaged[key] = [sum(column) / len(values) for column in zip(*values, strict=True)]
        elif isinstance(value, float) and all(isinstance(v, int | float) for v in values):
            averaged[key] = sum(values) / len(values)  # type: ignore[arg-type]
        else:
            averaged[key] = value
    return averaged
