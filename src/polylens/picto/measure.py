"""What a model sees in Picto's pictures, language by language, beside controls and yardsticks.

scores      exact match, chrF and choice among 100 names, of the picture shown
no_image    the prompt alone                          other_image  another concept's picture, which it must name
ceiling     the English name given as text            translate    the model's own English answer given as text
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from polylens.data.sample import Sample, Turn
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.evaluation.names import exact_match
from polylens.evaluation.runner import as_row, name_scores
from polylens.models.vlm import VisionLanguageModel
from polylens.picto.tasks import naming
from polylens.picto.workers import each_part
from polylens.picto.world import Concept, concepts
from polylens.text import normalise

NUM_CANDIDATES = 100
# The demo's drawings in one language, held-out ones included; several languages at once are slower.
BATCH_SIZE = 640
MAX_NEW_TOKENS = 24
PIVOT = "en"

Drawn = tuple[Concept, str]
Advance = Callable[[int], None]


def silent(count: int) -> None:
    """For callers that show no progress."""


@dataclass(frozen=True)
class Answers:
    """What a model said of `drawn` pictures, {language: one answer per picture}, and which names it chose."""

    drawn: Sequence[Drawn]
    said: Mapping[str, Sequence[str]]
    chosen: Mapping[str, Sequence[str]]

    def __getitem__(self, part: slice) -> "Answers":
        """What was said of some of the pictures."""
        said, chosen = (
            {code: texts[part] for code, texts in all.items()} for all in (self.said, self.chosen)
        )
        return Answers(self.drawn[part], said, chosen)


def describe(
    model: VisionLanguageModel,
    drawn: Sequence[Drawn],
    languages: Sequence[str],
    *,
    choose: bool = True,
    advance: Advance = silent,
) -> Answers:
    """Name every picture in every language, and choose among 100 names; `advance` hears of answers done."""
    visual = model.encode_pictures([concept.picture(style) for concept, style in drawn], BATCH_SIZE)
    return _answers(model, drawn, languages, visual, choose, advance)


def without_pictures(
    model: VisionLanguageModel,
    drawn: Sequence[Drawn],
    languages: Sequence[str],
    *,
    choose: bool = True,
    advance: Advance = silent,
) -> Answers:
    """Control: the prompt alone, scored as if the pictures had been shown."""
    return _answers(model, drawn, languages, None, choose, advance)


def _answers(
    model: VisionLanguageModel,
    drawn: Sequence[Drawn],
    languages: Sequence[str],
    visual: Mapping[str, torch.Tensor] | None,
    choose: bool,
    advance: Advance,
) -> Answers:
    """What is said and chosen in every language; without `visual`, no picture is shown."""

    def answer(codes: Sequence[str]) -> tuple[list[str], list[str]]:
        asked = [naming(concept, style, code) for code in codes for concept, style in drawn]
        if visual is None:
            asked = [replace(sample, images=()) for sample in asked]
        texts = generate(model, asked, visual)
        if not choose:
            return texts, []
        names = [candidates(concept, code) for code in codes for concept, _ in drawn]
        picks = model.choose(asked, names, visual=visual, batch_size=BATCH_SIZE)
        return texts, [row[pick] for row, pick in zip(names, picks, strict=True)]

    said, chosen = {}, {}
    # Of few pictures several languages fill a batch, which small models need to be fast.
    together = max(1, BATCH_SIZE // max(1, len(drawn)))
    parts = [languages[start : start + together] for start in range(0, len(languages), together)]
    for codes, (texts, names) in each_part(answer, parts, model.device):
        for number, code in enumerate(codes):
            mine = slice(number * len(drawn), (number + 1) * len(drawn))
            said[code] = texts[mine]
            if choose:
                chosen[code] = names[mine]
            advance(len(drawn))
    return Answers(drawn, said, chosen)


def generate(
    model: VisionLanguageModel, samples: Sequence[Sample], visual: Mapping[str, torch.Tensor] | None = None
) -> list[str]:
    """Greedy answers; samples that are alike but for their answer are answered once."""
    distinct: dict[tuple[Any, ...], Sample] = {}
    keys = [(tuple(p.key for p in s.images), s.turns[-1].prompt) for s in samples]
    for key, sample in zip(keys, samples, strict=True):
        distinct.setdefault(key, sample)
    texts = model.generate(
        list(distinct.values()), visual=visual, batch_size=BATCH_SIZE, max_new_tokens=MAX_NEW_TOKENS
    )
    answers = dict(zip(distinct, texts, strict=True))
    return [answers[key] for key in keys]


def from_text(
    model: VisionLanguageModel,
    drawn: Sequence[Drawn],
    english: Sequence[str],
    languages: Sequence[str],
    *,
    known: Mapping[str, Mapping[str, str]] | None = None,
    advance: Advance = silent,
) -> dict[str, list[str]]:
    """English text in the picture's place, translated by the same language model: {language: answers}.

    `known` are answers that this language model gave before, {language: {English text: answer}}.
    """

    def translate(code: str) -> list[str]:
        answers = dict((known or {}).get(code, {}))
        asked: dict[str, Sample] = {}
        for (concept, style), text in zip(drawn, english, strict=True):
            if text not in answers:
                sample = naming(concept, style, code)
                turn = Turn(f"{text} {sample.turns[-1].prompt}", sample.turns[-1].answer)
                asked[text] = replace(sample, images=(), turns=(turn,))
        answers |= zip(asked, generate(model, list(asked.values())), strict=True)
        return [answers[text] for text in english]

    said = {}
    others = [code for code in languages if code != PIVOT]
    for code, texts in each_part(translate, others, model.device):
        said[code] = texts
        advance(len(drawn))
    return said


def names_of(drawn: Sequence[Drawn], code: str) -> list[str]:
    """What each picture is called in a language."""
    return [concept.name(code) or "" for concept, _ in drawn]


def candidates(concept: Concept, code: str) -> list[str]:
    """The concept's name and those of 99 others: half of its group; the same concepts in every language."""
    return [each.name(code) or "" for each in (concept, *distractors(concept))]


