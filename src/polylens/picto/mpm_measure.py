"""What a model answers to questions that do not say which language they want, and in which language it answers.

Of Picto's words it is known exactly whose they are, so that no identifier has to guess at single words. An answer is

    asked      of more words that only the question's language has than of words that only English has
    english    the other way about
    both       of words that both have ("pizza"): it tells nothing, and is left out of the shares
    neither    none of these: a misspelt word, one of a third language, nothing

where the words of a language are its names and keywords, and its yes and no.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from polylens.data.sample import Sample
from polylens.evaluation.answer_language import answer_languages
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.evaluation.names import exact_match
from polylens.evaluation.runner import as_row
from polylens.models.vlm import VisionLanguageModel
from polylens.picto.conversations import question, told_of
from polylens.picto.measure import PIVOT, Advance, generate, silent
from polylens.picto.tasks import Drawn, question_table
from polylens.picto.world import annotations
from polylens.text import normalise

# One that is answered by a name, one by several words, one by yes or no: the last tells whether a question is
# understood, whatever language the answer is in.
KINDS = ("caption", "keywords", "yesno")
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Asked:
    """Questions and what a model said to them, {language: {kind: [(question, answer)]}}."""

    said: Mapping[str, Mapping[str, Sequence[tuple[Sample, str]]]]

    def of(self, codes: Sequence[str]) -> "Asked":
        """Those of some languages."""
        return Asked({code: self.said[code] for code in codes})

    def values(
        self, kind: str, value: Callable[[Sample, str], float | None]
    ) -> tuple[list[float], list[str]]:
        """`value` of every answer of one kind that has one, and the concept that each is about."""
        found = [
            (value(sample, text), sample) for kinds in self.said.values() for sample, text in kinds[kind]
        ]
        kept = [(number, str(sample.extra["concept"])) for number, sample in found if number is not None]
        return [number for number, _ in kept], [concept for _, concept in kept]


def ask(
    model: VisionLanguageModel, drawn: Sequence[Drawn], languages: Sequence[str], advance: Advance = silent
) -> Asked:
    """Every kind of question about every picture, each in its own language; `advance` hears of answers done."""
    visual = model.encode_pictures([concept.picture(style) for concept, style in drawn])
    said: dict[str, dict[str, list[tuple[Sample, str]]]] = {}
    for code in languages:
        said[code] = {}
        for kind in KINDS:
            asked = questions(drawn, code, kind)
            said[code][kind] = list(zip(asked, generate(model, asked, visual), strict=True))
            advance(len(drawn))
    return Asked(said)


def questions(drawn: Sequence[Drawn], code: str, kind: str) -> list[Sample]:
    """One question for each picture whose concept has the words for it in that language."""
    asked = [question(concept, style, code, kind) for concept, style in drawn]
    return [sample for sample in asked if sample is not None]


def named_from_text(
    model: VisionLanguageModel, drawn: Sequence[Drawn], languages: Sequence[str]
) -> dict[str, float]:
    """The yardstick: exact match of names where the English name is told in the place of the picture."""
    scores = {}
    for code in languages:
        pairs = [(concept, question(concept, style, code, "caption")) for concept, style in drawn]
        asked = [told_of(concept, PIVOT, sample) for concept, sample in pairs if sample is not None]
        scores[code] = _share_right(asked, generate(model, asked))
    return scores


def named_blindly(model: VisionLanguageModel, drawn: Sequence[Drawn], languages: Sequence[str]) -> float:
    """The control: exact match of names without pictures, mean over languages."""
    scores = []
    for code in languages:
        asked = [replace(sample, images=()) for sample in questions(drawn, code, "caption")]
        scores.append(_share_right(asked, generate(model, asked)))
    return sum(scores) / len(scores)


def _share_right(asked: Sequence[Sample], said: Sequence[str]) -> float:
    return sum(map(right, asked, said)) / len(asked)


def rows(asked: Asked) -> dict[str, dict[str, Any]]:
    """results.json's `languages`: each with its scores, intervals by pictures."""
    return {code: row(asked.of([code])) for code in asked.said}


def row(asked: Asked) -> dict[str, Any]:
    """The scores of some languages together, each answer counting once; `n` counts names."""
    scores = {
        "exact_match": bootstrap_mean(*asked.values("caption", right)),
        "right_in_either": bootstrap_mean(*asked.values("caption", right_in_either)),
        "yes_no": bootstrap_mean(*asked.values("yesno", yes_no_right)),
    }
    for name, wanted in (("asked_language", "asked"), ("answered_in_english", "english")):
        values, concepts = in_language(asked, wanted)
        if values:
            scores[name] = bootstrap_mean(values, concepts)
    return as_row(scores)


def in_language(asked: Asked, wanted: str, kinds: Sequence[str] = KINDS) -> tuple[list[float], list[str]]:
    """Whether each answer that tells is in `wanted`, and the concept it is about; English questions are left out."""

    def value(sample: Sample, text: str) -> float | None:
        found = answered_in(text, sample.language)
        return None if found == "both" or sample.language == PIVOT else float(found == wanted)

    pairs = [asked.values(kind, value) for kind in kinds]
    return [v for values, _ in pairs for v in values], [c for _, concepts in pairs for c in concepts]


def identified(asked: Asked, code: str) -> float | None:
    """The share of lists of keywords, which are longest, that the identifier takes for the language asked for."""
    texts = [text for _, text in asked.said[code]["keywords"]]
    score = answer_languages(texts, code).measures.get("language_identified")
    return None if score is None else score.value


def answered_in(text: str, code: str) -> str:
    """'asked', 'english', 'both' or 'neither': see the module."""
    pieces = [normalise(piece) for piece in text.split(",")]
    mine = [piece in words(code) for piece in pieces]
    theirs = [piece in words(PIVOT) for piece in pieces]
    asked = sum(m and not e for m, e in zip(mine, theirs, strict=True))
    english = sum(e and not m for m, e in zip(mine, theirs, strict=True))
    if asked != english:
        return "asked" if asked > english else "english"
    return "both" if not asked and any(mine) else "neither"


@cache
def words(code: str) -> frozenset[str]:
    """All names and keywords of a language, and its yes and no, as they are compared."""
    texts = [text for name, keywords in annotations()[code].values() for text in (name, *keywords)]
    return frozenset(map(normalise, [*texts, *(question_table()[code][kind] for kind in YES_NO)]))


def right(sample: Sample, text: str) -> float:
    return exact_match(text, sample.turns[-1].answer)


def right_in_either(sample: Sample, text: str) -> float:
    """Whether a name is right, in the question's language or in English."""
    english = annotations()[PIVOT][sample.extra["concept"]][0]
    return exact_match(text, [sample.turns[-1].answer, english])


def yes_no_right(sample: Sample, text: str) -> float:
    """Whether yes or no is right, in the question's language or in English."""
    own, english = question_table()[sample.language], question_table()[PIVOT]
    kind = next(kind for kind in YES_NO if own[kind] == sample.turns[-1].answer)
    return exact_match(text, [own[kind], english[kind]])
