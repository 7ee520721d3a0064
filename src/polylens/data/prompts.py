"""What a model is asked: templates per task, in the answer's language or in English naming that language.

A template's fields: {language} is the answer's language in English, {own_language} in itself; any other one,
such as {question} or {name}, is given when the prompt is made. Braces inside what is given stay as they are.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from polylens.errors import UserError
from polylens.languages import Language, language, mblip_language


def _check(template: str, prompts: str) -> None:
    try:
        plain = all(
            name is None or name.isidentifier() for _, name, _, _ in string.Formatter().parse(template)
        )
    except ValueError:
        plain = False
    if not plain:
        raise UserError(
            f"The prompt '{template}' of '{prompts}' has broken braces: write fields as {{language}},"
            " and a brace itself twice."
        )


@dataclass(frozen=True)
class Templates:
    """One set of prompts: `english` by task, and `translated` by task and language where there are any.

    `name` tells in a result file which prompts a score belongs to; `language_name` gives {language}.
    """

    name: str
    english: Mapping[str, Sequence[str]]
    translated: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    language_name: Callable[[Language], str] = lambda entry: entry.name

    def __post_init__(self) -> None:
        for task, templates in self.english.items():
            if not templates:
                raise UserError(
                    f"The prompts '{self.name}' have no template for '{task}': give at least one."
                )
        for template in self._all():
            _check(template, self.name)

    def of(self, task: str, code: str) -> tuple[str, ...]:
        """All templates of a task for answers in language `code`: translated ones, else English ones.

        Raises `UserError` for an unknown task, naming those there are.
        """
        if task not in self.english:
            tasks = ", ".join(sorted(self.english))
            raise UserError(f"The prompts '{self.name}' have no task '{task}': choose from {tasks}.")
        translated = self.translated.get(task, {}).get(language(code).code)
        return tuple(translated or self.english[task])

    def prompt(self, task: str, code: str, rng: random.Random | None = None, **values: str) -> str:
        """The first template, or one drawn by `rng`, with `values` and the language's names filled in.

        Raises `UserError` for an unknown task or language, and for a field without a value.
        """
        entry = language(code)
        templates = self.of(task, entry.code)
        template = templates[0] if rng is None else rng.choice(templates)
        values = {"language": self.language_name(entry), "own_language": entry.own_name} | values
        try:
            return template.format_map(values)
        except KeyError as error:
            raise UserError(f"The prompt '{template}' of task '{task}' needs a value for {error}.") from error

    def _all(self) -> list[str]:
        translated = (texts for by_language in self.translated.values() for texts in by_language.values())
        return [template for texts in [*self.english.values(), *translated] for template in texts]


# As mBLIP asks in its evaluation. Where a prompt says English, so is the answer, whatever the question is in.
MBLIP = Templates(
    name="mblip",
    language_name=lambda entry: mblip_language(entry.code).name,
    english={
        "caption": ("Caption in {language}: ",),
        "vqa": ("Question: {question} Short answer in {language}:",),
        "entailment": ('Is it guaranteed true that "{hypothesis}"? Yes, no, or maybe? Answer in English:',),
        "reasoning": (
            'Based on the two images, is it correct to say "{statement}"? Yes or no? Answer in English:',
        ),
        "pope": ("{question}",),
        "chair": ("Caption in {language}:",),
        "chair_detail": ("Describe the image in {language} with as much detail as possible.",),
    },
)

DEFAULT = Templates(
    name="default",
    english={
        "caption": (
            "Caption in {language}: ",
            "Describe the image in {language}: ",
            "A short description of the image in {language}: ",
        ),
        "name": ("Name in {language}: ", "What is in the image? Answer in {language}: "),
        "vqa": ("Question: {question} Short answer in {language}:",),
        "vqg": ("Ask a question in {language} about the image whose answer is: {answer} Question:",),
        "matching": ('Does "{caption}" describe the image? Yes or no? Answer in {language}:',),
    },
)


def caption_prompt(code: str) -> str:
    """The prompt for one caption in a language, by mBLIP's protocol, as in "Caption in German: "."""
    return DEFAULT.prompt("caption", code)
