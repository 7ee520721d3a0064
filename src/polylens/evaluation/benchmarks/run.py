"""A benchmark from files to a report: read, check, find the pictures, ask, score, beside baselines.

Every answer is on disk as soon as it is given (predictions.jsonl), so a run that was killed goes on where it was.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens import __version__
from polylens.data.answer import num_cut
from polylens.errors import UserError
from polylens.evaluation.benchmarks.answering import Answering
from polylens.evaluation.benchmarks.asking import Asking
from polylens.evaluation.benchmarks.baselines import Baselines, Translate, check_baselines
from polylens.evaluation.benchmarks.choices import FOLDER, choice_items, metric, with_choices
from polylens.evaluation.benchmarks.grouping import by
from polylens.evaluation.benchmarks.interface import Benchmark, Question, find_benchmark
from polylens.evaluation.benchmarks.pictures import NAMED, Located, locate
from polylens.evaluation.benchmarks.protocols import find_protocol
from polylens.evaluation.benchmarks.questions import check_scorer, first_of_each_language, read_questions
from polylens.evaluation.benchmarks.ratios import ratio_means, with_ratios
from polylens.evaluation.benchmarks.results import (
    notes_of,
    score_all,
    score_rows,
    settings_of,
    shown_examples,
    unknown_languages,
    write_scored,
)
from polylens.evaluation.measures import OWN, described
from polylens.evaluation.predictor import Chooser, Predictor
from polylens.evaluation.report import write_report
from polylens.evaluation.settings import EvaluationSettings
from polylens.files import json_text, make_writable_folder, write_atomic

RESULTS = "results.json"


def evaluate_benchmark(
    predictor: Predictor,
    settings: EvaluationSettings,
    out: Path,
    *,
    translate: Translate | None = None,
    translator: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Ask the questions of a benchmark and score the answers, language by language.

    Writes predictions.jsonl, items.jsonl (what each answer scored, for comparisons), results.json, results.csv and
    report.html with figures into `out`, and returns the results. Answers to baselines are kept in folders of `out`.
    Raises `UserError`, before the first answer, for files or pictures that are missing, questions that cannot be
    scored, and what the model or the protocol cannot do.
    """
    console = console or Console(quiet=True)
    benchmark = find_benchmark(settings.benchmark)
    baselines = benchmark.baselines if settings.baselines is None else settings.baselines
    protocol = find_protocol(settings.protocol or benchmark.protocol, benchmark.task)
    asking = Asking(benchmark, protocol, predictor)
    located = _chosen(read_questions(benchmark, settings), settings)
    questions = located.questions
    items = [asking.item(question, mine) for question, mine in zip(questions, located.pictures, strict=True)]
    check_baselines(baselines, benchmark, questions, settings.translator, translate)
    _check_answerable(asking, questions, settings)
    candidates = choice_items(questions, items, settings.choices) if settings.choices else []
    make_writable_folder(out)
    run = Answering(asking, settings, out, console)
    start = time.monotonic()
    said = run.answer(items, likelihood=settings.likelihood)
    picked = run.answer(candidates, FOLDER, likelihood=True) if candidates else []
    answered = time.monotonic()
    scored = score_all(asking, questions, said)
    if picked:
        scored = with_choices(scored, questions, picked)
    scored = with_ratios(scored, questions, benchmark.ratios)
    results: dict[str, Any] = {
        "title": _title(benchmark, settings, protocol.name),
        "model": predictor.name,
        "benchmark": benchmark.name,
        "protocol": protocol.name,
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len({picture.key for pictures in located.pictures for picture in pictures}),
        "num_questions": len(questions),
        **score_rows(asking, questions, said, scored),
    }
    results |= ratio_means(results["languages"], benchmark.ratios)
    own = [*benchmark.measures, *([metric(settings.choices)] if settings.choices else [])]
    results |= {OWN: described(own)} if own else {}
    others = Baselines(run, questions, located.pictures, items, translate)
    for name in baselines if scored else ():
        results |= others.results(name)
    results["missing_images"] = {
        "pictures": len(located.missing),
        "questions": located.left_out,
        "first": located.missing[:NAMED],
    }
    results["num_cut"] = num_cut(said)
    results["notes"] = [*notes_of(settings, asking, located, scored), *run.cut]
    results["unknown_languages"] = unknown_languages(predictor, questions)
    results["seconds"] = {
        "answers": round(answered - start, 1),
        "scores and baselines": round(time.monotonic() - answered, 1),
    }
    results["settings"] = settings_of(
        asking, settings, baselines, items, scored, run.generation, translator or settings.translator or ""
    )
    write_scored(out, questions, scored)
    write_report(results, shown_examples(questions, items, said, scored, results), out)
    write_atomic(out / RESULTS, json_text(results, indent=1))
    return results


def _chosen(questions: Sequence[Question], settings: EvaluationSettings) -> Located:
    """The questions above the split and within the limit, with their pictures."""
    if settings.split is None:
        kept = first_of_each_language(questions, settings.limit)
        return locate([questions[at] for at in kept], settings.images, settings.skip_missing)
    located = locate(questions, settings.images, settings.skip_missing).above(settings.split)
    return located.only(first_of_each_language(located.questions, settings.limit))


def _check_answerable(asking: Asking, questions: Sequence[Question], settings: EvaluationSettings) -> None:
    """Raises `UserError` for what cannot be scored or chosen (a library is missing, say), before hours of answering."""
    benchmark = asking.benchmark
    without = next((question for question in questions if not question.choices), None)
    if settings.likelihood and without is not None:
        raise UserError(
            f"{benchmark.title} has no labels to choose from by likelihood: have the answers generated."
        )
    if settings.choices and benchmark.task != "caption":
        raise UserError(f"--choices is of captions, and {benchmark.title} has none: leave it out.")
    if settings.choices and not isinstance(asking.predictor, Chooser):
        raise UserError(f"'{asking.predictor.name}' gives no likelihoods to choose by: leave --choices out.")
    if benchmark.score is not None:
        for places in by(questions, lambda question: question.language).values():
            check_scorer(benchmark.score, [questions[at] for at in places], asking.protocol)


def _title(benchmark: Benchmark, settings: EvaluationSettings, protocol: str) -> str:
    if settings.data is not None and benchmark.name == "captions":
        return f"Captions of {settings.data.resolve().name}, protocol {protocol}"
    return f"{benchmark.title}, protocol {protocol}"
