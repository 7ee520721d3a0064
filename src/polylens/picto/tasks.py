"""Picto's samples: the twins of captioning, keyword listing, VQA, multiple choice and two-image reasoning.

    caption    German:                                             -> Katze
    keywords   German keywords:                                    -> Haustier, Katze
    yesno      German: Ist das: Hund?                              -> nein
    choice     German: Was ist es: Hund, Katze, Maus oder Kuh?     -> Katze
    statement  (two pictures) German: Ein Bild zeigt Katze, das andere Hund. Stimmt das?  -> ja

Plain samples, as readers of real sources give them, to translate and to build tasks out of, are called what mBLIP calls
these tasks: caption; vqa, the question alone; instruction, for keywords.

Wrong names are hard: drawn from the same subgroup of Unicode's table where it has another concept.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import language, parse_languages
from polylens.picto.prompts import keyword_prompt, prompt
from polylens.picto.world import DEVELOPMENT_STYLE, LANGUAGES, LINE_STYLE, Concept, annotations, concepts
from polylens.text import bare

TASKS = ("caption", "keywords", "yesno", "choice", "statement")
PLAIN = {"caption": "caption", "keywords": "instruction", "yesno": "vqa", "choice": "vqa", "statement": "vqa"}
SPLITS = ("train", "validation", "test", "heldout")
DRAWINGS = ("colour", "all", "one")

# A concept and the style that it is drawn in.
Drawn = tuple[Concept, str]


def samples(
    *,
    languages: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    split: str = "train",
    drawings: str = "colour",
    num_concepts: int | None = None,
    seed: int = 0,
    plain: bool = False,
) -> list[Sample]:
    """Samples of one split, by language and task; `num_concepts` draws a fixed number of concepts.

    `plain` ones are the captions, questions and keyword lists alone, no prompt around them (see `PLAIN`).

    'train': the trained drawings of every concept in image training: those in `drawings` 'colour', 'all' (OpenMoji's
    line drawings too) or 'one' (the first of each concept);
    'validation': those concepts whose Noto or OpenMoji drawing is withheld from training, in that drawing;
    'test': Twemoji drawings of scored concepts in image training; 'heldout': of scored ones outside of it.
    Raises `UserError` for a split, drawings, task or language that Picto does not have.
    """
    if split not in SPLITS:
        raise UserError(f"Picto has no split '{split}': choose one of {', '.join(SPLITS)}.")
    wrong = next((task for task in tasks or () if task not in TASKS), None)
    if wrong is not None:
        raise UserError(f"Picto has no task '{wrong}': choose from {', '.join(TASKS)}.")
    codes = parse_languages(",".join(languages), annotations()) if languages else list(LANGUAGES)
    drawn = pictures(split, drawings=drawings, num_concepts=num_concepts, seed=seed)
    found = [
        sample
        for code in codes
        for task in tasks or ("caption",)
        for concept, style in drawn
        if (sample := task_sample(concept, style, code, task, seed)) is not None
    ]
    return list(map(_plain, found)) if plain else found


def _plain(sample: Sample) -> Sample:
    (turn,) = sample.turns
    question = turn.prompt
    if sample.task != "keywords":
        question = question.removeprefix(prompt(sample.language)).removeprefix(" ")
    return replace(
        sample,
        turns=(Turn(question, turn.answer),),
        task=PLAIN[sample.task],
        extra=sample.extra | {"kind": sample.task},
    )


def pictures(
    split: str,
    *,
    drawings: str = "colour",
    num_concepts: int | None = None,
    style: str = DEVELOPMENT_STYLE,
    seed: int = 0,
) -> list[tuple[Concept, str]]:
    """The concepts of a split with the style each is drawn in; see `samples`.

    `style` is that of the splits 'test' and 'heldout', which have the concepts that are drawn in it.
    """
    if drawings not in DRAWINGS:
        raise UserError(f"Picto has no drawings '{drawings}': choose one of {', '.join(DRAWINGS)}.")
    if split == "train":
        chosen = [c for c in concepts() if c.trained_styles()]
    elif split == "validation":
        chosen = [c for c in concepts() if c.validation_style() and c.scored]
    else:
        chosen = [
            c
            for c in concepts()
            if c.scored and c.drawn_in(style) and bool(c.trained_styles()) == (split == "test")
        ]
    if num_concepts is not None and num_concepts < len(chosen):
        kept = set(random.Random(f"{seed}/concepts").sample(range(len(chosen)), num_concepts))
        chosen = [concept for i, concept in enumerate(chosen) if i in kept]
    return [(concept, drawn) for concept in chosen for drawn in _styles(concept, split, drawings, style)]


def _styles(concept: Concept, split: str, drawings: str, style: str) -> tuple[str, ...]:
    if split == "validation":
        return (concept.validation_style() or "",)
    if split != "train":
        return (style,)
    styles = concept.trained_styles()
    if drawings == "one":
        return styles[:1]
    return (*styles, LINE_STYLE) if drawings == "all" and "openmoji" in styles else styles


def naming(concept: Concept, style: str, code: str) -> Sample:
    """The captioning sample of one picture; the concept must have a name in that language."""
    sample = task_sample(concept, style, code, "caption", 0)
    assert sample is not None
    return sample


def hard_negatives(concept: Concept, code: str, rng: random.Random, count: int) -> list[Concept]:
    """`count` concepts with another name in that language, of the same subgroup first, then of the same group."""
    near: list[Concept] = []
    far: list[Concept] = []
    name = bare(concept.name(code) or "")
    for other, called in _named(concept.group, code):
        if bare(called) != name:
            (near if other.subgroup == concept.subgroup else far).append(other)
    rng.shuffle(near)
    rng.shuffle(far)
    return (near + far)[:count]


def task_sample(concept: Concept, style: str, code: str, task: str, seed: int) -> Sample | None:
    """The sample of one task and picture; None where the language lacks the words for it."""
    name = concept.name(code)
    if name is None:
        return None
    rng = random.Random(f"{seed}/{concept.id}/{style}/{code}/{task}")
    shown = [concept]
    if task == "caption":
        turn = Turn(prompt(code), name)
    elif task == "keywords":
        words = concept.keywords(code)
        if not words:
            return None
        turn = Turn(keyword_prompt(code), ", ".join(words))
    else:
        words_of = _questions(code)
        yes = rng.random() < 0.5
        others = hard_negatives(concept, code, rng, len(concepts()))
        if len(others) < 3:
            return None
        if task == "yesno":
            asked = name if yes else others[0].name(code)
            turn = _question(code, words_of["is"].format(name=asked), words_of["yes" if yes else "no"])
        elif task == "choice":
            names = [name, *(other.name(code) or "" for other in others[:3])]
            rng.shuffle(names)
            filled = words_of["which"].format(**dict(zip("abcd", names, strict=True)))
            turn = _question(code, filled, name)
        else:
            beside = next((other for other in others if _may_show(other, style)), None)
            if beside is None:
                return None
            shown.append(beside)
            said = beside if yes else next(other for other in others if other is not beside)
            filled = words_of["both"].format(a=name, b=said.name(code))
            turn = _question(code, filled, words_of["yes" if yes else "no"])
    return Sample(
        id=f"{concept.id}/{style}/{code}/{task}",
        images=tuple(each.picture(style) for each in shown),
        turns=(turn,),
        language=code,
        task=task,
        source="picto",
        extra={"concept": concept.id, "group": concept.group, "style": style},
    )


@cache
def _named(group: str, code: str) -> list[tuple[Concept, str]]:
    """The concepts of a group that have a name in that language, with it."""
    return [
        (concept, name) for concept in concepts() if concept.group == group and (name := concept.name(code))
    ]


def _may_show(concept: Concept, style: str) -> bool:
    """Whether the drawing may stand beside another: image training shows it, or it is in the development style."""
    return style == DEVELOPMENT_STYLE or style.removesuffix("-line") in concept.trained_styles()


def _question(code: str, text: str, answer: str) -> Turn:
    return Turn(f"{language(code).name}: {text}", answer)


def _questions(code: str) -> dict[str, str]:
    """The question templates of a language; where it has none, the English ones (the prompt names the language)."""
    table = question_table()
    return table.get(code, table["en"])


@cache
def question_table() -> dict[str, Any]:
    """questions.json: {language: {kind: template, or a word}}."""
    return json.loads((Path(__file__).parent / "questions.json").read_text(encoding="utf-8"))
