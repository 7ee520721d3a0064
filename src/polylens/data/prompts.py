"""What a model is asked: templates per task, in the answer's language or in English naming that language.

A template's fields: {language} is the answer's language in English, {own_language} in itself; any other one,
such as {question} or {name}, is given when the prompt is made. Braces inside what is given stay as they are.
"""

import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.languages import Language, code_at, language, mblip_language


def fields_of(template: str) -> list[str]:
    """The names in braces, in their order. Raises `ValueError` for broken braces."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _check(template: str, where: str) -> None:
    try:
        plain = all(name.isidentifier() for name in fields_of(template))
    except ValueError:
        plain = False
    if not plain:
        raise UserError(
            f"{where}: the prompt '{template}' has broken braces: write fields as {{language}}, and a brace"
            " itself twice."
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
            _check(template, f"The prompts '{self.name}'")

    def of(self, task: str, code: str) -> tuple[str, ...]:
        """All templates of a task for answers in language `code`: translated ones, else English ones.

        Raises `UserError` for an unknown task, naming those there are.
        """
        if task not in self.english:
            tasks = ", ".join(sorted(self.english))
            raise UserError(f"The prompts '{self.name}' have no task '{task}': choose from {tasks}.")
        translated = self.translated.get(task, {}).get(language(code).code)
        return tuple(translated or self.english[task])

    def prompt(
        self,
        task: str,
        code: str,
        rng: random.Random | None = None,
        answer_in: str | None = None,
        **values: str,
    ) -> str:
        """The first template of language `code`, or one drawn by `rng`, with `values` filled in.

        The language that a prompt names is `answer_in` where the answer's is another than the prompt's own.

        Raises `UserError` for an unknown task or language, and for a field without a value.
        """
        entry = language(code)
        templates = self.of(task, entry.code)
        template = templates[0] if rng is None else rng.choice(templates)
        named = entry if answer_in is None else language(answer_in)
        values = {"language": self.language_name(named), "own_language": named.own_name} | values
        try:
            return template.format_map(values)
        except KeyError as error:
            raise UserError(f"The prompt '{template}' of task '{task}' needs a value for {error}.") from error

    def _all(self) -> list[str]:
        translated = (texts for by_language in self.translated.values() for texts in by_language.values())
        return [template for texts in [*self.english.values(), *translated] for template in texts]


# mBLIP's evaluation files name some languages otherwise than its training data; the two misspellings are theirs.
MBLIP_EVALUATION_NAMES = {
    "bn": "Bengali",
    "fa": "Farsi",
    "he": "Hebrew",
    "pt": "Portugese",
    "quz": "Quechua",
    "uk": "Ukranian",
}


def mblip_evaluation_name(entry: Language) -> str:
    """What mBLIP's evaluation calls a language; where it has no name of its own, the training name."""
    return MBLIP_EVALUATION_NAMES.get(entry.code) or mblip_language(entry.code).name


# As mBLIP asks in its evaluation. Where a prompt says English, so is the answer, whatever the question is in.
MBLIP = Templates(
    name="mblip",
    language_name=mblip_evaluation_name,
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
        "vqa": (
            "Question: {question} Short answer in {language}:",
            "{question} Answer briefly in {language}:",
            "Look at the image and answer in {language}, in a few words. {question}",
        ),
        "vqg": (
            "Ask a question in {language} about the image whose answer is: {answer} Question:",
            "The answer is: {answer}. What is the question about the image, in {language}?",
            "Write a question in {language} that the image answers with: {answer}",
        ),
        "explanation": (
            "Question: {question} Answer in {language} and say why:",
            "{question} Give the answer in {language}, then the reason:",
            "Answer in {language} and justify it by what is known of the image. {question}",
        ),
        "chain_of_thought": (
            "Question: {question} Think first, then answer in {language}:",
            "{question} Reason in {language} before the answer:",
            "What does one have to know to answer this? Reason, and end with the answer, in {language}. {question}",
        ),
        "instruction": ("{question}",),
        "matching": (
            'Does "{caption}" describe the image? Yes or no? Answer in {language}:',
            'Is this a caption of the image: "{caption}"? Say yes or no in {language}:',
            "Caption: {caption} Does it fit the image? Yes or no, in {language}:",
        ),
        "classification": (
            "What is in the image? Answer in {language}: ",
            "Name what the image shows, in {language}: ",
            "The main thing in the image is called, in {language}: ",
        ),
        "verification": (
            'Does the image show "{label}"? Yes or no? Answer in {language}:',
            'Is there this in the image: "{label}"? Say yes or no in {language}:',
            'What is in the image is called "{label}". Is that right? Yes or no, in {language}:',
        ),
        "entailment": (
            'Does the image show that "{hypothesis}"? Yes, no or maybe? Answer in {language}:',
            'Judging by the image, is this true: "{hypothesis}"? Say yes, no or maybe in {language}:',
        ),
        "reasoning": (
            'Is this true of the two images: "{statement}"? Yes or no? Answer in {language}:',
            'Do both images together agree with "{statement}"? Say yes or no in {language}:',
        ),
    },
)


def read_templates(path: str | Path) -> Templates:
    """The default English prompts with translated ones out of a JSON file: {task: {language: [prompt, ...]}}.

    `path` may be the name of a packaged file: `viscpm` has short caption prompts in English and Chinese.

    Raises `UserError` for a task or field that the English prompts do not have, or an unknown language.
    """
    packaged = resources.files("polylens.data") / "templates" / f"{path}.json"
    content = read_json(path if Path(path).is_file() or not packaged.is_file() else Path(str(packaged)))
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no prompts: {{task: {{language: [prompt, ...]}}}} was expected.")
    translated: dict[str, dict[str, list[str]]] = {}
    for task, by_language in content.items():
        if task not in DEFAULT.english or not isinstance(by_language, dict):
            raise UserError(f"'{path}' has no prompts of a known task in '{task}': see the page Data.")
        translated[task] = {}
        for spelling, texts in by_language.items():
            if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
                raise UserError(f"'{path}', {task}, {spelling}: a list of prompts was expected.")
            for text in texts:
                _check_fields(task, text, f"'{path}', {task}, {spelling}")
            code = code_at(spelling, f"'{path}', {task}")
            if code in translated[task]:
                raise UserError(f"'{path}', {task}: '{spelling}' is a second spelling of '{code}': keep one.")
            translated[task][code] = texts
    return Templates(name=Path(path).stem, english=DEFAULT.english, translated=translated)


def own_templates(task: str, prompts: Sequence[str]) -> Templates:
    """The default prompts with other English ones for one task.

    Raises `UserError` for a prompt whose fields are not those of the default ones.
    """
    own = Templates(name="own", english=dict(DEFAULT.english) | {task: tuple(prompts)})
    for text in prompts:
        _check_fields(task, text, f"The prompts of '{task}'")
    return own


def _check_fields(task: str, text: str, where: str) -> None:
    """A prompt has the fields of the task's default ones; the language it need not name."""
    _check(text, where)
    known = {field for template in DEFAULT.english[task] for field in fields_of(template)}
    found = set(fields_of(text))
    if known - {"language"} - found or found - known - {"language", "own_language"}:
        raise UserError(f"{where}: '{text}' must have the fields {sorted(known)}.")


def caption_prompt(code: str) -> str:
    """The prompt for one caption in a language, by mBLIP's protocol, as in "Caption in German: "."""
    return DEFAULT.prompt("caption", code)
