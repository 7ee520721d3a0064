"""What a model is made of: its parts and where they come from, as recipes and checkpoints say it."""

from pydantic import BaseModel, ConfigDict, Field

from polylens.data.collate import Layout
from polylens.data.spec import Codes
from polylens.models.parts.precision import Quantization
from polylens.models.parts.projectors import ProjectorConfig
from polylens.models.parts.resamplers import ResamplerConfig
from polylens.models.parts.vision import VisionConfig


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
