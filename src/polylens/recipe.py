"""Recipes: everything that decides a training run, typed, in one YAML file.

A recipe is a path if it exists, else the name of a packaged recipe. Keys it does not know are refused, naming
the nearest known one; any value can be changed by a dotted override such as `stages.0.steps=200`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from polylens.data.rows import decode
from polylens.data.spec import Codes, Format, Part, Section, Text, TextPath, check_mix
from polylens.errors import UserError
from polylens.models.config import LanguageModelConfig, ModelConfig
from polylens.plugins import check_name
from polylens.recipe_text import override, parse_yaml, suggestion, validated

if TYPE_CHECKING:
    from rich.console import Console

SECTIONS = "polylens.recipe_sections"
OWN_SPLIT = 0.9
OBJECTIVES = "polylens.objectives"  # the group of entry points; Polylens' own are among them
# What own captions are validated by where a recipe does not say.
OWN_VALIDATION = {"every": 100, "metrics": ["loss", "chrf"], "samples": 100}
Share = Annotated[float, Field(gt=0, lt=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "float16"]


class Lora(Section):
    """Low-rank adapters on all linear layers below a pattern."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)


class Row(Section):
    """What happens to the parameters of one pattern: `frozen`, a learning rate, or adapters with theirs.

    Written in YAML as `frozen`, as a number, or as `{lora: {rank: 8}, learning_rate: 2e-4}`.
    """

    learning_rate: float | None = Field(None, gt=0)
    lora: Lora | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if value == "frozen":
            return {}
        if isinstance(value, float | int | str):
            return {"learning_rate": value}
        return value

    @model_serializer
    def _to_short_form(self) -> Any:
        if self.lora is None:
            return "frozen" if self.learning_rate is None else self.learning_rate
        return {"lora": self.lora.model_dump(), "learning_rate": self.learning_rate}

    @model_validator(mode="after")
    def _adapters_learn(self) -> Self:
        if self.lora and self.learning_rate is None:
            raise PydanticCustomError("lora", "adapters need a learning_rate beside 'lora'")
        return self


class Stage(Section):
    """One stage of training: what trains, on how much, how fast.

    `table` maps patterns of parameter names (`projector.*`) to rows; of several that match, the last decides,
    and what none matches is frozen. The learning rate rises over `warmup_steps`; then it falls as a cosine to 0, or
    stays where `schedule` is `constant`. `betas` are AdamW's.
    `micro_batch` bounds memory and padding; the loss and gradients stay those of the whole batch. `objective`
    is what is learnt: to write the `answers`, or to have the language model's `embeddings` of the answer as visual
    tokens, which needs no pass through the language model and makes a fast beginning. Packages may add others.
    `parts` names the parts of the mix that it learns from, all unless given. `size` is the width and height of a
    painter's training pictures in this stage.
    """

    name: str
    table: dict[str, Row] = Field(min_length=1)
    objective: str = "answers"
    batch_size: int = Field(ge=1)
    micro_batch: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(0.1, ge=0)
    clip: float = Field(1.0, gt=0)
    parts: list[str] | None = None
    size: int | None = Field(None, ge=8)

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        try:
            return check_name(name, "objective", OBJECTIVES)
        except UserError as error:
            raise PydanticCustomError("objective", "{error}", {"error": str(error)}) from None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise PydanticCustomError("length", "give either 'steps' or 'epochs'")
        return self


class Checkpoints(Section):
    """How often the whole state is kept, and how many of the last ones (the best is always kept)."""

    every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1)


class Validation(Section):
    """Measured on withheld samples every so many steps and at the end of a stage.

    The first of `metrics` decides which checkpoint is the best (`loss` falls, every other metric rises);
    training stops after `patience` validations without a better one. `languages` bounds what is measured,
    `samples` how many of each language; `split` names the part of the source to measure on, needed where
    `data.split` is a name, and `mix` lists the parts to measure on where the data is a mix.
    """

    every: int = Field(ge=1)
    metrics: list[str] = Field(["loss"], min_length=1)
    languages: Codes | None = None
    samples: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    split: str | None = None
    mix: list[Part] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _mix_agrees(self) -> Self:
        check_mix(self.mix or [])
        return self