@cache
def distractors(concept: Concept) -> tuple[Concept, ...]:
    """99 other concepts, half of them of the same group, drawn by the concept alone."""
    rng = random.Random(f"distractors/{concept.id}")
    others = [c for c in concepts() if c.scored and c.id != concept.id]
    near = [c for c in others if c.group == concept.group]
    picked = rng.sample(near, NUM_CANDIDATES // 2)
    ids = {c.id for c in picked}
    return (*picked, *rng.sample([c for c in others if c.id not in ids], NUM_CANDIDATES - 1 - len(picked)))


def exact(said: Sequence[str], drawn: Sequence[Drawn], code: str) -> list[float]:
    """1.0 where the answer is the concept's name in that language."""
    return [
        exact_match(text, concept.name(code) or "") for text, (concept, _) in zip(said, drawn, strict=True)
    ]


def mean_exact(answers: Mapping[str, Sequence[str]], drawn: Sequence[Drawn]) -> float:
    """Exact match, mean over pictures, then over languages."""
    means = [sum(exact(said, drawn, code)) / len(drawn) for code, said in answers.items()]
    return sum(means) / len(means)


def mean_choice(answers: Answers) -> float:
    """Share of pictures whose own name was chosen, mean over pictures, then over languages."""
    means = [sum(right_choices(answers, code)) / len(answers.drawn) for code in answers.chosen]
    return sum(means) / len(means)


def right_choices(answers: Answers, code: str) -> list[float]:
    return [
        float(text == concept.name(code))
        for text, (concept, _) in zip(answers.chosen[code], answers.drawn, strict=True)
    ]


def language_rows(answers: Answers) -> dict[str, dict[str, Any]]:
    """results.json's `languages`: scores with intervals, and their ratios to English.

    A concept whose name equals the English one leaves both sides of that language's ratio.
    """
    rows = {}
    for code, said in answers.said.items():
        names = names_of(answers.drawn, code)
        scores = name_scores(said, [[name] for name in names])
        if code in answers.chosen:
            scores["choice_accuracy"] = bootstrap_mean(right_choices(answers, code))
        row = as_row(scores)
        if PIVOT in answers.said and code != PIVOT:
            pairs = zip(names, names_of(answers.drawn, PIVOT), strict=True)
            own = [at for at, (name, english) in enumerate(pairs) if normalise(name) != normalise(english)]
            row["n_ratio"] = len(own)
            row["pivot_ratio"] = _ratio(
                exact(said, answers.drawn, code), exact(answers.said[PIVOT], answers.drawn, PIVOT), own
            )
            if code in answers.chosen:
                row["choice_pivot_ratio"] = _ratio(
                    right_choices(answers, code), right_choices(answers, PIVOT), own
                )
        rows[code] = row
    return rows


def _ratio(values: Sequence[float], english: Sequence[float], places: Sequence[int]) -> float | None:
    base = sum(english[at] for at in places)
    return sum(values[at] for at in places) / base if base else None


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the languages other than English, and the worst of them."""
    found: dict[str, Any] = {}
    for key, name in (("pivot_ratio", "pivot_ratio"), ("choice_pivot_ratio", "choice_pivot_ratio")):
        ratios = {code: row[key] for code, row in rows.items() if row.get(key) is not None}
        if ratios:
            found[f"mean_{name}"] = sum(ratios.values()) / len(ratios)
            if key == "pivot_ratio":
                worst = min(ratios, key=lambda code: ratios[code])
                found |= {"worst_pivot_ratio": ratios[worst], "worst_language": worst}
    return found
