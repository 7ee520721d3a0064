"""What is made of the answers to a benchmark: scores by language, what else stands in results.json, items, examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from polylens.evaluation.answer_language import answer_languages
from polylens.evaluation.benchmarks.asking import Asking, sha256_questions
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores, picture_name
from polylens.evaluation.benchmarks.pictures import Located
from polylens.evaluation.benchmarks.request import Request
from polylens.evaluation.examples import best_and_worst
from polylens.evaluation.generation import Generation
from polylens.evaluation.items import ScoredItem, write_items
from polylens.evaluation.measures import METRICS, Metric
from polylens.evaluation.report import Example
from polylens.evaluation.runner import Item, as_row

PIVOT = "en"
# Tasks whose answers are long enough to tell what language they are in.
SENTENCES = ("caption", "chair", "chair_detail", "question")


def score_all(asking: Asking, questions: Sequence[Question], said: Sequence[str]) -> dict[str, Scores]:
    """{language: scores of its questions}, of long answers also how many are in the language asked for.

    A benchmark that is left to a judge has only the latter.
    """
    found = {}
    for code, places in by(questions, lambda question: question.language).items():
        mine, answers = [questions[at] for at in places], [said[at] for at in places]
        scores = Scores({})
        if asking.benchmark.score:
            scores = asking.benchmark.score(mine, answers, asking.protocol)
        if asking.benchmark.task in SENTENCES:
            told = answer_languages(answers, code)
            settings = {"answers in other languages": told.others} if told.others else {}
            scores = replace(
                scores,
                measures={**scores.measures, **told.measures},
                items={**scores.items, **told.items},
                settings={**scores.settings, **settings},
            )
        if scores.measures:
            found[code] = scores
    return found


def score_rows(
    asking: Asking, questions: Sequence[Question], said: Sequence[str], scored: Mapping[str, Scores]
) -> dict[str, Any]:
    rows = {code: as_row(scores.measures) for code, scores in scored.items()}
    found: dict[str, Any] = {"languages": rows}
    if not rows:
        return found
    names = list(next(iter(scored.values())).measures)
    found["main_measure"] = names[0]
    found["means"] = {
        name: {
            "all": fmean(row[name] for row in rows.values()),
            "without_en": fmean(others)
            if (others := [row[name] for code, row in rows.items() if code != PIVOT])
            else None,
        }
        for name in names
    }
    groups = by(questions, lambda question: question.group)
    if set(groups) != {""}:
        found["groups"] = {
            group or "-": {
                code: as_row(scores.measures)
                for code, scores in score_all(
                    asking, [questions[at] for at in places], [said[at] for at in places]
                ).items()
            }
            for group, places in groups.items()
        }
    return found


def notes_of(
    request: Request,
    located: Located,
    unknown: Sequence[str],
    scored: Mapping[str, Scores],
    benchmark: Benchmark,
) -> list[str]:
    notes = []
    if request.limit is not None:
        notes.append(
            f"Only the first {request.limit} questions of each language were scored (--limit): not comparable with"
            " other scores."
        )
    if located.missing:
        notes.append(
            f"{len(located.missing):,} pictures are missing, and {located.left_out:,} questions were left out of the"
            " score (--skip-missing): not comparable with other scores."
        )
    if unknown:
        notes.append(f"Languages that have no name here were left out: {', '.join(unknown)}.")
    if request.changes:
        changed = ", ".join(f"{key} {value}" for key, value in request.changes.items())
        notes.append(
            f"Generation departs from the protocol ({changed}): not comparable with published scores."
        )
    if benchmark.score is None:
        notes.append("These answers are graded by a judge: see `polylens judge`.")
    remarks = dict.fromkeys(note for scores in scored.values() for note in scores.notes)
    return [*notes, *remarks]


def settings_of(
    asking: Asking,
    request: Request,
    items: Sequence[Item],
    scored: Mapping[str, Scores],
    generation: Generation,
    translator: str,
) -> dict[str, Any]:
    protocol = asking.protocol
    files = sorted({str(item.sample.extra["file"]) for item in items if "file" in item.sample.extra})
    scoring: dict[str, Any] = {}
    for code, scores in scored.items():
        for name, value in scores.settings.items():
            scoring.setdefault(name, {}).setdefault(str(value), []).append(code)
    return {
        "benchmark": asking.benchmark.name,
        "data": str(request.data or "packaged"),
        "files": files,
        "images": [str(folder) for folder in request.images],
        "questions_sha256": sha256_questions(items),
        "languages": request.languages,
        "limit": request.limit,
        "skip_missing": request.skip_missing,
        "protocol": protocol.name,
        "prompt": items[0].sample.turns[-1].prompt,
        "answers": "likeliest label" if request.likelihood else "generated",
        "generation": asdict(generation),
        "labels_cleaned": protocol.clean_labels,
        "labels_strict": protocol.strict,
        "scoring": scoring,
        "baselines": list(request.baselines),
        "translator": translator,
        "model": dict(asking.predictor.settings),
    }


def write_scored(out: Path, questions: Sequence[Question], scored: Mapping[str, Scores]) -> None:
    """items.jsonl: every measure that has a value per question, for comparisons."""
    rows = []
    for code, places in by(questions, lambda question: question.language).items():
        columns = scored[code].items if code in scored else {}
        for row, at in enumerate(places):
            names = [picture_name(name) for name in questions[at].images]
            values = {measure: column[row] for measure, column in columns.items()}
            rows.append(ScoredItem(questions[at].id, code, names, values))
    write_items(out, rows)


def shown_examples(
    questions: Sequence[Question], items: Sequence[Item], said: Sequence[str], scored: Mapping[str, Scores]
) -> list[Example]:
    """The best and worst answers by the main measure, where it has a value per question."""
    name = next(
        (name for scores in scored.values() for name in scores.measures if name in scores.items), None
    )
    if name is None:
        return []
    values: dict[str, float] = {}
    for code, places in by(questions, lambda question: question.language).items():
        values |= {questions[at].id: scored[code].items[name][row] for row, at in enumerate(places)}
    # Shown by the language of the questions: answers to xGQA are all English.
    shown = [
        replace(item, sample=replace(item.sample, language=question.language))
        for question, item in zip(questions, items, strict=True)
    ]
    return best_and_worst(shown, said, values, METRICS.get(name) or Metric(name=name, label=name))


def by(questions: Sequence[Question], key: Callable[[Question], str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(key(question), []).append(place)
    return places