def _off(value: Any) -> Any:
    return "off" if value is False else value  # YAML reads a bare `off` as false.


class Augmentation(Section):
    """Random changes of the training pictures.

    `crop` bounds the share of the area that a random resized crop keeps, `flip` mirrors half of the pictures,
    `randaugment` (1 to 10) is the strength of RandAugment, `style` changes shapes, fills, colours and lines: for
    drawings that are to be known in any style. `views`
    says how many views of each picture are computed once and cached, the first of them plain; with `off` nothing
    is cached, and every epoch sees new views.
    """

    crop: tuple[float, float] | None = None
    flip: bool = False
    randaugment: int | None = Field(None, ge=1, le=10)
    style: bool = False
    views: Annotated[int | Literal["off"], BeforeValidator(_off)] = 1

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.crop and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise PydanticCustomError("crop", "'crop' must be two rising shares in (0, 1]")
        if self.views != "off" and self.views < 1:
            raise PydanticCustomError("views", "'views' must be at least 1, or off")
        changes = self.changes
        if changes and self.views == 1:
            raise PydanticCustomError(
                "views", "one view is the plain picture alone: give 2 or more views, or off"
            )
        if not changes and self.views not in (1, "off"):
            raise PydanticCustomError(
                "views",
                "several views need 'crop', 'flip', 'randaugment' or 'style', or they would all be equal",
            )
        return self

    @property
    def changes(self) -> bool:
        """Whether views differ from the plain picture."""
        return bool(self.crop or self.flip or self.randaugment or self.style)


class Data(Section):
    """Where samples come from: one source, or a `mix` of several.

    `source` is a reader's name (docs: Data), one that a package registers, or `captions`, one's own folder.
    `split` is the name of a part that the source knows, or the share of the pictures that trains (split by
    the hash of the image bytes, the rest validates). `options` are passed on to the source. `max_length`
    limits the text tokens of a sample. A mix can be kept in `shards`, a folder: it is written there once, as
    `shard_format` says, and streamed from there. `unreadable` says what becomes of a sample whose image is
    missing or broken: an `error`, or `skip`, which counts and reports them while the samples are read (images
    of a mix without shards are only looked for, not decoded).
    """

    source: Text | None = None
    path: TextPath | None = None
    languages: Codes | None = None
    tasks: list[Text] | None = None
    split: str | Share | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    mix: list[Part] | None = Field(None, min_length=1)
    shards: TextPath | None = None
    shard_format: Format = "tar"
    unreadable: Literal["error", "skip"] = "error"
    max_length: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_source_or_a_mix(self) -> Self:
        if (self.source is None) == (self.mix is None):
            raise PydanticCustomError("source", "give either 'source' or 'mix'")
        alone = {"path", "languages", "tasks", "split", "options"}
        beside = sorted(key for key in alone if getattr(self, key))
        if self.mix and beside:
            raise PydanticCustomError("mix", f"'{beside[0]}' belongs into the parts of the mix")
        if self.shards and not self.mix:
            raise PydanticCustomError("shards", "'shards' keep a mix: write the source as a mix of one part")
        check_mix(self.mix or [])
        return self

    @model_validator(mode="after")
    def _captions_are_a_folder(self) -> Self:
        if self.source == "captions":
            if self.path is None or isinstance(self.split, str):
                raise PydanticCustomError(
                    "captions", "the source 'captions' needs a 'path', and its 'split' is a share from 0 to 1"
                )
            if self.tasks or self.options:
                raise PydanticCustomError("captions", "the source 'captions' has no 'tasks' and no 'options'")
        return self

    @property
    def parts(self) -> list[Part]:
        """The parts of the mix; a single source is a mix of one, without its split by share."""
        if self.mix:
            return self.mix
        given = self.model_dump(include={"source", "path", "languages", "tasks", "options"})
        return [Part(**given, split=self.split if isinstance(self.split, str) else None)]


