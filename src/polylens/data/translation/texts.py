"""Which texts of a sample are translated, by its task, and the sample that their translations make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from polylens.data.prompts import caption_prompt
from polylens.data.sample import Sample, Turn
from polylens.data.translation.pieces import Piece, cut, is_kept_whole
from polylens.errors import UserError
from polylens.text import normalise

Role = Literal["prompt", "answer"]
# In a translated sample's `extra`: its label, translated back, is another one.
UNCONFIRMED = "unconfirmed"


class Texts(NamedTuple):
    """What of a task's turns is translated. In labels, short answers, numbers and names stay as they are."""

    prompt: bool
    answer: bool
    label: bool = False


# Plain samples, as readers give them: prompts of their tasks are put around them later, in any language.
TASKS: dict[str, Texts] = {
    "caption": Texts(prompt=True, answer=True),
    "classification": Texts(prompt=False, answer=True, label=True),
    "vqa": Texts(prompt=True, answer=True, label=True),
    "instruction": Texts(prompt=True, answer=True),
    # Yes and no are asked for in English.
    "matching": Texts(prompt=True, answer=False),
    "verification": Texts(prompt=True, answer=False),
    # So are yes, no and maybe.
    "entailment": Texts(prompt=True, answer=False),
    "reasoning": Texts(prompt=True, answer=False),
    # These stay English.
    "explanation": Texts(prompt=False, answer=False),
    "chain_of_thought": Texts(prompt=False, answer=False),
}
SPELLINGS = {
    "prompt": Texts(prompt=True, answer=False),
    "answer": Texts(prompt=False, answer=True),
    "label": Texts(prompt=False, answer=True, label=True),
    "prompt+answer": Texts(prompt=True, answer=True),
    "prompt+label": Texts(prompt=True, answer=True, label=True),
    "none": Texts(prompt=False, answer=False),
}


@dataclass(frozen=True)
class Part:
    """One text of a sample to translate: where it stands, and its pieces."""

    turn: int
    role: Role
    text: str
    pieces: tuple[Piece, ...]


def parse_tasks(options: Iterable[str]) -> dict[str, Texts]:
    """`TASKS` changed by options such as "yesno=prompt+label". Raises `UserError` for one of another form."""
    tasks = dict(TASKS)
    for option in options:
        task, equals, what = option.partition("=")
        if not task or not equals or what not in SPELLINGS:
            known = ", ".join(SPELLINGS)
            raise UserError(f"'{option}' does not say what of a task is translated: write TASK= and {known}.")
        tasks[task] = SPELLINGS[what]
    return tasks


def texts_of(sample: Sample, tasks: Mapping[str, Texts]) -> Texts:
    """What of a sample is translated. Raises `UserError` for a task that `tasks` does not name."""
    if sample.task not in tasks:
        raise UserError(
            f"Sample '{sample.id}' of {sample.source} is of task '{sample.task}', of which it is not known what is"
            f" translated: say it with --texts {sample.task}=prompt+answer, or another of {', '.join(SPELLINGS)}."
        )
    return tasks[sample.task]


def parts_of(
    sample: Sample, target: str, tasks: Mapping[str, Texts], kept: Sequence[str], whole: bool
) -> list[Part]:
    """The texts of a sample that are to be translated, cut into pieces unless they are wanted `whole`."""
    wanted = texts_of(sample, tasks)
    names = {normalise(word) for word in kept}
    parts = []
    for number, turn in enumerate(sample.turns):
        if wanted.prompt and turn.prompt and _made_prompt(sample, target, turn.prompt) is None:
            parts.append(Part(number, "prompt", turn.prompt, _pieces(turn.prompt, kept, whole)))
        if wanted.answer:
            stays = wanted.label and not whole and is_kept_whole(turn.answer, sample.language)
            stays = stays or normalise(turn.answer) in names
            pieces = (Piece(turn.answer, open=False),) if stays else _pieces(turn.answer, kept, whole)
            parts.append(Part(number, "answer", turn.answer, pieces))
    return parts


def translated(sample: Sample, target: str, translation: Callable[[int, Role], str | None]) -> Sample:
    """The sample in language `target`; `translation` gives the text of a turn (from 0), None to keep it.

    Its source is kept in `extra["original"]`: language and turns, as [prompt, answer].
    """
    turns = tuple(
        Turn(
            translation(number, "prompt") or _made_prompt(sample, target, turn.prompt) or turn.prompt,
            translation(number, "answer") or turn.answer,
        )
        for number, turn in enumerate(sample.turns)
    )
    original = {
        "language": sample.language,
        "turns": [[turn.prompt, turn.answer] for turn in sample.turns],
    }
    return replace(
        sample,
        id=f"{sample.id}:{target}",
        turns=turns,
        language=target,
        extra=sample.extra | {"original": original},
    )


def _made_prompt(sample: Sample, target: str, prompt: str) -> str | None:
    """Our own prompt for captions names a language, and is made anew; None for any other."""
    ours = sample.task == "caption" and prompt == caption_prompt(sample.language)
    return caption_prompt(target) if ours else None


def _pieces(text: str, kept: Sequence[str], whole: bool) -> tuple[Piece, ...]:
    return (Piece(text, open=True),) if whole else tuple(cut(text, kept))
