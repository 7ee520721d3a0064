"""Picto's annotations as a translation engine: names exactly, as people gave them, and nothing else.

It knows names, whole lists of a concept's keywords, yes and no, the questions of `questions.json` about names, and the
prompts "German:" and "German keywords:" that announce a language. A text that is none of these, or that could mean two
things, it does not translate.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from polylens.data.translation.engine import EngineSettings
from polylens.errors import UserError
from polylens.files import sha256_file
from polylens.languages import language
from polylens.picto.prompts import keyword_prompt, prompt
from polylens.picto.world import PACKAGED, annotations

QUESTIONS = Path(__file__).parent / "questions.json"
# Words and questions: what has no slot is a word.
_SLOT = re.compile(r"\{(\w+)\}")


class Dictionary:
    """Translates between any two languages of the annotations."""

    exact = True

    def __init__(self) -> None:
        # The number changes with what the code can translate: caches keep what was refused, too.
        self.fingerprint = f"picto-2/{sha256_file(PACKAGED / 'annotations.json.xz')}/{sha256_file(QUESTIONS)}"

    def check(self, source: str, targets: Sequence[str]) -> None:
        for code in (source, *targets):
            if code not in annotations():
                raise UserError(
                    f"Picto has no names in {language(code).name} ('{code}'): leave it out of --lang; "
                    f"it has {', '.join(sorted(annotations()))}."
                )

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        return [_announced(text, source, target) or _text(text, source, target) for text in texts]


def engine(settings: EngineSettings) -> Dictionary:
    """The engine 'picto'. Raises `UserError` for a model, which it has no use for."""
    if settings.model is not None:
        raise UserError("The engine 'picto' brings its own dictionary: leave out --model.")
    return Dictionary()


def _announced(text: str, source: str, target: str) -> str | None:
    """A text after "German:", or a prompt alone."""
    before, after = prompt(source), prompt(target)
    if text == before:
        return after
    if text == keyword_prompt(source):
        return keyword_prompt(target)
    if not text.startswith(f"{before} "):
        return None
    rest = _text(text.removeprefix(f"{before} "), source, target)
    return None if rest is None else f"{after} {rest}"


def _text(text: str, source: str, target: str) -> str | None:
    return _name(text, source, target) or _phrase(text, source, target) or _keywords(text, source, target)


def _name(text: str, source: str, target: str) -> str | None:
    """The one name in the target language that all concepts called `text` have."""
    names = annotations()[target]
    found = {names[concept][0] for concept in _concepts(source).get(text, ()) if concept in names}
    return found.pop() if len(found) == 1 else None


def _keywords(text: str, source: str, target: str) -> str | None:
    """The one list of keywords in the target language of all concepts that have the list `text`."""
    theirs = annotations()[target]
    found = {", ".join(theirs[c][1]) for c in _listed(source).get(text, ()) if c in theirs and theirs[c][1]}
    return found.pop() if len(found) == 1 else None


def _phrase(text: str, source: str, target: str) -> str | None:
    """A word or question of `questions.json`, with the names in it translated."""
    theirs = _questions().get(target, {})
    for kind, match in _patterns(source):
        slots = match(text)
        if slots is None or kind not in theirs:
            continue
        names = {slot: _name(name, source, target) for slot, name in slots.items()}
        if all(names.values()):
            return str(theirs[kind].format(**names))
    return None


@cache
def _concepts(code: str) -> dict[str, list[str]]:
    """{name: concepts that people gave it to}."""
    concepts: dict[str, list[str]] = {}
    for concept, (name, _) in annotations()[code].items():
        concepts.setdefault(name, []).append(concept)
    return concepts


@cache
def _listed(code: str) -> dict[str, list[str]]:
    """{keywords as a list with commas: concepts that have them}."""
    concepts: dict[str, list[str]] = {}
    for concept, (_, keywords) in annotations()[code].items():
        concepts.setdefault(", ".join(keywords), []).append(concept)
    return concepts


@cache
def _questions() -> dict[str, dict[str, str]]:
    questions: dict[str, Any] = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    return questions


@cache
def _patterns(code: str) -> list[tuple[str, Callable[[str], dict[str, str] | None]]]:
    return [(kind, _matcher(template)) for kind, template in _questions().get(code, {}).items()]


def _matcher(template: str) -> Callable[[str], dict[str, str] | None]:
    """What finds the slots of a template in a text; None where the text is not of that template."""
    parts = _SLOT.split(template)
    pattern = re.compile(
        "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    )

    def match(text: str) -> dict[str, str] | None:
        found = pattern.fullmatch(text)
        return found.groupdict() if found else None

    return match
