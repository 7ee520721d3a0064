"""mBLIP's whole way in small: a mix of tasks in all languages, LoRA, merge, export, scores in every language.

    picto (English, all tasks) --look up--> mix of all languages --train--> LoRA --merge--> picto-mblip/ --.
                               --as it is-> English only -----------train, merge--------------------------+-> scores

Both runs have the same pictures, tasks, recipe and number of steps; only the languages differ. The engine `picto` looks
names up in CLDR, as people gave them: this shows the whole way, and tells nothing of machine translation.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console

from polylens import __version__
from polylens.data.language_plan import shares
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.data.translation.run import Plan, translate_samples
from polylens.errors import UserError
from polylens.evaluation.bootstrap import bootstrap_mean, compare_means
from polylens.evaluation.names import exact_match
from polylens.evaluation.report import print_table, write_report
from polylens.evaluation.runner import as_row
from polylens.files import cache_folder, make_writable_folder, write_atomic
from polylens.models.checkpoints.blip2 import save_blip2
from polylens.models.checkpoints.card import known_languages
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.parts.lora import merge_lora
from polylens.models.parts.precision import fast_dtype
from polylens.models.vlm import VisionLanguageModel
from polylens.picto import measure
from polylens.picto.benchmark import keywords_f1
from polylens.picto.demo import Clock, examples, progress
from polylens.picto.measure import Said
from polylens.picto.measures import DESCRIBED
from polylens.picto.scenes import Scene, single
from polylens.picto.table import Shown
from polylens.picto.tasks import TASKS, pictures, samples
from polylens.picto.world import DEVELOPMENT_STYLE
from polylens.recipe import Recipe, load_recipe
from polylens.training.run import train

RECIPE = "picto-mblip"
NUM_PICTURES = 250
# Pictures of which everything but the name is asked, and pictures for the control without any.
NUM_ASKED = 40
NUM_CONTROLS = 50
# English has a sixth, as in mT5's corpus: nearer to mBLIP's shares than equal ones, and every language is there.
SHARES = "mt5"
NEXT_STEPS = [
    "Caption a pictogram of your own: `polylens caption my.png --model {model} --lang de,sw,zh`.",
    "All of Picto's tasks in some languages: `polylens evaluate {model} --benchmark picto --lang de,sw`.",
    "The same by hand, step by step: the page 'Make a model for your languages'.",
]


@dataclass
class MblipDemo:
    """One run of everything; what it writes lies in `out`, the model in `out/picto-mblip`."""

    out: Path
    console: Console
    seed: int = 0
    num_concepts: int | None = None
    dtype: torch.dtype = field(default_factory=fast_dtype)
    clock: Clock = field(default_factory=Clock)
    counts: dict[str, Any] = field(default_factory=dict)

    def run(self, num_pictures: int = NUM_PICTURES) -> dict[str, Any]:
        """Translate, train, merge, measure, and write results.json, report.html and PNGs. Returns the results.

        Raises `UserError` when `out` cannot be written.
        """
        make_writable_folder(self.out)
        shown = [single(*one) for one in pictures("test", num_concepts=num_pictures)]
        languages = self.languages()
        said: dict[str, Said] = {}
        rows: dict[str, dict[str, dict[str, Any]]] = {}
        asked = {}
        for name, codes in {"mix": languages, "english": [measure.PIVOT]}.items():
            model = self._model(name, codes)
            said[name], rows[name] = self._named(model, shown, languages)
            asked[name] = self._asked(model, languages)
            if name == "mix":
                blind = self._blind(model, shown, languages)
        results = {
            "title": "A mix of tasks in all languages, beside English alone",
            "measures": DESCRIBED,
            "model": RECIPE,
            "polylens_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "notes": notes(said, shown),
            "languages": rows["mix"],
            **measure.summary(rows["mix"]),
            "english_only": {code: row["exact_match"] for code, row in rows["english"].items()},
            "baselines": {"english": rows["english"]},
            "groups": {"Mix of languages": asked["mix"], "English only": asked["english"]},
            "controls": {"no_image": blind},
            "n": len(shown),
            "seeds": [self.seed],
            "seconds": self.clock.seconds,
            "settings": {
                "recipe": json.loads(self._recipe("mix", languages).model_dump_json()),
                "translated": self.counts,
                "shares": SHARES,
                "style": DEVELOPMENT_STYLE,
                "pictures": len(shown),
                "asked_pictures": NUM_ASKED,
                "generation": {"num_beams": 1, "max_new_tokens": measure.MAX_NEW_TOKENS},
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            "next_steps": [step.format(model=self.out / RECIPE) for step in NEXT_STEPS],
        }
        with self.clock.phase("report"):
            write_report(results, examples(Shown(shown, ["single"] * len(shown)), said), self.out)
        write_atomic(self.out / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
        print_table(results, self.console)
        for note in results["notes"]:
            self.console.print(note)
        return results

    def languages(self) -> list[str]:
        """All languages of the recipe's language model."""
        part = load_recipe(RECIPE).model.language_model
        return part.languages or known_languages(str(part.path)) or [measure.PIVOT]

    def _recipe(self, name: str, codes: Sequence[str]) -> Recipe:
        """The recipe over the samples of one run. Its part of names is English, unless the run never sees English."""
        precision = str(self.dtype).removeprefix("torch.")
        overrides = [f"seed={self.seed}", f"precision={precision}"]
        for number, part in enumerate(load_recipe(RECIPE).data.parts):
            if part.source == "jsonl":
                overrides.append(f"data.mix.{number}.path={self.out / 'data' / name}")
            else:
                named = measure.PIVOT if measure.PIVOT in codes else codes[0]
                overrides.append(f"data.mix.{number}.languages=[{named}]")
                if self.num_concepts is not None:
                    overrides.append(f"data.mix.{number}.options={{num_concepts: {self.num_concepts}}}")
        return load_recipe(RECIPE, overrides)

    def _model(self, name: str, codes: Sequence[str]) -> VisionLanguageModel:
        """Trained on samples in `codes`, its adapters merged; the mix's is written whole and read again."""
        self.console.rule(f"{name}: {len(codes)} language{'s' if len(codes) > 1 else ''}")
        with self.clock.phase("translation"):
            self._translate(self.out / "data" / name, codes)
        with self.clock.phase("training"):
            folder = train(self._recipe(name, codes), out=self.out / "runs" / name, report=self.console)
            model = load_model(folder)
            merge_lora(model)
        if name != "mix":
            return model.to(self.dtype)
        with self.clock.phase("export"):
            save_model(model, self.out / RECIPE, {"recipe": RECIPE}, standalone=True)
            self.console.print(
                f"{self.out / RECIPE} is the whole model, adapters merged; in it, language_model/ and vision/ are "
                "folders of plain transformers."
            )
            try:
                save_blip2(model, self.out / "blip2")
            except UserError as error:
                self.console.print(f"It has no export to BLIP-2: {error}")
            return load_model(self.out / RECIPE, self.dtype)

    def _translate(self, folder: Path, codes: Sequence[str]) -> None:
        """Picto's English training samples of all tasks; each gets one of the languages."""
        engine = open_engine(EngineSettings("picto"))
        plan = Plan(list(codes), shares(SHARES, codes), seed=self.seed)
        english = samples(
            languages=[measure.PIVOT], tasks=TASKS, num_concepts=self.num_concepts, plain=True, seed=self.seed
        )
        with TranslationCache(cache_folder("translations"), engine.fingerprint) as cache:
            counts = translate_samples(lambda: english, plan, engine, cache, folder)
        total = {
            key: sum(getattr(count, key) for count in counts.values())
            for key in ("accepted", "unchanged", "rejected")
        }
        self.counts[folder.name] = total
        self.console.print(
            f"{total['accepted']:,} samples with names looked up in CLDR, {total['unchanged']:,} as they were, "
            f"{total['rejected']:,} without such a name"
        )

    def _named(
        self, model: VisionLanguageModel, shown: Sequence[Scene], languages: Sequence[str]
    ) -> tuple[Said, dict[str, dict[str, Any]]]:
        total = len(shown) * len(languages)
        with self.clock.phase("measurement"), progress(self.console, "answers", total) as advance:
            said = measure.describe(model, shown, languages, advance=advance)
            return said, measure.language_rows(said, shown)

    def _asked(self, model: VisionLanguageModel, languages: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The tasks beside naming, in the language's own words: exact match, of keywords F1."""
        tasks = [task for task in TASKS if task != "caption"]
        rows: dict[str, dict[str, Any]] = {}
        with (
            self.clock.phase("tasks"),
            progress(self.console, "questions", len(languages) * len(tasks)) as advance,
        ):
            for code in languages:
                scores = {}
                for task in tasks:
                    wanted = samples(languages=[code], tasks=[task], split="test", num_concepts=NUM_ASKED)
                    said = measure.generate(model, wanted)
                    value = keywords_f1 if task == "keywords" else exact_match
                    pairs = zip(said, (one.turns[-1].answer for one in wanted), strict=True)
                    scores[f"picto_{task}"] = bootstrap_mean([value(*pair) for pair in pairs])
                    advance(1)
                rows[code] = as_row(scores)
        return rows

    def _blind(self, model: VisionLanguageModel, shown: Sequence[Scene], languages: Sequence[str]) -> float:
        """Exact match of the prompt alone."""
        few = shown[:: max(1, len(shown) // NUM_CONTROLS)]
        with self.clock.phase("control"):
            said = measure.describe(model, few, languages, with_pictures=False)
        return measure.mean_exact(said, few)


def notes(said: Mapping[str, Said], shown: Sequence[Scene]) -> list[str]:
    """The comparison in sentences, each difference with its interval over pictures."""
    others = [code for code in said["mix"] if code != measure.PIVOT]
    found = []
    for label, codes in (("English", [measure.PIVOT]), (f"the {len(others)} other languages", others)):
        if not codes:
            continue
        mix, english = (
            [value for code in codes for value in measure.exact(said[run][code], shown, code)]
            for run in ("mix", "english")
        )
        gap = compare_means(mix, english, list(range(len(shown))) * len(codes))
        found.append(
            f"Exact match in {label}: {100 * fmean(mix):.1f}% after the mix, {100 * fmean(english):.1f}% after "
            f"English alone; the difference is {100 * gap.difference:+.1f} points "
            f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
        )
    found.append("Both runs have the same pictures, tasks, recipe and number of steps; one seed.")
    found.append("The mix has CLDR's own names in each language, not machine translation.")
    return found