class Model(ModelConfig):
    """The model to train: `start` names an existing one; otherwise it is put together from parts.

    Of one to start from, `language_model.quantization` alone may be set: how its language model is held.
    """

    start: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        bits = LanguageModelConfig(quantization=self.language_model.quantization)
        if self.start and self.model_copy(update={"start": None}) != Model(language_model=bits):
            raise PydanticCustomError(
                "start",
                "give either 'start' or parts, not both; only language_model.quantization goes with 'start'",
            )
        return self


class TrainedSection(Section):
    """A section of a wing that trains a thing of its own in the place of a `model`.

    It registers itself by the entry point group `polylens.recipe_sections`, under the key it has in a recipe.
    """

    @abstractmethod
    def train(self, recipe: "Recipe", folder: Path, *, resume: bool, console: "Console") -> Path:
        """Train in `folder`; see `training.run.train`. Returns `folder / "model"`."""

    @abstractmethod
    def trial(self, folder: Path) -> str:
        """The arguments of `polylens` that try the trained thing."""

    @abstractmethod
    def show(self, recipe: "Recipe", console: "Console", num: int) -> None:
        """Print counts, the stages and the first `num` samples, as `polylens inspect` does."""


class Recipe(Section):
    """One training run, of a `model` or of what a wing's section trains (a `painter`). `out` defaults to `runs/NAME`.

    In `float16` the loss is scaled, so that small gradients do not vanish; `bfloat16` needs no scale.
    Wings add their sections to this class; see `recipe_class`.
    """

    name: str
    seed: int = Field(0, ge=0)
    precision: Precision = "float32"
    model: Model = Field(default_factory=Model)
    data: Data
    augmentation: Augmentation = Augmentation()
    stages: list[Stage] = Field(min_length=1)
    validation: Validation | None = None
    checkpoints: Checkpoints = Checkpoints()
    out: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty_sections(cls, tree: Any) -> Any:
        """A dumped recipe names the sections of all wings; those that are empty say nothing."""
        if not isinstance(tree, dict):
            return tree
        empty = {name for name in _registered_sections() if tree.get(name) is None}
        return {key: value for key, value in tree.items() if key not in empty}

    def _sections(self) -> list[tuple[str, TrainedSection]]:
        given = [(name, getattr(self, name, None)) for name in _registered_sections()]
        return [(name, section) for name, section in given if section is not None]

    @property
    def section(self) -> TrainedSection | None:
        """The section of a wing that this recipe trains, None where it trains a `model`."""
        return next((section for _, section in self._sections()), None)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        sections = self._sections()
        if (self.model == Model()) != (len(sections) == 1):
            names = " or ".join(f"'{name}'" for name in ["model", *_registered_sections()])
            raise PydanticCustomError("model", f"give either {names}")
        if not sections and any(stage.size for stage in self.stages):
            raise PydanticCustomError(
                "size", "a stage's 'size' is for painters: a model's pictures have one size"
            )
        return self

    @model_validator(mode="after")
    def _stages_have_samples(self) -> Self:
        names = [part.name for part in self.data.mix or []]
        for stage in self.stages:
            wrong = next((name for name in stage.parts or [] if name not in names), None)
            if wrong is not None or stage.parts == []:
                asked = f"wants the part '{wrong}'" if wrong else "wants no part"
                have = f"has {', '.join(names)}" if names else "is no mix"
                raise PydanticCustomError("parts", f"stage '{stage.name}' {asked}, and the data {have}")
        return self

    @model_validator(mode="after")
    def _validation_has_samples(self) -> Self:
        shared = isinstance(self.data.split, float)
        if self.validation and bool(self.validation.mix) != bool(self.data.mix):
            raise PydanticCustomError(
                "validation", "validation.mix lists what is validated on if (and only if) the data is a mix"
            )
        if self.validation and not self.data.mix and shared == bool(self.validation.split):
            raise PydanticCustomError(
                "validation",
                "validation.split names the part of the source to validate on; leave it out if (and only if) "
                "data.split is a share, whose rest validates",
            )
        return self


