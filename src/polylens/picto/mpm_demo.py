"""The three claims of MPM (arXiv 2308.12038), measured again on Picto.

    picto-mpm-text       the language model reads questions in all languages, from text alone
    picto-mpm-pretrain   pictures are joined to it on English pairs -------> 1. what of it is there in other languages
                         or, native plus, on pairs in four languages --.
    picto-mpm-instruct   on English conversations, and 0, 1, 5 or     |
                         20% translated ones ------------------------ | ---> 2. which language answers are in
                         20% translated ones <------------------------' ---> 3. native plus, beside the balance

All runs of one recipe have the same number of steps and of examples; they differ in languages alone. Questions are put
in their language, and nothing else says which that is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from polylens import __version__
from polylens.evaluation.bootstrap import bootstrap_mean, compare_means
from polylens.evaluation.measures import METRICS, metric_of
from polylens.evaluation.report import Example, write_report
from polylens.files import make_writable_folder, write_atomic
from polylens.languages import language
from polylens.models.checkpoints.folder import load_model
from polylens.models.parts.precision import fast_dtype
from polylens.models.vlm import VisionLanguageModel
from polylens.picto import mpm_measure
from polylens.picto.demo import Clock, progress
from polylens.picto.measure import PIVOT
from polylens.picto.measures import DESCRIBED
from polylens.picto.mpm_measure import KINDS, Asked
from polylens.picto.tasks import Drawn, pictures
from polylens.picto.world import LANGUAGES
from polylens.recipe import Recipe, load_recipe
from polylens.training.run import train

TEXT, PRETRAIN, INSTRUCT = "picto-mpm-text", "picto-mpm-pretrain", "picto-mpm-instruct"
NUM_PICTURES = 100
# Languages of which pretraining sees pairs, in the run that MPM calls native plus.
NATIVE = ("de", "zh", "sw")
SHARES = (0.0, 0.01, 0.05, 0.2)
# Runs by name: MPM's "zero-shot" is what pretraining alone gives; "balance" and "native plus" are tuned alike.
ZERO_SHOT, NATIVE_PLUS = "Pretrained in English", "Native plus, 20% translated"
# Groups of languages, by what tuning shows of them.
ENGLISH, INTO, OTHERS = "English", "Languages translated into", "Other languages"
NUM_EXAMPLES = 6
SHOWN_LANGUAGES = ("en", "de", "zh", "sw", "fr", "ja", "yo")
NEXT_STEPS = [
    "Talk to one of the models: `polylens chat {out}/runs/tuned-5/model --image my.png`.",
    "Another share: `polylens train picto-mpm-instruct data.mix.0.weight=0.9 data.mix.1.weight=0.1`.",
    "The same for your language model and languages: the page 'The MPM way'.",
]


def run_name(share: float) -> str:
    return f"Tuned, {share:.0%} translated" if share else "Tuned in English alone"


@dataclass
class MpmDemo:
    """One run of everything; what it writes lies in `out`, its models in `out/runs`."""

    out: Path
    console: Console
    seed: int = 0
    languages: Sequence[str] = LANGUAGES
    dtype: torch.dtype = field(default_factory=fast_dtype)
    clock: Clock = field(default_factory=Clock)

    def run(self, num_pictures: int = NUM_PICTURES) -> dict[str, Any]:
        """Train, ask, and write results.json, report.html and PNGs. Returns the results.

        Raises `UserError` when `out` cannot be written.
        """
        make_writable_folder(self.out)
        drawn = pictures("test", num_concepts=num_pictures)
        start = starting_from(self._train(TEXT, "text"))
        english = self._train(PRETRAIN, "pretrained", start)
        plus = self._train(PRETRAIN, "pretrained-plus", start, native_pairs())
        asked = {ZERO_SHOT: self._ask(english, drawn)}
        for share in SHARES:
            asked[run_name(share)] = self._ask(self._tune(english, f"tuned-{share * 100:g}", share), drawn)
        asked[NATIVE_PLUS] = self._ask(self._tune(plus, "tuned-plus", SHARES[-1]), drawn)
        with self.clock.phase("controls"):
            model = load_model(english, self.dtype)
            others = [code for code in self.languages if code != PIVOT]
            ceiling = mpm_measure.named_from_text(model, drawn, others)
            blind = mpm_measure.named_blindly(model, drawn, self.languages)
        results = self._results(asked, drawn) | {"text_ceiling": ceiling, "controls": {"no_image": blind}}
        with self.clock.phase("report"):
            write_report(results, examples(asked, drawn), self.out)
        write_atomic(self.out / "results.json", json.dumps(results, ensure_ascii=False, indent=1))
        print_runs(results, self.console)
        return results

    def groups(self) -> dict[str, list[str]]:
        """Languages by what tuning shows of them."""
        translated = translated_languages()
        return {
            ENGLISH: [PIVOT],
            INTO: [code for code in self.languages if code in translated],
            OTHERS: [code for code in self.languages if code not in (PIVOT, *translated)],
        }

    def _recipe(self, name: str, *changes: str) -> Recipe:
        precision = str(self.dtype).removeprefix("torch.")
        return load_recipe(name, [*changes, f"seed={self.seed}", f"precision={precision}"])

    def _train(self, recipe: str, name: str, *changes: str) -> Path:
        self.console.rule(name)
        with self.clock.phase({TEXT: "reading", PRETRAIN: "pretraining"}.get(recipe, "tuning")):
            return train(self._recipe(recipe, *changes), out=self.out / "runs" / name, report=self.console)

    def _tune(self, start: Path, name: str, share: float) -> Path:
        return self._train(INSTRUCT, name, starting_from(start), *mixed(share))

    def _ask(self, folder: Path, drawn: Sequence[Drawn]) -> Asked:
        model: VisionLanguageModel = load_model(folder, self.dtype)
        total = len(drawn) * len(self.languages) * len(KINDS)
        with self.clock.phase("questions"), progress(self.console, "answers", total) as advance:
            return mpm_measure.ask(model, drawn, self.languages, advance)

    def _results(self, asked: Mapping[str, Asked], drawn: Sequence[Drawn]) -> dict[str, Any]:
        rows = {name: mpm_measure.rows(said) for name, said in asked.items()}
        groups = {name: codes for name, codes in self.groups().items() if codes}
        runs = {
            name: {group: mpm_measure.row(said.of(codes)) for group, codes in groups.items()}
            for name, said in asked.items()
        }
        balance = asked[run_name(SHARES[-1])]
        plus = {group: codes for group, codes in groups.items() if group == ENGLISH}
        plus["Native"] = [code for code in self.languages if code in NATIVE]
        plus[OTHERS] = [code for code in self.languages if code not in (PIVOT, *NATIVE)]
        return {
            "title": "MPM's three claims, measured on Picto",
            "measures": DESCRIBED,
            "model": ", ".join((TEXT, PRETRAIN, INSTRUCT)),
            "polylens_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "notes": [
                f"Scores by language are those of '{ZERO_SHOT}', the model before any tuning.",
                f"{INTO}: {', '.join(language(code).name for code in groups.get(INTO, []))}.",
            ],
            "languages": rows[ZERO_SHOT],
            "baselines": {name: rows[name] for name in asked if name != ZERO_SHOT},
            "groups_title": "Runs",
            "groups": {
                f"{name}: {group}": {code: rows[name][code] for code in codes}
                for name in asked
                for group, codes in groups.items()
            },
            "curves": curves(asked, groups),
            "runs": runs,
            "answer_languages": {
                name: {code: language_shares(said, code) for code in self.languages if code != PIVOT}
                for name, said in asked.items()
            },
            "native_plus_minus_balance": {
                group: difference(asked[NATIVE_PLUS].of(codes), balance.of(codes))
                for group, codes in plus.items()
                if codes
            },
            "n": len(drawn),
            "seeds": [self.seed],
            "seconds": self.clock.seconds,
            "settings": {
                "recipes": {
                    name: json.loads(self._recipe(name).model_dump_json())
                    for name in (TEXT, PRETRAIN, INSTRUCT)
                },
                "native": list(NATIVE),
                "style": "twemoji",
                "questions": list(KINDS),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            },
            "next_steps": [step.format(out=self.out) for step in NEXT_STEPS],
        }


def starting_from(folder: Path) -> str:
    return f"model.start={json.dumps(str(folder))}"


def native_pairs() -> str:
    """An override of the pretraining recipe: its English pairs, and those of other languages beside them."""
    english = _part(PRETRAIN)
    return f"data.mix={json.dumps([english, english | {'name': 'native', 'languages': list(NATIVE)}])}"


def mixed(share: float) -> list[str]:
    """Overrides of the instruction recipe for that share of translated conversations."""
    if share:
        return [f"data.mix.0.weight={1 - share:g}", f"data.mix.1.weight={share:g}"]
    return [f"data.mix={json.dumps([_part(INSTRUCT)])}"]


def _part(recipe: str) -> dict[str, Any]:
    """The English part of a recipe's mix, alone: without a weight."""
    return (
        load_recipe(recipe).data.parts[0].model_dump(mode="json", exclude_defaults=True, exclude={"weight"})
    )


