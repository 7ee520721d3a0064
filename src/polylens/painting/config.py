"""What a `Painter` is made of, as recipes and checkpoints say it."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from polylens.data.spec import Codes, Section

MANIFEST = "painter.json"  # the first file of a painter's folder
# Stable Diffusion 2.1-base's, with which VisCPM-Paint was trained.
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "steps_offset": 1,
}


class PartConfig(BaseModel):
    """A part of the painter; keys that it does not know are refused."""

    model_config = ConfigDict(extra="forbid")


class PivotConfig(PartConfig):
    """Prompts are put into English first, by the same language model (see `painting.pivot`).

    `beams` answers to `ask` compete. That one is read which, asked for the prompt's language in `back`, leads back to
    the prompt best; the language need not be known, it is one of the text's `languages`.
    """

    ask: str = "{prompt} English:"
    back: str = "{answer} {language}:"
    beams: PositiveInt = 8

    @model_validator(mode="after")
    def _templates_have_their_places(self) -> Self:
        for name, text, places in (
            ("ask", self.ask, ("{prompt}",)), ("back", self.back, ("{answer}", "{language}"))
        ):  # fmt: skip
            for place in places:
                if text.count(place) != 1:
                    raise PydanticCustomError("template", f"'{name}' must hold '{place}' once")
        return self


class TextConfig(PartConfig):
    """The language model that reads prompts, and which of its hidden states the painter sees.

    `layer` counts as in Python: -1 are the last hidden states, after the final norm; -2 those before the last
    layer. `template` is what is read, and prompts beyond `max_tokens` are cut. With `answer` the language model goes
    on from there, greedily, and only the states from which it writes are kept: so many, a shorter answer's last one
    repeated. With a `pivot` prompts are put into English before they are read, but for the empty one.
    """

    path: str | None = None
    languages: Codes | None = None
    layer: int = -1
    template: str = "{prompt}"
    answer: PositiveInt | None = None
    pivot: PivotConfig | None = None
    max_tokens: PositiveInt = 256

    @model_validator(mode="after")
    def _template_has_prompt(self) -> Self:
        if self.template.count("{prompt}") != 1:
            raise PydanticCustomError("template", "the template must hold '{prompt}' once")
        if self.pivot and not self.answer:
            # Both write; who only reads has no output head.
            raise PydanticCustomError(
                "pivot", "a 'pivot' needs 'answer', how many states of an answer are kept"
            )
        return self


class BridgeConfig(PartConfig):
    """From the language model's states to the denoiser's cross-attention: a linear layer and a layer norm.

    The `resampler` reads the states into `num_tokens` first, so that their number does not depend on the prompt.
    """

    kind: Literal["linear", "resampler"] = "linear"
    num_tokens: PositiveInt = 16
    width: PositiveInt = 512
    depth: PositiveInt = 2
    num_heads: PositiveInt = 8
    eps: float = 1e-6


class DenoiserConfig(PartConfig):
    """A UNet or DiT of diffusers: the folder (or Stable Diffusion folder) it lies in, or the config of a new one."""

    path: str | None = None
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.path and self.config:
            raise PydanticCustomError("denoiser", "give either the denoiser's 'path' or its 'config'")
        return self


class SpaceConfig(PartConfig):
    """Where diffusion happens: in the latents of the VAE in `path`, else in pixels folded `patch` x `patch`."""

    path: str | None = None
    patch: PositiveInt = 1


class PainterConfig(PartConfig):
    """All of a painter. `size` is the width and height drawn unless another is asked for; `schedule` are the
    settings of diffusers' DDPM scheduler, or a Stable Diffusion folder whose scheduler's to take.
    """

    text: TextConfig = Field(default_factory=TextConfig)
    bridge: BridgeConfig = Field(default_factory=BridgeConfig)
    denoiser: DenoiserConfig = Field(default_factory=DenoiserConfig)
    space: SpaceConfig = Field(default_factory=SpaceConfig)
    schedule: dict[str, Any] | str = Field(default_factory=lambda: dict(SCHEDULE))
    size: PositiveInt = 512


class PaintingSettings(Section):
    """How a painter is trained: a saved one to `start` from, or its parts in `config`.

    `caption_dropout` is the share of pictures learnt under the empty prompt, which guidance needs. `min_snr` is the
    gamma of min-SNR weighting (arXiv 2303.09556), `average` the decay of an exponential moving average of the weights,
    which is what is validated and kept. With `buckets`, pictures are cut to the nearest of several aspect ratios of
    one area instead of to a square. With `compiled`, the denoiser is compiled first: on a CPU that takes a C++
    compiler.
    """

    start: str | None = None
    config: PainterConfig = Field(default_factory=PainterConfig)
    caption_dropout: float = Field(0.1, ge=0, lt=1)
    min_snr: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    buckets: bool = False
    compiled: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.start and self.config != PainterConfig():
            raise PydanticCustomError("start", "give either 'start' or 'config', not both")
        return self
