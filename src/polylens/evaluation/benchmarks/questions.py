"""The questions of a benchmark that the settings ask for, all checked before the first one is answered."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from polylens.errors import UserError
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scorer
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.settings import EvaluationSettings
from polylens.languages import language_codes, split_list
from polylens.recipe_text import nearest


def read_questions(benchmark: Benchmark, settings: EvaluationSettings) -> list[Question]:
    """The questions in the languages asked for, grouped as `group_by` says.

    Raises `UserError` for files that cannot be read or hold nothing in a language asked for, and for a question that
    `check_questions` refuses.
    """
    _check_folder(benchmark, settings)
    folder = settings.data or Path()
    if settings.languages.strip().lower() == "all":
        codes = None
    else:
        codes = language_codes(split_list(settings.languages))
        if not codes:
            raise UserError(f"No language in '{settings.languages}': give codes such as 'de,sw', or 'all'.")
    questions = list(benchmark.read(folder, codes))
    found = {question.language for question in questions}
    if missing := [code for code in codes or () if code not in found]:
        there = dict.fromkeys(question.language for question in benchmark.read(folder, None))
        raise UserError(
            f"{benchmark.title} in '{folder}' has nothing in {', '.join(missing)}: it has {', '.join(there) or 'none'}."
        )
    if not questions:
        raise UserError(f"'{folder}' holds no question of {benchmark.title}: give its folder with --data.")
    check_questions(questions, benchmark)
    return _grouped(questions, settings.group_by) if settings.group_by else questions


def first_of_each_language(questions: Iterable[Question], limit: int | None) -> list[int]:
    """The places of the first `limit` questions of each language; of all without a limit."""
    counts: dict[str, int] = {}
    kept = []
    for place, question in enumerate(questions):
        counts[question.language] = counts.get(question.language, 0) + 1
        if limit is None or counts[question.language] <= limit:
            kept.append(place)
    return kept


def check_questions(questions: Sequence[Question], benchmark: Benchmark) -> None:
    """Raises `UserError`, with file and row, for two questions of one id, and for a question that cannot be scored."""
    seen: dict[str, Question] = {}
    for question in questions:
        first = seen.setdefault(question.id, question)
        if first is not question:
            raise UserError(
                f"{question.place}: the id '{question.id}' is that of {first.place} too: give each its own."
            )
        if not isinstance(question.answers, tuple) or not all(
            isinstance(one, str) for one in question.answers
        ):
            raise UserError(f"{question.place}: the answers {question.answers!r:.60} are not all texts.")
        if benchmark.needs_answers and not question.answers:
            raise UserError(
                f"{question.place}: no reference answer, so it cannot be scored: give one or more."
            )
        wrong = next((name for name, text in question.fields.items() if not isinstance(text, str)), None)
        if wrong is not None:
            raise UserError(
                f"{question.place}: '{wrong}' is {question.fields[wrong]!r:.60}: a text was expected."
            )
        if question.choices and not set(question.answers) & set(question.choices):
            raise UserError(
                f"{question.place}: the right answer {', '.join(question.answers)!r:.60} is none of the choices "
                f"({', '.join(question.choices)[:60]})."
            )


def check_scorer(score: Scorer, questions: Sequence[Question], protocol: Protocol) -> None:
    """Score the questions of one language with empty answers: whatever fails, fails before hours of answering.

    Raises `UserError`, with file and row where some questions are to blame and not all.
    """
    try:
        score(questions, [""] * len(questions), protocol)
    except UserError as error:
        blamed = [question for question in questions if not _can_be_scored(score, question, protocol)]
        if 0 < len(blamed) < len(questions):
            raise UserError(f"{blamed[0].place}: {error}") from error
        raise


def _can_be_scored(score: Scorer, question: Question, protocol: Protocol) -> bool:
    try:
        score([question], [""], protocol)
    except UserError:
        return False
    return True


def _check_folder(benchmark: Benchmark, settings: EvaluationSettings) -> None:
    if settings.data is None and not benchmark.packaged:
        raise UserError(f"{benchmark.title} needs the folder of its files (--data): {benchmark.files}.")
    if settings.data is not None and not settings.data.is_dir():
        raise UserError(f"There is no folder '{settings.data}': give the one that holds {benchmark.files}.")


def _grouped(questions: Sequence[Question], field: str) -> list[Question]:
    """The questions with the value of an extra field for their group; those without it are the group "-"."""
    fields = {name for question in questions for name in question.extra}
    if field not in fields:
        hint = f"the nearest is '{nearest(field, fields)}'" if fields else "they have none"
        raise UserError(f"No row has a field '{field}' to group by: {hint}.")
    return [replace(question, group=str(question.extra.get(field, "-"))) for question in questions]
