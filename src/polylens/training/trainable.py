"""What training asks of a kind of model, beside the contract that all models keep.

A kind registers itself by the entry point group `polylens.trainables`, under the name of `Model.kind`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from torch import nn

from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.models.checkpoints.weight_sizes import quantizable
from polylens.plugins import find_plugin
from polylens.recipe import Recipe
from polylens.training.stages import Plan, never_trained
from polylens.training.tasks import Task

GROUP = "polylens.trainables"


@dataclass(frozen=True)
class Length:
    """Text tokens of a sample: those of its prompt and of its answer."""

    prompt: int
    answer: int


@dataclass(frozen=True)
class Token:
    """One place of a row: a piece of text, or a visual token of the sample's picture number `picture` > 0."""

    text: str
    trained: bool
    picture: int = 0


@dataclass(frozen=True)
class Shown:
    """A sample as training sees it: what the model reads, and what an encoder-decoder is to answer."""

    sample: Sample
    read: Sequence[Token]
    answered: Sequence[Token] = ()


@dataclass(frozen=True)
class DryRun:
    """How a micro-batch walks through a model on the meta device.

    `forward` gives the tensor to go back from, and how many numbers its logits are; `recomputed` (bytes) is what
    autograd keeps beside of blocks that are computed again.
    """

    forward: Callable[[], tuple[torch.Tensor, int]]
    recomputed: int = 0


class Trainable(ABC):
    """One kind of model, as training, `plan` and `inspect` see it.

    `quantizes` says whether it can be trained around a language model in 8 or 4 bits.
    """

    quantizes: ClassVar[bool] = False

    @abstractmethod
    def task(self, model: Any, recipe: Recipe, console: Console | None = None) -> Task:
        """The batches and the loss of a run."""

    @abstractmethod
    def save(self, model: Any, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write the trained model, all or nothing. Raises `UserError` when the folder cannot be written."""

    @abstractmethod
    def may_halve(self, model: Any, parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
        """Of the parameters that no stage trains, those of which a copy in half precision is enough."""

    @abstractmethod
    def show(self, model: Any, sample: Sample, max_length: int | None) -> list[Shown]:
        """The rows that a sample makes, token by token."""

    @abstractmethod
    def dry_run(
        self, model: Any, plan: Plan, m: int, length: Length, cached: bool, dtype: torch.dtype
    ) -> DryRun:
        """A micro-batch of `m` samples with one picture each, for a model on the meta device."""

    def cached_bytes(self, model: Any, plan: Plan, each: int) -> int | None:
        """Bytes of a picture in the feature cache, `each` for a number; None if this kind of model has no cache."""
        return None


def trainable(model: Any) -> Trainable:
    """How this model is trained. Raises `UserError` for a kind that cannot be."""
    return find_plugin(model.kind, "trainable kind of model", GROUP)


def check_quantization(model: Any, recipe: Recipe) -> None:
    """Raises `UserError` where the recipe asks for 8 or 4 bits, and the kind of model cannot be trained in them, or a
    stage trains the very weights that would be held in them.
    """
    bits = recipe.model.language_model.quantization
    if bits is None:
        return
    frozen = {id(parameter) for parameter in never_trained(model, recipe.stages).values()}
    held = [module.weight for module in quantizable(model.lm)]
    if not trainable(model).quantizes or any(id(weight) not in frozen for weight in held):
        raise UserError(
            f"'{recipe.model.start}' cannot be trained with quantization={bits}: leave "
            "model.language_model.quantization out, or train adapters (lora) beside its language model."
        )
