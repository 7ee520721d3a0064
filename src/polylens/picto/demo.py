"""The laboratory: two ways to align a frozen English image side to a multilingual language model, at equal budget.

    picto      (a) English captions alone, as MPM    --.
    picto-mix  (b) the same pictures in 30 languages,  +--> captions of an unseen style in every language --> table,
               as mBLIP                              --'    beside a classifier, translate-test, ceilings     report

The visual tokens are free and the loss is the language model's, so that nothing in the set-up decides who wins.
Both arms and the probe train in processes of one thread each.
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
from polylens.data.mix import Mix
from polylens.evaluation.report import Example, print_table, write_report
from polylens.files import make_writable_folder, write_atomic
from polylens.models.checkpoints.folder import load_model
from polylens.models.parts.precision import fast_dtype
from polylens.models.vlm import VisionLanguageModel
from polylens.picto import measure
from polylens.picto.lists import joined
from polylens.picto.llms import LLMS, llm_file
from polylens.picto.measure import PIVOT, Said
from polylens.picto.measures import DESCRIBED
from polylens.picto.probe import classify
from polylens.picto.prompts import prompt
from polylens.picto.scenes import Scene
from polylens.picto.table import ARMS, SIZES, Shown, average, difference, print_systems, shown_in, system
from polylens.picto.workers import each_part
from polylens.picto.world import DEVELOPMENT_STYLE, FINAL_STYLE, concepts
from polylens.progress import progress_bar
from polylens.recipe import Recipe, load_recipe
from polylens.training.loop import Trainer
from polylens.training.run import beginning, train
from polylens.training.tasks import VisionLanguageTask

RECIPES = {"english": "picto", "mix": "picto-mix"}
LLM_NOTE = (
    "A language model that was never trained on these names: 7 languages, 1,000 training scenes, 170 steps of 16, few "
    "test scenes, text ceilings with three solved examples."
)
NUM_CONTROLS = 50
NUM_EXAMPLES = 12
# Pictures that a process encodes before the bar moves on.
PART = 512
NEXT_STEPS = [
    "Caption a pictogram of your own: `polylens caption my.png --lang de,sw,zh`.",
    "Change a recipe and train again: `polylens train picto stages.1.steps=2000 seed=1`.",
    "Three seeds and every picture: `polylens demo --full --out runs/demo-full`.",
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


@dataclass(frozen=True)
class Job:
    """One process's work: train an arm into `out`, or, without, let a probe classify the scenes."""

    recipe: str
    out: Path | None = None
    shown: Sequence[Scene] = ()


def run_job(job: Job) -> Any:
    """The folder of the trained model, or the concept ids that the probe sees in each scene."""
    recipe = Recipe.model_validate_json(job.recipe)
    return train(recipe, out=job.out) if job.out else classify(recipe, job.shown)