@cache
def _registered_sections() -> dict[str, Any]:
    """{key: its class} of the sections that wings register."""
    return {point.name: point.load() for point in entry_points(group=SECTIONS)}


@cache
def recipe_class() -> type[Recipe]:
    """`Recipe` with the sections of all installed wings."""
    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in _registered_sections().items()}
    return create_model("Recipe", __base__=Recipe, **fields)


class DataRecipe(Section):
    """What is needed of a recipe before training: its data, and the seed that draws them."""

    seed: int = Field(0, ge=0)
    data: Data


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a file or by its packaged name, change it by `a.b=c` overrides, and check all of it.

    `data.path=FOLDER` alone turns a recipe whose data has no path to one's own captions in that folder: see
    `_own_captions`. Raises `UserError` for a recipe that does not exist, a file that is not YAML, and any key
    or value that is off.
    """
    return validated(recipe_class(), _read_tree(name_or_path, overrides), f"The recipe '{name_or_path}'")


def load_data(name_or_path: str | Path, overrides: Sequence[str] = ()) -> "DataRecipe":
    """The data and the seed of a recipe; a file that has nothing else will do. Errors are those of `load_recipe`."""
    tree = _read_tree(name_or_path, overrides)
    kept = {key: value for key, value in tree.items() if key in DataRecipe.model_fields}
    return validated(DataRecipe, kept, f"The recipe '{name_or_path}'")


def _read_tree(name_or_path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    path = Path(name_or_path)
    if not path.is_file():
        packaged = packaged_recipes()
        if str(name_or_path) not in packaged:
            hint = suggestion(str(name_or_path), packaged)
            raise UserError(f"'{name_or_path}' is neither a recipe file nor a packaged recipe: {hint}")
        text = packaged[str(name_or_path)]
    else:
        try:
            text = decode(path.read_bytes(), str(path))
        except OSError as error:
            raise UserError(f"The recipe '{path}' cannot be read: {error}.") from error
    tree = parse_yaml(text, f"The recipe '{name_or_path}'")
    if not isinstance(tree, dict):
        raise UserError(f"The recipe '{name_or_path}' must be a mapping of sections.")
    keys = [change.partition("=")[0].strip() for change in overrides]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"'{twice}' is given twice: give it once.")
    _own_captions(tree, overrides)
    for change in overrides:
        override(tree, change)
    return tree


def packaged_recipes() -> dict[str, str]:
    """The packaged recipes, {name: YAML}, by name."""
    files = sorted((resources.files("polylens") / "recipes").iterdir(), key=lambda entry: entry.name)
    return {
        Path(file.name).stem: file.read_text(encoding="utf-8")
        for file in files
        if file.name.endswith(".yaml")
    }


def _own_captions(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Make room for one's own captions where `data.path` is given, but no source, to a recipe without a path.

    Of its data `max_length`, the model's limit, and `languages` stay; of a mix, those of its parts if they have the
    same. `split` becomes 0.9, the rest validates, and stages learn from all of it. Any of that can be overridden.
    """
    keys = {change.partition("=")[0] for change in overrides}
    data = tree.get("data")
    if "data.path" not in keys or {"data", "data.source"} & keys:
        return
    if not isinstance(data, dict) or "path" in data:
        return
    kept = {key: data[key] for key in ("max_length", "languages") if key in data}
    named = [part.get("languages") for part in data.get("mix") or [] if isinstance(part, dict)]
    if named and named[0] and all(codes == named[0] for codes in named):
        kept["languages"] = named[0]
    tree["data"] = {"source": "captions", "split": OWN_SPLIT, **kept}
    if "painter" not in tree:
        tree.setdefault("validation", dict(OWN_VALIDATION))
    for key in ("split", "languages", "mix"):
        if isinstance(tree.get("validation"), dict):
            tree["validation"].pop(key, None)
    for stage in tree.get("stages") or []:
        if isinstance(stage, dict):
            stage.pop("parts", None)
