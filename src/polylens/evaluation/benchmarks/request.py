"""What is asked of a model: which benchmark, in which languages, how; and the questions that follow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polylens.errors import UserError
from polylens.evaluation.benchmarks.baselines import NAMES, Translate
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.languages import language_codes, split_list


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked, and how. `languages` as in "de,sw" or "all"; `limit` keeps the first N questions of each
    language. `changes` are settings of generation that depart from the protocol's.
    """

    benchmark: str
    data: Path | None = None
    images: tuple[Path, ...] = ()
    languages: str = "all"
    protocol: str | None = None
    limit: int | None = None
    skip_missing: bool = False
    likelihood: bool = False
    baselines: tuple[str, ...] = ("majority",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64


def check_request(request: Request, benchmark: Benchmark, translate: Translate | None) -> None:
    if request.data is None and not benchmark.packaged:
        raise UserError(f"{benchmark.title} needs the folder of its files (--data): {benchmark.files}.")
    if request.data is not None and not request.data.is_dir():
        raise UserError(f"There is no folder '{request.data}': give the one that holds {benchmark.files}.")
    wrong = next((name for name in request.baselines if name not in NAMES), None)
    if wrong is not None:
        raise UserError(f"There is no baseline '{wrong}': choose from {', '.join(NAMES)}.")
    if "translate-test" in request.baselines and translate is None:
        raise UserError("The baseline translate-test needs a translator: name one with --translator.")


def read_questions(benchmark: Benchmark, request: Request) -> list[Question]:
    """The questions in the languages asked for. Raises `UserError` when a language is not in the files."""
    folder = request.data or Path()
    if request.languages.strip().lower() == "all":
        codes = None
    else:
        codes = language_codes(split_list(request.languages))
    questions = list(benchmark.read(folder, codes))
    found = dict.fromkeys(question.language for question in questions)
    if missing := [code for code in codes or () if code not in found]:
        there = dict.fromkeys(question.language for question in benchmark.read(folder, None))
        raise UserError(
            f"{benchmark.title} in '{folder}' has nothing in {', '.join(missing)}: it has {', '.join(there) or 'none'}."
        )
    if not questions:
        raise UserError(f"'{folder}' holds no question of {benchmark.title}: give its folder with --data.")
    if request.limit is not None:
        kept, counts = [], dict.fromkeys(found, 0)
        for question in questions:
            counts[question.language] += 1
            if counts[question.language] <= request.limit:
                kept.append(question)
        questions = kept
    return questions
