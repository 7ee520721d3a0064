"""mBLIP's whole way in small: translate a mix of tasks, align with LoRA, merge, export, measure every language.

    picto (English, all tasks) --translate--> mix of all languages --train--> LoRA --merge--> picto-mblip/ --.
                               --as it is---> English only -----------train, merge--------------------------+-> scores
                               --translate--> native: one language ---train, merge--------------------------'

Every run has the same pictures, tasks, recipe and number of steps; only the languages differ. A native run for each
language would be thirty runs: three languages stand for them.
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
from polylens.evaluation.bootstrap import bootstrap_mean
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
from polylens.picto.demo import NATIVE, Clock, examples, progress
from polylens.picto.measures import DESCRIBED
from polylens.picto.tasks import TASKS, pictures, samples
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
        drawn = pictures("test", num_concepts=num_pictures)
        languages = self.languages()
        said, rows, asked = {}, {}, {}
        for name, codes in {"mix": languages, "english": [measure.PIVOT]}.items():
            model = self._model(name, codes)
            said[name], rows[name] = self._named(model, drawn, languages)
            asked[name] = self._asked(model, languages)
            if name == "mix":
                blind = self._blind(model, drawn, languages)
        rows["native"] = {}
        for code in NATIVE:
            if code in languages:
                model = self._model(f"native-{code}", [code])
                rows["native"] |= self._named(model, drawn, [code])[1]
        results = {
            "title": "A mix of all languages, beside English alone and native pairs",
            "measures": DESCRIBED,
            "model": RECIPE,
            "polylens_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "notes": notes(rows),
            "languages": rows["mix"],
            **measure.summary(rows["mix"]),
            "english_only": _exact(rows["english"]),
            "native_only": _exact(rows["native"]),
            "baselines": {"english": rows["english"], "native": rows["native"]},
            "groups": {"Mix of languages": asked["mix"], "English only": asked["english"]},
            "controls": {"no_image": blind},
            "n": len(drawn),
            "seeds": [self.seed],
            "seconds": self.clock.seconds,
            "settings": {
                "recipe": json.loads(self._recipe("mix", languages).model_dump_json()),
                "translated": self.counts,
                "shares": SHARES,
                "style": "twemoji",
                "pictures": len(drawn),
                "asked_pictures": NUM_ASKED,
                "candidates": measure.NUM_CANDIDATES,
                "generation": {"num_beams": 1, "max_new_tokens": measure.MAX_NEW_TOKENS},
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            "next_steps": [step.format(model=self.out / RECIPE) for step in NEXT_STEPS],
        }
        with self.clock.phase("report"):
            write_report(results, examples(said["mix"]), self.out)
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
            f"{total['accepted']:,} samples translated, {total['unchanged']:,} as they were, "
            f"{total['rejected']:,} without a translation"
        )

    def _named(
        self, model: VisionLanguageModel, drawn: Sequence[measure.Drawn], languages: Sequence[str]
    ) -> tuple[measure.Answers, dict[str, dict[str, Any]]]:
        total = len(drawn) * len(languages)
        with self.clock.phase("measurement"), progress(self.console, "answers", total) as advance:
            answers = measure.describe(model, drawn, languages, advance=advance)
            return answers, measure.language_rows(answers)

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

    def _blind(
        self, model: VisionLanguageModel, drawn: Sequence[measure.Drawn], languages: Sequence[str]
    ) -> float:
        """Exact match of the prompt alone."""
        shown = drawn[:: max(1, len(drawn) // NUM_CONTROLS)]
        with self.clock.phase("control"):
            answers = measure.without_pictures(model, shown, languages, choose=False)
        return measure.mean_exact(answers.said, shown)


def _exact(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {code: row["exact_match"] for code, row in rows.items()}


def notes(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The comparison in sentences: the languages that only the mix has seen, and those with a native run."""
    others = [code for code in rows["mix"] if code != measure.PIVOT]
    native = [code for code in rows["native"] if code in rows["mix"]]
    found = []
    for key, label in (("exact_match", "Exact match"), ("choice_accuracy", "Choice among 100 names")):

        def mean(run: str, codes: Sequence[str], key: str = key) -> str:
            return f"{100 * fmean(rows[run][code][key] for code in codes):.1f}%"

        text = f"{label}: in English {mean('mix', [measure.PIVOT])} after the mix and "
        text += f"{mean('english', [measure.PIVOT])} after English alone"
        if others:
            text += f"; over the {len(others)} other languages {mean('mix', others)} and {mean('english', others)}"
        if native:
            text += (
                f"; over {', '.join(native)} {mean('mix', native)}, {mean('english', native)}, and "
                f"{mean('native', native)} after native pairs"
            )
        found.append(f"{text}.")
    found.append("All runs have the same pictures, tasks, recipe and number of steps.")
    return found
