"""What a model is made of: its parts and where they come from, as recipes and checkpoints say it. Needs no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator
from pydantic_core import PydanticCustomError

from polylens.data.layout import Layout
from polylens.data.spec import Codes
from polylens.errors import UserError
from polylens.plugins import check_name

# Groups of entry points; Polylens' own parts are among them.
RESAMPLERS = "polylens.resamplers"
PROJECTORS = "polylens.projectors"

Quantization = Literal["int8", "nf4"]
Precision = Literal["float32", "bfloat16", "int8", "nf4"]


class VisionConfig(BaseModel):
    """Where the encoder comes from, and which of its states are used."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    layer: Literal["last", "penultimate"] = "last"
    class_token: bool = True


class ResamplerConfig(BaseModel):
    """Sizes of a new resampler, or the BLIP-2 folder (`path`) whose Q-Former to take.

    `num_tokens` and the sizes below it are for the Q-Former and the Perceiver; `pixel_shuffle` is for the
    MLP, which keeps one token per patch, or one per 2 x 2 patches.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str = "qformer"
    path: str | None = None
    num_tokens: PositiveInt = 32
    width: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    dropout: float = 0.1
    cross_attention_frequency: PositiveInt = 2
    pixel_shuffle: bool = False

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return _registered(kind, "resampler", RESAMPLERS)


class ProjectorConfig(BaseModel):
    """The kind of projector, and the BLIP-2 folder or checkpoint (`path`) to take its weights from, if any."""

    model_config = ConfigDict(extra="forbid")

    kind: str = "linear"
    path: str | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return _registered(kind, "projector", PROJECTORS)


class LanguageModelConfig(BaseModel):
    """Where the language model and its tokenizer come from: a folder, a packaged name or a hub id.

    `languages` are the codes it knows; None takes those that its model card names, if it has one.
    `quantization` holds its linear layers in 8 or 4 bits, frozen or under LoRA; it needs a GPU to be fast.
    """

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    languages: Codes | None = None
    quantization: Quantization | None = None


class ModelConfig(BaseModel):
    """What a `VisionLanguageModel` is made of."""

    model_config = ConfigDict(extra="forbid")

    vision: VisionConfig = Field(default_factory=VisionConfig)
    resampler: ResamplerConfig = Field(default_factory=ResamplerConfig)
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)
    language_model: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    layout: Layout = Field(default_factory=Layout)


def _registered(kind: str, what: str, group: str) -> str:
    try:
        return check_name(kind, what, group)
    except UserError as error:
        raise PydanticCustomError("kind", "{error}", {"error": str(error)}) from None