@dataclass
class Demo:
    """One demo run in one style. It trains and measures in `dtype`.

    Models lie in `out/runs`, where a later run finds them; the results in `out`, of the final style in `out/final`.
    """

    out: Path
    console: Console
    style: str = DEVELOPMENT_STYLE
    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)
    llm: str | None = None
    dtype: torch.dtype = field(default_factory=fast_dtype)
    clock: Clock = field(default_factory=Clock)

    def run(self, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
        """Align, measure, and write results.json, report.html and PNGs. Returns the results.

        Raises `UserError` when `out` cannot be written.
        """
        folder = make_writable_folder(self.out / "final" if self.style == FINAL_STYLE else self.out)
        shown = shown_in(self.style, self.sizes)
        runs = [self._one_seed(seed, shown) for seed in seeds]
        averaged = average([results for results, _ in runs])
        results = {
            "title": "English alone and a mix of languages, at equal budget",
            "measures": DESCRIBED,
            "notes": [LLMS[self.llm].title, LLM_NOTE] if self.llm else [],
            "model": ", ".join(RECIPES.values()),
            "polylens_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "style": self.style,
            **averaged,
            **measure.summary(averaged["languages"]),
            "n": len(shown.scenes),
            "sizes": {name: len(shown.places(name)) for name in dict.fromkeys(shown.groups)},
            "seed": seeds[0],
            "seeds": list(seeds),
            "seconds": self.clock.seconds,
            "settings": self._settings(seeds[0]),
            "next_steps": NEXT_STEPS,
        }
        if len(seeds) > 1:
            results["by_seed"] = [
                {"seed": seed, **one["arms"]} for seed, (one, _) in zip(seeds, runs, strict=True)
            ]
        with self.clock.phase("report"):
            write_report(report_view(results), examples(shown, runs[0][1]), folder)
        write_atomic(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
        print_results(results, self.console)
        return results

    def recipe(self, arm: str, seed: int) -> Recipe:
        precision = str(self.dtype).removeprefix("torch.")
        changes = llm_changes(self.llm, arm) if self.llm else []
        return load_recipe(RECIPES[arm], [f"seed={seed}", f"precision={precision}", *changes])

    def _settings(self, seed: int) -> dict[str, Any]:
        return {
            "recipes": {arm: json.loads(self.recipe(arm, seed).model_dump_json()) for arm in ARMS},
            "control_pictures": NUM_CONTROLS,
            "generation": {"num_beams": 1, "max_new_tokens": measure.MAX_NEW_TOKENS},
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }

    def _one_seed(self, seed: int, shown: Shown) -> tuple[dict[str, Any], dict[str, Said]]:
        self.console.rule(f"1  Align both arms (seed {seed})")
        start = self._encode(seed)
        languages = start.config.language_model.languages or [PIVOT]
        folders, seen = self._align(seed, shown, start.device)
        self.console.rule(f"2  Measure {len(languages)} languages on {len(shown.scenes)} scenes")
        models = {arm: load_model(folder, self.dtype) for arm, folder in folders.items()}
        said: dict[str, Said] = {}
        total = len(shown.scenes) * len(languages)
        with (
            self.clock.phase("measurement"),
            progress(self.console, "captions", total * len(ARMS)) as advance,
        ):
            for arm, model in models.items():
                said[arm] = measure.describe(model, shown.scenes, languages, advance=advance)
        self.console.rule("3  Baselines, ceilings and controls")
        english = [scene.name(PIVOT) for scene in shown.scenes]
        with self.clock.phase("baselines"), progress(self.console, "translations", 3 * total) as advance:
            model, shots = models["english"], {code: solved(code) for code in languages} if self.llm else None
            text = measure.translate(model, english, languages, shots=shots, advance=advance)
            known = {code: dict(zip(english, texts, strict=True)) for code, texts in text.items()}
            best = said["english"][PIVOT]
            names = [_named(ids, PIVOT) for ids in seen]
            said["classifier_dictionary"] = {code: [_named(ids, code) for ids in seen] for code in languages}
            for key, source in (("classifier_translated", names), ("translate_test", best)):
                put = measure.translate(model, source, languages, known=known, shots=shots, advance=advance)
                said[key] = put | {PIVOT: source}
        with self.clock.phase("controls"), self.console.status("controls"):
            controls = self._controls(start.to(self.dtype), models, shown)
        return self._results(said, text, shown) | {"controls": controls}, said

    def _results(self, said: Mapping[str, Said], text: Said, shown: Shown) -> dict[str, Any]:
        systems = {name: system(texts, shown, text) for name, texts in said.items()}
        for arm in ARMS:
            systems[arm]["minus_translate_test"] = difference(said[arm], said["translate_test"], shown)
        ceiling = system(text, shown, text)
        singles = shown.places("single")
        scenes = [shown.scenes[at] for at in singles]
        rows = {name: measure.language_rows(pick(texts, singles), scenes) for name, texts in said.items()}
        return {
            "arms": {arm: systems[arm] for arm in ARMS},
            "baselines": {name: one for name, one in systems.items() if name not in ARMS},
            "ceilings": {"text": ceiling, "english_copy": ceiling["exact"][PIVOT]["value"]},
            "languages": rows["english"],
            "rows": {name: row for name, row in rows.items() if name != "english"},
        }

    def _encode(self, seed: int) -> VisionLanguageModel:
        """The model that both arms start from, its training pictures in the cache for both and for the probe."""
        recipe = self.recipe("english", seed)
        model, samples, _ = beginning(recipe)
        assert isinstance(model, VisionLanguageModel)
        distinct = list({sample.images[0].key: sample for sample in samples}.values())

        def encode(part: Sequence[Any]) -> None:
            task = VisionLanguageTask(model, recipe.augmentation)
            # The last stage reads patch states, out of which the others' features are made.
            stages = recipe.stages[-1:]
            Trainer(
                task, stages, Mix.of(part), Path(), precision=recipe.precision, device=model.device
            ).prepare()

        parts = chunks(distinct, PART)
        with (
            self.clock.phase("alignment"),
            progress(self.console, "pictures encoded", len(distinct)) as advance,
        ):
            for part, _ in each_part(encode, parts, model.device):
                advance(len(part))
        return model

    def _align(
        self, seed: int, shown: Shown, device: torch.device
    ) -> tuple[dict[str, Path], list[list[str]]]:
        """The folders of both arms' models, and what the probe sees in each scene."""
        recipes = {arm: self.recipe(arm, seed).model_dump_json() for arm in ARMS}
        jobs = [Job(recipes[arm], self.out / "runs" / f"{arm}-{seed}") for arm in ARMS]
        jobs.append(Job(recipes["english"], shown=shown.scenes))
        with self.clock.phase("alignment"), self.console.status(f"training; logs lie in {self.out / 'runs'}"):
            *folders, seen = [found for _, found in each_part(run_job, jobs, device, anew=True)]
        return dict(zip(ARMS, folders, strict=True)), seen

    def _controls(
        self, start: VisionLanguageModel, models: Mapping[str, VisionLanguageModel], shown: Shown
    ) -> dict[str, float]:
        """Exact match of (a), mean over languages: without a picture, with another's, and before alignment."""
        singles = [shown.scenes[at] for at in shown.places("single")][:NUM_CONTROLS]
        languages = list(start.config.language_model.languages or [PIVOT])
        shifted = [*singles[1:], *singles[:1]]
        blind = measure.describe(models["english"], singles, languages, with_pictures=False)
        other = measure.describe(models["english"], shifted, languages)
        before = measure.describe(start, singles, languages)
        return {
            "no_image": measure.mean_exact(blind, singles),
            "other_image": measure.mean_exact(other, shifted),
            "before_alignment": measure.mean_exact(before, singles),
        }


def llm_changes(name: str, arm: str) -> list[str]:
    """Overrides of an arm's recipe for a packaged language model: few scenes and steps, its own languages."""
    languages = LLMS[name].languages
    changes = [
        f"model.language_model.path={json.dumps(str(llm_file(name)))}",
        f"model.language_model.languages={json.dumps(languages)}",
        "data.mix.0.options.num_scenes=1000",
        "stages.0.steps=20",
        "stages.1.steps=150",
        *(f"stages.{number}.batch_size=16" for number in (0, 1)),
    ]
    if arm == "mix":
        others = [code for code in languages if code != PIVOT]
        changes += ["data.mix.1.options.num_scenes=1000", f"data.mix.1.languages={json.dumps(others)}"]
    return changes


def solved(code: str) -> str:
    """Three solved examples for a language model that was never trained on such text: names, and a list."""
    by_name = {concept.name(PIVOT): concept for concept in concepts()}
    lines = [("house",), ("sun", "bicycle"), ("banana",)]
    return "".join(
        f"{', '.join(names)} {prompt(code)} {joined([by_name[n].name(code) or n for n in names], code)}\n"
        for names in lines
    )


def pick(said: Said, places: Sequence[int]) -> dict[str, list[str]]:
    """The captions of some scenes."""
    return {code: [texts[at] for at in places] for code, texts in said.items()}


def _named(ids: Sequence[str], code: str) -> str:
    by_id = {concept.id: concept for concept in concepts()}
    return joined([by_id[one].name(code) or "" for one in ids], code)


def report_view(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results as the report takes them: by language, (a) beside the other systems."""
    rows = results["rows"]
    exact = {name: {code: row["exact_match"] for code, row in one.items()} for name, one in rows.items()}
    text = {code: row["exact"] for code, row in results["ceilings"]["text"]["languages"].items()}
    return {
        **{
            key: value
            for key, value in results.items()
            if key not in ("baselines", "arms", "ceilings", "rows")
        },
        "text_ceiling": {code: value for code, value in text.items() if code != PIVOT},
        "translate_test": {code: v for code, v in exact["translate_test"].items() if code != PIVOT},
        "baselines": {"mix": rows["mix"], "classifier_dictionary": rows["classifier_dictionary"]},
    }


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """The table by language for (a), and the laboratory's table of all systems."""
    print_table(report_view(results), console)
    for note in results.get("notes") or []:
        console.print(note)
    print_systems(results, console)


def examples(shown: Shown, said: Mapping[str, Said]) -> list[Example]:
    """A few scenes with what both arms said of them, for the report."""
    step = max(1, len(shown.scenes) // NUM_EXAMPLES)
    return [
        {
            "picture": scene.load(),
            "title": scene.name(PIVOT),
            "kind": label,
            "answers": {
                code: {
                    "said": texts[at],
                    "wanted": scene.name(code),
                    "right": bool(measure.exact([texts[at]], [scene], code)[0]),
                }
                for code, texts in said[arm].items()
            },
        }
        for arm, label in ARMS.items()
        if arm in said
        for at, scene in list(enumerate(shown.scenes))[::step][:NUM_EXAMPLES]
    ]


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[measure.Advance]:
    """A bar; gives what moves it on."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
