"""A benchmark from official files to a report: read, find the pictures, ask, score, beside baselines.

Every answer is on disk as soon as it is given (predictions.jsonl), so a run that was killed goes on where it was.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens import __version__
from polylens.data.answer import num_cut
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.benchmarks.asking import Asking, in_text_only
from polylens.evaluation.benchmarks.baselines import Translate, back, in_english
from polylens.evaluation.benchmarks.interface import Question, Scores, find_benchmark
from polylens.evaluation.benchmarks.pictures import NAMED, locate
from polylens.evaluation.benchmarks.protocols import find_protocol
from polylens.evaluation.benchmarks.request import Request, check_request, read_questions
from polylens.evaluation.benchmarks.results import (
    PIVOT,
    by,
    notes_of,
    score_all,
    score_rows,
    settings_of,
    shown_examples,
    write_scored,
)
from polylens.evaluation.benchmarks.scoring import majority
from polylens.evaluation.predictor import Predictor
from polylens.evaluation.report import write_report
from polylens.evaluation.runner import Item, answer, as_row, notes_of_cut
from polylens.files import json_text, make_writable_folder, write_atomic
from polylens.progress import progress_bar

RESULTS = "results.json"


def evaluate_benchmark(
    predictor: Predictor,
    request: Request,
    out: Path,
    *,
    translate: Translate | None = None,
    translator: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Ask the questions of a benchmark and score the answers, language by language.

    Writes predictions.jsonl, items.jsonl (what each answer scored, for comparisons), results.json, results.csv and
    report.html with figures into `out`, and returns the results. Answers to baselines are kept in folders of `out`.
    Raises `UserError` for files or pictures that are missing, and for what the model or the protocol cannot do.
    """
    console = console or Console(quiet=True)
    benchmark = find_benchmark(request.benchmark)
    check_request(request, benchmark, translate)
    asking = Asking(benchmark, find_protocol(request.protocol, benchmark.task), predictor)
    questions, unknown = asking.without_unknown(read_questions(benchmark, request))
    if not questions:
        raise UserError(
            f"The languages {', '.join(unknown)} have no name here, so no answer can be asked for in them."
        )
    if request.likelihood and not all(question.choices for question in questions):
        raise UserError(
            f"{benchmark.title} has no labels to choose from by likelihood: have the answers generated."
        )
    located = locate(questions, request.images, request.skip_missing)
    questions = located.questions
    # Whatever cannot be scored (a library that is missing, say) is said before hours of answering.
    for one in {question.language: question for question in questions}.values():
        if benchmark.score:
            benchmark.score([one], [""], asking.protocol)
    make_writable_folder(out)
    run = _Run(asking, request, out, console)
    start = time.monotonic()
    items = [asking.item(question, mine) for question, mine in zip(questions, located.pictures, strict=True)]
    said = run.answer(items, request.likelihood)
    answered = time.monotonic()
    results: dict[str, Any] = {
        "title": f"{benchmark.title}, protocol {asking.protocol.name}",
        "model": predictor.name,
        "benchmark": benchmark.name,
        "protocol": asking.protocol.name,
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len({picture.key for pictures in located.pictures for picture in pictures}),
        "num_questions": len(questions),
    }
    scored = score_all(asking, questions, said)
    results |= score_rows(asking, questions, said, scored)
    for name in request.baselines:
        results |= run.baseline(name, questions, located.pictures, items, translate, scored)
    results["missing_images"] = {
        "pictures": len(located.missing),
        "questions": located.left_out,
        "first": located.missing[:NAMED],
    }
    results["num_cut"] = num_cut(said)
    results["notes"] = [*notes_of(request, located, unknown, scored, benchmark), *run.cut]
    results["seconds"] = {
        "answers": round(answered - start, 1),
        "scores and baselines": round(time.monotonic() - answered, 1),
    }
    results["settings"] = settings_of(asking, request, items, scored, run.generation, translator)
    write_scored(out, questions, scored)
    write_report(results, shown_examples(questions, items, said, scored), out)
    write_atomic(out / RESULTS, json_text(results, indent=1))
    return results


