"""What is made of the answers to a benchmark: scores by language, what else stands in results.json, items, examples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from polylens.evaluation.answer_language import answer_languages
from polylens.evaluation.benchmarks.asking import Asking, sha256_data, sha256_questions
from polylens.evaluation.benchmarks.grouping import by
from polylens.evaluation.benchmarks.interface import Question, Scores, picture_name
from polylens.evaluation.benchmarks.pictures import Located
from polylens.evaluation.examples import best_and_worst
from polylens.evaluation.generation import Generation
from polylens.evaluation.items import ScoredItem, write_items
from polylens.evaluation.measures import metric_of
from polylens.evaluation.predictor import Predictor
from polylens.evaluation.report import Example
from polylens.evaluation.runner import Item, as_row
from polylens.evaluation.settings import EvaluationSettings
from polylens.evaluation.summary import language_name
from polylens.models.limits import Limits, not_among

PIVOT = "en"
# Pictures that are looked at to tell whether the model knows their kind.
LOOKED_AT = 100
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
            scores = replace(
                scores,
                measures={**scores.measures, **told.measures},
                items={**scores.items, **told.items},
                beside={**scores.beside, "answers_in_other_languages": told.others},
            )
        if scores.measures:
            found[code] = scores
    return found


def score_rows(
    asking: Asking, questions: Sequence[Question], said: Sequence[str], scored: Mapping[str, Scores]
) -> dict[str, Any]:
    """Rows by language, the main measure, means over languages, and rows by group."""
    rows = {code: as_row(scores.measures) | dict(scores.beside) for code, scores in scored.items()}
    found: dict[str, Any] = {"languages": rows}
    if not rows:
        return found
    # A language may lack a measure, where its words cannot be told: the fullest row leads.
    fullest = max(scored.values(), key=lambda scores: len(scores.measures)).measures
    names = [*fullest, *(name for scores in scored.values() for name in scores.measures)]
    found["main_measure"] = names[0]
    found["means"] = {name: _means(rows, name) for name in dict.fromkeys(names)}
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


def _means(rows: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float | None]:
    values = {code: row[name] for code, row in rows.items() if name in row}
    others = [value for code, value in values.items() if code != PIVOT]
    return {"all": fmean(values.values()), "without_en": fmean(others) if others else None}


def notes_of(
    settings: EvaluationSettings,
    asking: Asking,
    located: Located,
    scored: Mapping[str, Scores],
) -> list[str]:
    """What a reader of the scores must know, in sentences."""
    benchmark = asking.benchmark
    notes = limit_notes(asking.predictor, located)
    if settings.limit is not None:
        notes.append(
            f"Only the first {settings.limit} questions of each language were scored (--limit): not comparable with"
            " other scores."
        )
    if located.missing:
        notes.append(
            f"{len(located.missing):,} pictures are missing, and {located.left_out:,} questions were left out of the"
            " score (--skip-missing): not comparable with other scores."
        )
    if settings.generation_changes:
        changed = ", ".join(f"{key} {value}" for key, value in settings.generation_changes.items())
        notes.append(
            f"Generation departs from the protocol ({changed}): not comparable with published scores."
        )
    if benchmark.score is None:
        notes.append("These answers are graded by a judge: see `polylens judge`.")
    if benchmark.task in SENTENCES:
        untold = [code for code, scores in scored.items() if "language_identified" not in scores.measures]
        if untold:
            names = ", ".join(language_name(code) for code in untold)
            notes.append(f"Not told from other languages, so not identified: {names}.")
    remarks = dict.fromkeys(note for scores in scored.values() for note in scores.notes)
    return [*notes, *remarks]


def unknown_languages(predictor: Predictor, questions: Sequence[Question]) -> list[str]:
    """Languages that answers are asked for in and that the predictor says it does not know."""
    codes = dict.fromkeys(question.answer_language or question.language for question in questions)
    return not_among(getattr(predictor, "languages", None), list(codes))


def limit_notes(predictor: Predictor, located: Located) -> list[str]:
    """What the predictor does not know: languages, and pictures of another kind, as far as it says so itself."""
    notes = []
    if strange := unknown_languages(predictor, located.questions):
        names = ", ".join(f"{language_name(code)} ({code})" for code in strange)
        notes.append(f"The language model does not know these languages, so expect little: {names}.")
    limits: Limits | None = getattr(predictor, "limits", None)
    if limits is not None:
        distinct = {picture.key: picture for pictures in located.pictures for picture in pictures}
        looked = list(distinct.values())[:LOOKED_AT]
        unfit = sum(not limits.fits(picture.load()) for picture in looked)
        told = f"{limits.note(predictor.name)[0].upper()}{limits.note(predictor.name)[1:]}"
        notes.append(f"{told} {unfit} of {len(looked)} pictures looked at do not look like {limits.kind}.")
    return notes


def settings_of(
    asking: Asking,
    settings: EvaluationSettings,
    baselines: Sequence[str],
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
        "data": str(settings.data or "packaged"),
        "files": files,
        "images": [str(folder) for folder in settings.images],
        "data_sha256": sha256_data(items),
        "questions_sha256": sha256_questions(items),
        "languages": settings.languages,
        "split": settings.split,
        "limit": settings.limit,
        "group_by": settings.group_by,
        "skip_missing": settings.skip_missing,
        "protocol": protocol.name,
        "prompt": items[0].sample.turns[-1].prompt,
        "answers": "likeliest label" if settings.likelihood else "generated",
        "choices": settings.choices,
        "generation": asdict(generation),
        "caption_metrics": protocol.captions,
        "labels_cleaned": protocol.clean_labels,
        "labels_strict": protocol.strict,
        "scoring": scoring,
        "baselines": list(baselines),
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
            values = {
                measure: value for measure, column in columns.items() if (value := column[row]) is not None
            }
            rows.append(ScoredItem(questions[at].id, code, names, values))
    write_items(out, rows)


def shown_examples(
    questions: Sequence[Question],
    items: Sequence[Item],
    said: Sequence[str],
    scored: Mapping[str, Scores],
    results: Mapping[str, Any],
) -> list[Example]:
    """The best and worst answers by the first measure that has a value per question."""
    names = [*(results.get("means") or {})]
    name = next((name for name in names if any(name in scores.items for scores in scored.values())), None)
    if name is None:
        return []
    values: dict[str, float] = {}
    for code, places in by(questions, lambda question: question.language).items():
        column = scored[code].items.get(name, ()) if code in scored else ()
        values |= {
            questions[at].id: value for at, value in zip(places, column, strict=False) if value is not None
        }
    # Shown by the language of the questions: answers to xGQA are all English.
    shown = [
        replace(item, sample=replace(item.sample, language=question.language))
        for question, item in zip(questions, items, strict=True)
    ]
    return best_and_worst(shown, said, values, metric_of(name, results))
