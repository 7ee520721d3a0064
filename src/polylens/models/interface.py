"""The contract of every model that answers samples: what evaluation, chat, serving and training ask of it.

Shapes: Q visual tokens per picture, L language model width.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

from polylens.data.sample import Picture, Sample
from polylens.models.config import ModelConfig

if TYPE_CHECKING:
    from polylens.models.decoding.chat import Chat


class Model(Protocol):
    """A model that answers samples. `VisionLanguageModel` and `VisCpmChat` are two; a wing may bring its own.

    `kind` names how it is trained and saved: the key of the entry points `polylens.trainables`. `adapted` is the
    attribute whose module LoRA goes into.
    """

    kind: str
    adapted: str
    config: ModelConfig
    tokenizer: Any

    @property
    def device(self) -> torch.device: ...

    def to(self, device: torch.device | str) -> Self: ...

    def eval(self) -> Self: ...

    @property
    def num_image_tokens(self) -> int:
        """Q, the places that one picture takes among the text tokens."""
        ...

    def encode_pictures(self, pictures: Sequence[Picture], batch_size: int = 32) -> dict[str, torch.Tensor]:
        """Visual tokens (Q, L) of every distinct picture, by its key."""
        ...

    def generate(
        self,
        samples: Sequence[Sample],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
        num_beams: int = 1,
        max_new_tokens: int = 32,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
    ) -> list[str]:
        """Answers to the samples' last turns, in their order. `visual` are tokens that `encode_pictures` gave."""
        ...

    def score(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
    ) -> list[list[float]]:
        """log P(candidate | pictures, prompt) of every sample's candidates, summed over tokens, end included."""
        ...

    def choose(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
    ) -> list[int]:
        """The index of every sample's likeliest candidate; of equals the first."""
        ...

    def chat(self, language: str | None = None, messages: Sequence[Mapping[str, Any]] = ()) -> "Chat":
        """A conversation with answers in `language`, or in any; `messages` is an earlier one to go on with.

        Every kind of model takes its own settings of generation beside.
        """
        ...

    def adapt(self, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
        """Put LoRA adapters beside the linear layers whose weight's name matches `pattern`.

        Raises `UserError` where none does, or the model carries others.
        """
        ...
