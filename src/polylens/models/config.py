"""What a model is made of: its parts and where they come from, as recipes and checkpoints say it. Needs no torch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from polylens.data.layout import Layout
from polylens.data.spec import Codes

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

    kind: Literal["qformer", "perceiver", "mlp"] = "qformer"
    path: str | None = None
    num_tokens: PositiveInt = 32
    width: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    dropout: float = 0.1
    cross_attention_frequency: PositiveInt = 2
    pixel_shuffle: bool = False


class LanguageModelConfig(BaseModel):
    """Where the language model and its tokenizer come from: a folder, a packaged name or a hub id.

    `languages` are the codes it knows; None takes those that its model card names, if it has one.
    `quantization` holds its linear layers in 8 or 4 bits, frozen or under LoRA; it needs a GPU to be fast.
    """

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    languages: Codes | None = None
    quantization: Quantization | None = None


class ProjectorConfig(BaseModel):
    """The BLIP-2 folder or checkpoint (`path`) whose projection to keep; without it a fresh one."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None


class ModelConfig(BaseModel):
    """What a `VisionLanguageModel` is made of.

    With `visual_words`, visual tokens are mixtures of the language model's own words, and with a `memory` of
    captions they agree on what these say (models/parts/words.py). In a recipe, the memory may be the `answers` that
    its stages with the objective `embeddings` train on.
    """

    model_config = ConfigDict(extra="forbid")

    vision: VisionConfig = Field(default_factory=VisionConfig)
    resampler: ResamplerConfig = Field(default_factory=ResamplerConfig)
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)
    language_model: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    layout: Layout = Field(default_factory=Layout)
    visual_words: bool = False
    memory: Literal["answers"] | list[str] | None = None

    @model_validator(mode="after")
    def _memory_of_words(self) -> Self:
        if self.memory is not None and not self.visual_words:
            raise PydanticCustomError(
                "memory", "a 'memory' is of words: set 'visual_words' to true, or leave it out"
            )
        return self
