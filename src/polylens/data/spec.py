"""The typed words of a mix: which source, which task is built out of it, how often it is drawn.

`Recipe.data.mix` is a list of `Part`. The readers and builders that these words stand for are in `sources`
and `build`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Format = Literal["tar", "parquet"]
BuildTask = Literal[
    "caption",
    "vqa",
    "vqg",
    "explanation",
    "chain_of_thought",
    "instruction",
    "matching",
    "classification",
    "verification",
    "entailment",
    "reasoning",
]


def as_text(value: Any) -> Any:
    """What stands for a text in YAML, as a text: a folder may be called 2014."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(as_text)]
TextPath = Annotated[Path, BeforeValidator(as_text)]
Codes = list[Text]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Which tasks each option speaks to.
OPTIONS: dict[str, tuple[str, ...]] = {
    "english_answers": ("vqa", "vqg"),
    "max_sentences": ("instruction",),
    "neighbours": ("matching", "verification"),
    "negatives": ("matching", "verification"),
    "hard": ("matching", "verification"),
    "plain": ("matching", "verification"),
}


class Section(BaseModel):
    """A part of a recipe: frozen once read, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(Section):
    """What is made out of a source's plain samples: a task's prompts and answers.

    Written in YAML as the task's name alone, or as a mapping. `prompts` are asked in the place of the packaged English
    ones. `templates` is a JSON file of translated prompts, or the name of a packaged one (`viscpm`: captions in
    English and Chinese; see `prompts.read_templates`), mixed with the English
    ones in the share `translated`.

    `english_answers` (vqa, vqg) is the share of translated questions whose answer stays English, as the prompt
    then says. `max_sentences` (instruction) leaves out turns whose answer, in English, has more of them.

    Of matching and verification, `negatives` is the
    share answered with no, `hard` the share of those drawn from `neighbours`, a file of `polylens neighbours`;
    `plain` leaves the prompt out, for pairs that are still to be translated.
    """

    task: BuildTask
    prompts: list[str] | None = Field(None, min_length=1)
    templates: Path | None = None
    translated: Fraction = 0.5
    english_answers: Fraction = 0.5
    max_sentences: int | None = Field(None, ge=1)
    neighbours: Path | None = None
    negatives: Fraction = 0.5
    hard: Fraction = 0.5
    plain: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_of_the_task(self) -> Self:
        for option, tasks in OPTIONS.items():
            if option in self.model_fields_set and self.task not in tasks:
                given = getattr(self, option)
                if given != type(self).model_fields[option].default:
                    raise PydanticCustomError(
                        "option",
                        "'{option}' is an option of {tasks}",
                        {"option": option, "tasks": " and ".join(tasks)},
                    )
        return self


class Part(Section):
    """One source and task of a mix.

    `source` is a reader's name, `path` what it reads; `split`, `languages`, `tasks` and `options` are passed on
    to it. `build` makes a task out of its samples; without it they are taken as they come. `limit` draws so
    many of them, by the seed; with `shares` (mc4, mt5, equal, or a JSON file {code: number}) the languages have
    theirs of these, flattened by `temperature`. `weight` is the part's share of what is drawn, beside those of
    the other parts; without weights every sample is drawn once in an epoch. `name` stands for the part in
    folders and messages.
    """

    name: Text = Field("", pattern=r"^[\w.-]*$")
    source: Text
    path: TextPath | None = None
    split: Text | None = None
    languages: Codes | None = None
    tasks: list[Text] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    build: Build | None = None
    limit: int | None = Field(None, ge=1)
    shares: str | None = None
    temperature: float = Field(1.0, gt=0)
    weight: float | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A part without a name is called by its source and task."""
        if not isinstance(value, dict) or value.get("name") or not isinstance(value.get("source"), str):
            return value
        build = value.get("build")
        task = build.get("task") if isinstance(build, dict) else build
        return value | {"name": f"{value['source']}-{task}" if isinstance(task, str) else value["source"]}

    @model_validator(mode="after")
    def _shares_of_a_number(self) -> Self:
        if self.shares is not None and self.limit is None:
            raise PydanticCustomError("shares", "'shares' are of a 'limit': say how many samples to draw")
        return self


def check_mix(parts: list[Part]) -> None:
    """Raises `PydanticCustomError` for two parts of one name, and for weights that only some parts have."""
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise PydanticCustomError(
                "mix", "two parts are called '{name}': give each its own name", {"name": name}
            )
    if len({part.weight is None for part in parts}) > 1:
        raise PydanticCustomError("mix", "give every part of the mix a 'weight', or none")


BUILD_TASKS: tuple[str, ...] = get_args(BuildTask)