def translated_languages() -> list[str]:
    """The languages that the instruction recipe translates into."""
    return list(load_recipe(INSTRUCT).data.parts[1].languages or [])


def curves(asked: Mapping[str, Asked], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The second claim as a figure: the language of answers by the share of translated conversations."""
    lines: dict[str, list[list[float]]] = {}
    for group, codes in groups.items():
        if group == ENGLISH:
            continue
        for share in SHARES:
            found = mpm_measure.in_language(asked[run_name(share)].of(codes), "asked")
            score = bootstrap_mean(*found)
            lines.setdefault(group, []).append([score.value, score.low, score.high])
    return {
        "title": "Answers in the language of the question",
        "x": "Translated share of the conversations in tuning",
        "ticks": [f"{share:.0%}" for share in SHARES],
        "measure": "asked_language",
        "lines": lines,
    }


def language_shares(asked: Asked, code: str) -> dict[str, float | None]:
    """The share of answers in the language asked for, by kind of question, and as the identifier sees the longest."""
    shares: dict[str, float | None] = {}
    for kind in KINDS:
        values, _ = mpm_measure.in_language(asked.of([code]), "asked", [kind])
        shares[kind] = sum(values) / len(values) if values else None
    return shares | {"identifier": mpm_measure.identified(asked, code)}


def difference(first: Asked, second: Asked) -> dict[str, Any]:
    """Exact match of names, first minus second, with its interval by pictures."""
    mine, concepts = first.values("caption", mpm_measure.right)
    theirs, _ = second.values("caption", mpm_measure.right)
    found = compare_means(mine, theirs, concepts)
    return {"difference": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}


def examples(asked: Mapping[str, Asked], drawn: Sequence[Drawn]) -> list[Example]:
    """A few pictures with their names by three of the models, for the report."""
    step = max(1, len(drawn) // NUM_EXAMPLES)
    found: list[Example] = []
    for name in (ZERO_SHOT, run_name(SHARES[0]), run_name(SHARES[-1])):
        for concept, style in drawn[::step][:NUM_EXAMPLES]:
            answers = {}
            for code in SHOWN_LANGUAGES:
                for sample, text in asked[name].said.get(code, {}).get("caption", ()):
                    if sample.extra["concept"] == concept.id:
                        wanted = sample.turns[-1].answer
                        answers[code] = {
                            "said": text,
                            "wanted": wanted,
                            "right": bool(mpm_measure.right(sample, text)),
                        }
            found.append(
                {
                    "picture": concept.picture(style).load(),
                    "title": concept.name(PIVOT) or "",
                    "answers": answers,  # type: ignore[typeddict-item]
                    "kind": name,
                }
            )
    return found


def print_runs(results: Mapping[str, Any], console: Console) -> None:
    """A row for every run and group of languages."""
    measures = ("exact_match", "right_in_either", "yes_no", "asked_language", "answered_in_english")
    table = Table(title=str(results["title"]), title_justify="left")
    table.add_column("run")
    table.add_column("languages")
    for measure in measures:
        table.add_column(metric_of(measure, results).label, justify="right")
    for name, groups in results["runs"].items():
        for place, (group, row) in enumerate(groups.items()):
            shown = [metric_of(measure, results).text(row.get(measure)) for measure in measures]
            table.add_row("" if place else name, group, *shown, end_section=place == len(groups) - 1)
    console.print(table)
    for group, found in results["native_plus_minus_balance"].items():
        ends = f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}"
        console.print(
            f"Native plus minus balance, {group}: {100 * found['difference']:+.1f} points of exact match ({ends})"
        )
    console.print(f"No picture: {METRICS['exact_match'].text(results['controls']['no_image'])} exact match")