class _Run:
    """Answers to the questions and to those of baselines, each kept in a folder of its own."""

    def __init__(self, asking: Asking, request: Request, out: Path, console: Console) -> None:
        self.asking, self.request, self.out, self.console = asking, request, out, console
        given = asking.protocol.settings_of(asking.benchmark.task)
        self.generation = replace(given, batch_size=request.batch_size, **request.changes)
        self.cut: list[str] = []  # notes on answers that were cut

    def answer(self, items: Sequence[Item], likelihood: bool, folder: str = "") -> list[str]:
        with progress_bar(self.console) as bar:
            task = bar.add_task(folder or "answers", total=len(items))
            said = answer(
                self.asking.predictor,
                items,
                self.generation,
                likelihood=likelihood,
                folder=self.out / folder,
                fingerprint=self._fingerprint(likelihood, folder),
                advance=lambda count: bar.advance(task, count),
            )
        self.cut += notes_of_cut(said, self.generation, f"answers of {folder}" if folder else "answers")
        return said

    def _fingerprint(self, likelihood: bool, folder: str) -> dict[str, Any]:
        """All that moves an answer but the question, its pictures and its choices, which every row names."""
        generation = {key: value for key, value in asdict(self.generation).items() if key != "batch_size"}
        return {
            "model": dict(self.asking.predictor.settings),
            "benchmark": self.asking.benchmark.name,
            "protocol": self.asking.protocol.name,
            "generation": generation,
            "likelihood": likelihood,
            "baseline": folder,
        }

    def baseline(
        self,
        name: str,
        questions: Sequence[Question],
        pictures: Sequence[tuple[Picture, ...]],
        items: Sequence[Item],
        translate: Translate | None,
        scored: Mapping[str, Scores],
    ) -> dict[str, Any]:
        """{name: {language: value of the main measure}}, and all measures in `baseline_scores`."""
        if not scored:
            return {}
        if name == "majority":
            said = [""] * len(questions)
            for places in by(questions, lambda question: question.language).values():
                most = majority([questions[at] for at in places])
                for at in places:
                    said[at] = most
            rescored = score_all(self.asking, questions, said)
        elif name == "text-only":
            said = self.answer(in_text_only(items), self.request.likelihood, name)
            rescored = score_all(self.asking, questions, said)
        else:
            assert translate is not None
            rescored = self._through_english(questions, pictures, translate)
        key = name.replace("-", "_")
        rows = {code: as_row(scores.measures) for code, scores in rescored.items()}
        main = {code: next(iter(scores.measures.values())).value for code, scores in rescored.items()}
        return {key: main, f"{key}_scores": rows}

    def _through_english(
        self, questions: Sequence[Question], pictures: Sequence[tuple[Picture, ...]], translate: Translate
    ) -> dict[str, Scores]:
        others = [place for place, question in enumerate(questions) if question.language != PIVOT]
        if not others:
            return {}
        english = in_english([questions[at] for at in others], translate)
        asked = [
            self.asking.item(question, pictures[at])
            for question, at in zip(english.questions, others, strict=True)
        ]
        # One English caption of a picture serves all languages.
        distinct: dict[tuple[Any, ...], Item] = {}
        keys = [
            (tuple(p.key for p in item.sample.images), item.sample.turns[-1].prompt, item.choices)
            for item in asked
        ]
        for key, item in zip(keys, asked, strict=True):
            distinct.setdefault(key, item)
        texts = self.answer(list(distinct.values()), self.request.likelihood, "translate-test")
        by_key = dict(zip(distinct, texts, strict=True))
        said = back([by_key[key] for key in keys], english.into, translate)
        # Options are compared in English, answers in the language that they are scored in.
        originals = [
            replace(questions[at], extra=question.extra)
            for question, at in zip(english.questions, others, strict=True)
        ]
        return score_all(self.asking, originals, said)
