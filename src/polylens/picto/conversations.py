"""Conversations about one picture, made of Picto's tasks, in which only the question says what language is wanted.

    (picture) Was ist das?  Katze    Ist das: Hund?  nein    Stichwörter?  Haustier, Katze

In Picto's other samples "German:" stands before a question; here nothing does, so that a model which answers in German
has taken that from the question. What Picto's language model has read knows no questions at all; told ones, with words
in the place of the picture, teach it from text alone what a large language model brings along:

    Katze Katze Katze Katze Was ist das?  Katze      cat cat cat cat Ist das: Hund?  nein
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.picto.prompts import MAX_KEYWORDS, prompt
from polylens.picto.tasks import pictures, question_table, task_sample
from polylens.picto.world import LANGUAGES, Concept

# Those of Picto's tasks that are about one picture; of the open ones, how their questions are called in questions.json.
ASKED = ("caption", "keywords", "yesno", "choice")
OPEN = {"caption": "what", "keywords": "words"}
# As in the corpus of the language model: how often English is the language of what is told, and a name said often
# enough to be about as long as a picture's visual tokens.
ENGLISH_SHARE = 0.3
TOLD_TIMES = 4


def conversations(
    *,
    languages: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    split: str = "train",
    drawings: str = "colour",
    num_concepts: int | None = None,
    told: bool = False,
    seed: int = 0,
) -> list[Sample]:
    """One conversation for each picture and language, its questions in an order by chance.

    `split`, `drawings` and `num_concepts` choose pictures as `tasks.samples` does; `tasks` are the questions asked, all
    of `ASKED` if not given. With `told`, there is one for each concept and language, in which the concept's name in
    some language stands in the place of the picture. Raises `UserError` for questions, drawings or a language that
    there are none of.
    """
    kinds = tuple(tasks or ASKED)
    wrong = next((task for task in kinds if task not in ASKED), None)
    if wrong is not None:
        raise UserError(f"Conversations have no task '{wrong}': choose from {', '.join(ASKED)}.")
    silent = next((code for code in languages or () if code not in LANGUAGES), None)
    if silent is not None:
        raise UserError(f"Picto has no questions in '{silent}': choose from {', '.join(LANGUAGES)}.")
    drawn = pictures(split, drawings=drawings, num_concepts=num_concepts, seed=seed)
    if told:
        drawn = list({concept.id: (concept, style) for concept, style in drawn}.values())
    found = (_conversation(*one, code, kinds, told, seed) for code in languages or LANGUAGES for one in drawn)
    return [sample for sample in found if sample is not None]


def question(concept: Concept, style: str, code: str, task: str, seed: int = 0) -> Sample | None:
    """One question in its own language, not announced; None where the language lacks the words for it.

    Of keywords, the answer has five at most.
    """
    sample = task_sample(concept, style, code, task, seed)
    if sample is None:
        return None
    (turn,) = sample.turns
    asked = (
        question_table()[code][OPEN[task]] if task in OPEN else turn.prompt.removeprefix(f"{prompt(code)} ")
    )
    answer = turn.answer
    if task == "keywords":
        answer = ", ".join(concept.keywords(code)[:MAX_KEYWORDS])
    return replace(sample, turns=(Turn(asked, answer),), source="picto-conversations")


def told_of(concept: Concept, language: str, sample: Sample) -> Sample:
    """`sample` with the concept's name in `language` in the place of the picture."""
    first, *others = sample.turns
    words = " ".join([concept.name(language) or ""] * TOLD_TIMES)
    told = Turn(f"{words} {first.prompt}", first.answer)
    return replace(sample, id=f"{sample.id}/told-{language}", images=(), turns=(told, *others))


def _conversation(
    concept: Concept, style: str, code: str, kinds: Sequence[str], told: bool, seed: int
) -> Sample | None:
    asked = [sample for kind in kinds if (sample := question(concept, style, code, kind, seed)) is not None]
    if not asked:
        return None
    rng = random.Random(f"{seed}/{concept.id}/{style}/{code}/conversation")
    rng.shuffle(asked)
    whole = replace(
        asked[0],
        id=f"{concept.id}/{style}/{code}/{'+'.join(kinds)}",
        turns=tuple(sample.turns[0] for sample in asked),
        task=kinds[0] if len(kinds) == 1 else "conversation",
    )
    if not told:
        return whole
    known = _languages_of(concept)
    return told_of(concept, "en" if rng.random() < ENGLISH_SHARE else rng.choice(known), whole)


@cache
def _languages_of(concept: Concept) -> list[str]:
    return [code for code in LANGUAGES if concept.name(code)]
