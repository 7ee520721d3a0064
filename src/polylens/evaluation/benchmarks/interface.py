"""What a benchmark is: a reader of its official files, the task whose prompts ask its questions, and a scorer.

    official files -> read -> Question -> prompt by protocol -> Sample -> answer -> score -> Scores by language

One benchmark is one small module with a `Benchmark` in it, registered as an entry point of the group
`polylens.benchmarks`; docs/benchmarks.md builds one from nothing.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.bootstrap import Score
from polylens.evaluation.measures import Metric

ENTRY_POINTS = "polylens.benchmarks"
# A picture by the name in its folder, by several names of which one is there, or as it is.
PictureName = str | tuple[str, ...] | Picture


def picture_name(name: PictureName) -> str:
    """What a picture is called: its first name, or its key."""
    if isinstance(name, str):
        return name
    return name[0] if isinstance(name, tuple) else name.key


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of the official files, before it is put in words.

    `id` is unique in the benchmark, over its languages. Scores are grouped by `language`, the language of `fields`,
    which fill the task's prompt; the answer is wanted in `answer_language` ("": the same). `answers` are what counts
    as right, by the scorer's rule; `choices` what the likeliest is chosen from. `group` names a part that is scored
    apart as well. `prompt`, where given, is asked as it is by whatever protocol. `where` is the file and the row that
    it comes from, for messages.
    """

    id: str
    images: tuple[PictureName, ...]
    language: str
    answers: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    answer_language: str = ""
    choices: tuple[str, ...] = ()
    task: str = ""
    group: str = ""
    prompt: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def place(self) -> str:
        """Where it comes from, or its id."""
        return self.where or f"question '{self.id}'"


@dataclass(frozen=True)
class Scores:
    """Scores of the questions of one language: `measures`, the main one first, and `items`, the values (n,) that
    they are made of where they are made of any (None: this question has none). `settings` are what moves them
    (segmenters, files), `beside` what else stands in the language's row of results.json.
    """

    measures: Mapping[str, Score]
    items: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)


# (folder, languages wanted or None for all) -> questions, in the order of the files.
Reader = Callable[[Path, Container[str] | None], Iterable[Question]]
# (questions of one language, their answers, protocol) -> scores.
Scorer = Callable[[Sequence[Question], Sequence[str], Protocol], Scores]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """`files` and `images` say in words what the two folders must hold; `read` and `score` do the work.

    A benchmark without a scorer is answered and kept for a judge. `packaged`: it brings its data along and needs no
    folder. `needs_answers`: a question without a right answer is refused. `protocol`: the one it is asked by unless
    another is named. `baselines`: those computed unless others are named. `measures`: how its own measures are called,
    shown and explained. `ratios`: measures whose share of English is scored too, and what that ratio is called.
    """

    name: str
    title: str
    task: str
    files: str
    images: str
    read: Reader
    score: Scorer | None
    packaged: bool = False
    needs_answers: bool = True
    protocol: str | None = None
    baselines: tuple[str, ...] = ("majority",)
    measures: tuple[Metric, ...] = ()
    ratios: Mapping[str, str] = field(default_factory=dict)


def benchmarks() -> list[str]:
    """Names of the benchmarks that installed packages bring along, sorted."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def find_benchmark(name: str | Benchmark) -> Benchmark:
    """The benchmark of that name, or the given one. Raises `UserError` with the nearest name where there is none."""
    if isinstance(name, Benchmark):
        return name
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.load()
    near = get_close_matches(name, benchmarks(), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(benchmarks())}."
    raise UserError(f"There is no benchmark '{name}': {hint}")
