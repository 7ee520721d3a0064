"""All settings of an evaluation in one object: the command, the library and the tests make one, and all read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polylens.errors import UserError

if TYPE_CHECKING:
    from polylens.evaluation.benchmarks.interface import Benchmark

PrecisionName = Literal["float32", "bfloat16", "int8", "nf4"]
BASELINES = ("majority", "text-only", "translate-test", "text-ceiling")
# As a translator: the model translates its own English answer.
ITSELF = "model"
GENERATION = ("num_beams", "max_new_tokens", "length_penalty", "repetition_penalty", "temperature")
OWN_CAPTIONS = "captions"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is asked of which model, and how. Raises `UserError` for a value out of its range.

    Of the questions:
    `benchmark`: a registered name, or a `Benchmark` itself. `data`: the folder of its files; `images`: those of its
    pictures. `languages`: as in "de,sw", or "all". `split`: keep the pictures above this share, which training with the
    same `data.split` left out. `limit`: keep the first N questions of each language. `group_by`: a further field of
    the rows to score apart. `skip_missing`: leave questions out whose picture is missing.

    Of the answers:
    `protocol`: None is the benchmark's own, or the first that has its task. `likelihood`: take the likeliest label.
    `choices`: let the model also choose each picture's caption among N of its language. `baselines`: None is what the
    benchmark has by default. `translator`: of the baseline translate-test, as in "nllb:FOLDER"; "model" is the model
    itself. The settings of generation are the protocol's where they are None; `batch_size` moves no answer.

    Of the model:
    `model`: a folder, a packaged name, a hub id, `transformers:FOLDER`, or `https://HOST/v1#NAME`. `cache`: a folder
    for visual tokens. `price` (dollars for a million tokens read, and written), `concurrency`, `timeout` (seconds) and
    `retries` are of endpoints. `out`: the folder of the results; None is one under `runs/`.
    """

    model: str = ""
    benchmark: "str | Benchmark" = OWN_CAPTIONS
    data: Path | None = None
    images: tuple[Path, ...] = ()
    languages: str = "all"
    split: float | None = None
    limit: int | None = None
    group_by: str | None = None
    skip_missing: bool = False

    protocol: str | None = None
    likelihood: bool = False
    choices: int | None = None
    baselines: tuple[str, ...] | None = None
    translator: str | None = None
    num_beams: int | None = None
    max_new_tokens: int | None = None
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    temperature: float | None = None
    batch_size: int = 64

    precision: PrecisionName = "float32"
    cache: Path | None = None
    price: tuple[float, float] | None = None
    concurrency: int = 8
    timeout: float = 120
    retries: int = 6
    out: Path | None = None

    def __post_init__(self) -> None:
        lowest = {"limit": 1, "choices": 2, "num_beams": 1, "max_new_tokens": 1, "batch_size": 1}
        lowest |= {"concurrency": 1, "timeout": 1, "retries": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}: it must be at least {least}.")
        if self.split is not None and not 0 <= self.split <= 1:
            raise UserError(f"split is {self.split}: it must be from 0 to 1.")
        if self.repetition_penalty is not None and self.repetition_penalty <= 0:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}: it must be above 0.")
        if self.temperature is not None and self.temperature <= 0:
            raise UserError(f"temperature is {self.temperature}: it must be above 0.")
        if self.price is not None and min(self.price) < 0:
            raise UserError(f"price is {self.price[0]:g} {self.price[1]:g}: no price may be below 0.")
        wrong = next((name for name in self.baselines or () if name not in BASELINES), None)
        if wrong is not None:
            raise UserError(f"There is no baseline '{wrong}': choose from {', '.join(BASELINES)}.")

    @property
    def generation_changes(self) -> Mapping[str, Any]:
        """The settings of generation that depart from the protocol's."""
        return {name: value for name in GENERATION if (value := getattr(self, name)) is not None}

    @property
    def told_model(self) -> str:
        """What results call the model: another precision gives other numbers."""
        return self.model if self.precision == "float32" else f"{self.model} ({self.precision})"
