"""What a score stands beside: the same model without the picture, or through English, and no model at all.

text-only       the question without its pictures
translate-test  question -> English -> answered in English -> translated back, by a translator or by the model itself
text-ceiling    people's English caption as text in the picture's place, put into the language by the same model
majority        the answer that is right most often, given to every question of the language
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.benchmarks.answering import Answering
from polylens.evaluation.benchmarks.answers import lettered
from polylens.evaluation.benchmarks.asking import in_text_only, with_text
from polylens.evaluation.benchmarks.grouping import by
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores
from polylens.evaluation.benchmarks.results import score_all
from polylens.evaluation.benchmarks.scoring import majority
from polylens.evaluation.runner import Item, as_row
from polylens.evaluation.settings import ITSELF

PIVOT = "en"

# (texts, source code, target code) -> translations, in order.
Translate = Callable[[Sequence[str], str, str], Sequence[str]]


def check_baselines(
    names: Sequence[str],
    benchmark: Benchmark,
    questions: Sequence[Question],
    translator: str | None,
    translate: Translate | None,
) -> None:
    """Raises `UserError` for a baseline that this run cannot have, before anything is answered."""
    captions = (benchmark.task, benchmark.score is not None) == ("caption", True)
    if "translate-test" in names:
        if translate is None and translator != ITSELF:
            raise UserError("The baseline translate-test needs a translator: name one with --translator.")
        if translator == ITSELF and not captions:
            raise UserError(
                f"{benchmark.title}: the model translates captions only; name another --translator."
            )
    if "text-ceiling" in names:
        if not captions:
            raise UserError(f"{benchmark.title} has no captions, so no text-ceiling: leave it out.")
        if not any(question.language == PIVOT for question in questions):
            raise UserError(
                "The text-ceiling is made of English captions, and the questions have none: add 'en'."
            )


@dataclass(frozen=True)
class Baselines:
    """The questions of a run with their pictures and items, to be answered in other ways."""

    run: Answering
    questions: Sequence[Question]
    pictures: Sequence[tuple[Picture, ...]]
    items: Sequence[Item]
    translate: Translate | None = None

    def results(self, name: str) -> dict[str, Any]:
        """{name: {language: value of the main measure}}, and all measures in `NAME_scores`."""
        ways = {
            "majority": self._majority,
            "text-only": self._text_only,
            "translate-test": self._through_english,
            "text-ceiling": self._text_ceiling,
        }
        scored = ways[name]()
        key = name.replace("-", "_")
        rows = {code: as_row(scores.measures) for code, scores in scored.items()}
        main = {code: next(iter(scores.measures.values())).value for code, scores in scored.items()}
        return {key: main, f"{key}_scores": rows}

    def _score(self, places: Sequence[int], said: Sequence[str]) -> dict[str, Scores]:
        return score_all(self.run.asking, [self.questions[at] for at in places], said)

    def _majority(self) -> dict[str, Scores]:
        said = [""] * len(self.questions)
        for places in by(self.questions, lambda question: question.language).values():
            most = majority([self.questions[at] for at in places])
            for at in places:
                said[at] = most
        return self._score(range(len(said)), said)

    def _text_only(self) -> dict[str, Scores]:
        said = self.run.answer(in_text_only(self.items), "text-only", likelihood=self.run.settings.likelihood)
        return self._score(range(len(said)), said)

    def _text_ceiling(self) -> dict[str, Scores]:
        english = {
            tuple(p.key for p in pictures): question.answers[0]
            for question, pictures in zip(self.questions, self.pictures, strict=True)
            if question.language == PIVOT
        }
        keys = [tuple(p.key for p in pictures) for pictures in self.pictures]
        places = [at for at in self._others() if keys[at] in english]
        if not places:
            return {}
        items = with_text([self.items[at] for at in places], [english[keys[at]] for at in places])
        return self._score(places, self.run.answer(items, "text-ceiling"))

    def _through_english(self) -> dict[str, Scores]:
        others = self._others()
        if not others:
            return {}
        translate = self.translate
        english = in_english([self.questions[at] for at in others], translate or _nothing_to_translate)
        asked = [
            self.run.asking.item(question, self.pictures[at])
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
        texts = self.run.answer(
            list(distinct.values()), "translate-test", likelihood=self.run.settings.likelihood
        )
        by_key = dict(zip(distinct, texts, strict=True))
        in_english_said = [by_key[key] for key in keys]
        if translate is None:
            said = self.run.answer(
                with_text([self.items[at] for at in others], in_english_said), "translate-test-back"
            )
        else:
            said = back(in_english_said, english.into, translate)
        # Options are compared in English, answers in the language that they are scored in.
        originals = [
            replace(self.questions[at], extra=question.extra)
            for question, at in zip(english.questions, others, strict=True)
        ]
        return score_all(self.run.asking, originals, said)

    def _others(self) -> list[int]:
        return [place for place, question in enumerate(self.questions) if question.language != PIVOT]


def _nothing_to_translate(texts: Sequence[str], source: str, target: str) -> Sequence[str]:
    assert not texts, "only captions, whose questions hold no text, are translated by the model itself"
    return []


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
