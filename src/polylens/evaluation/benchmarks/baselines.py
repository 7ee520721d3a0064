"""What a score stands beside: the same model without the picture, or through English, and no model at all.

text-only       the question without its pictures
translate-test  question -> English -> answered in English -> translated back
majority        the answer that is right most often, given to every question of the language
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from polylens.errors import UserError
from polylens.evaluation.benchmarks.answers import lettered
from polylens.evaluation.benchmarks.interface import Question

PIVOT = "en"
NAMES = ("text-only", "translate-test", "majority")

# (texts, source code, target code) -> translations, in order.
Translate = Callable[[Sequence[str], str, str], Sequence[str]]


@dataclass(frozen=True)
class InEnglish:
    """Questions as they are put in English, and what their answers are translated into ("": they stay)."""

    questions: list[Question]
    into: list[str]


def in_english(questions: Sequence[Question], translate: Translate) -> InEnglish:
    """Every question with its texts and options in English, its answer wanted in English.

    Raises `UserError` for questions that come with prompts of their own.
    """
    if any(question.prompt is not None for question in questions):
        raise UserError(
            "This benchmark's prompts are its own and cannot be translated: leave translate-test out."
        )
    texts: dict[str, dict[str, None]] = {}
    for question in questions:
        if question.language != PIVOT:
            texts.setdefault(question.language, {}).update(dict.fromkeys(_texts(question)))
    english = {
        code: dict(zip(mine, translate(list(mine), code, PIVOT), strict=True))
        for code, mine in texts.items()
        if mine
    }
    asked = [_in_english(question, english.get(question.language, {})) for question in questions]
    return InEnglish(asked, [_into(question) for question in questions])


def back(said: Sequence[str], into: Sequence[str], translate: Translate) -> list[str]:
    """English answers in the languages that they are scored in."""
    places: dict[str, list[int]] = {}
    for place, code in enumerate(into):
        if code:
            places.setdefault(code, []).append(place)
    answers = list(said)
    for code, mine in places.items():
        distinct = list(dict.fromkeys(answers[place] for place in mine))
        translated = dict(zip(distinct, translate(distinct, PIVOT, code), strict=True))
        for place in mine:
            answers[place] = translated[answers[place]]
    return answers


def _texts(question: Question) -> list[str]:
    options = question.extra.get("options", ())
    return [*(text for name, text in question.fields.items() if name != "options"), *options]


def _in_english(question: Question, english: dict[str, str]) -> Question:
    fields = {name: english.get(text, text) for name, text in question.fields.items()}
    extra = dict(question.extra)
    if "options" in extra and "options" in fields:
        extra["options"] = [english.get(text, text) for text in extra["options"]]
        fields["options"] = lettered(extra["options"])
    return replace(question, fields=fields, extra=extra, answer_language=PIVOT)


def _into(question: Question) -> str:
    code = question.answer_language or question.language
    # A letter or a label needs no translation.
    return "" if code == PIVOT or question.choices else code
