"""What a stage teaches a `VisionLanguageModel`: one class for each objective, named in the recipe's stage.

A new objective is one class and one line, an entry point of the group `polylens.objectives`.

Shapes: N pictures, Q visual tokens each, D resampler width, L language model width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from polylens.data.collate import IGNORED, Batch
from polylens.errors import UserError
from polylens.models.parts.projectors import VisualWords
from polylens.models.vlm import VisionLanguageModel
from polylens.plugins import find_plugin
from polylens.recipe import OBJECTIVES


class Objective(ABC):
    """A loss over batches. `runs_language_model` says whether it needs a pass through the language model."""

    runs_language_model: ClassVar[bool] = True

    @abstractmethod
    def loss(self, model: VisionLanguageModel, batch: Batch, num_targets: int) -> Tensor:
        """The loss summed over the batch's targets, divided by `num_targets`, those of all micro-batches."""


def find_objective(name: str) -> Objective:
    """The objective of that name. Raises `UserError` for a name that is none."""
    kind: type[Objective] = find_plugin(name, "objective", OBJECTIVES)
    return kind()


class Answers(Objective):
    """Cross-entropy of the answers' tokens."""

    def loss(self, model: VisionLanguageModel, batch: Batch, num_targets: int) -> Tensor:
        return model.loss(batch, num_targets)


class Embeddings(Objective):
    """The visual tokens of a picture are pulled towards the language model's embeddings of its answer.

    The answer's tokens, without the end, are repeated until they are as many as the visual tokens. The error is
    squared, in units of the embeddings' variance; of visual words it is the cross-entropy. It is averaged over a
    picture's tokens and weighted by the answer's length. Every sample must have one picture.
    """

    runs_language_model = False

    def loss(self, model: VisionLanguageModel, batch: Batch, num_targets: int) -> Tensor:
        labels = batch.labels
        assert labels is not None
        wanted = (labels != IGNORED) & (labels != model.tokenizer.eos_token_id)
        fits = (batch.image_mask.sum(1) == model.num_image_tokens) & wanted.any(1)
        if not fits.all():
            name = batch.sample_ids[int(fits.int().argmin())]
            raise UserError(
                f"The objective 'embeddings' needs samples of one picture and an answer each, and '{name}' is none: "
                "choose other tasks for this stage, or the objective 'answers'."
            )
        queries = model.queries(batch)
        answers = [row[keep].tolist() for row, keep in zip(labels, wanted, strict=True)]
        ids_NQ = torch.tensor(
            [repeated(answer, model.num_image_tokens) for answer in answers], device=queries.device
        )
        weights = (labels != IGNORED).sum(1)
        return (self._errors(model, queries, ids_NQ) * weights).sum() / num_targets

    def _errors(self, model: VisionLanguageModel, queries_NQD: Tensor, ids_NQ: Tensor) -> Tensor:
        """(N,) errors of pictures."""
        if isinstance(model.projector, VisualWords):
            return model.projector.cross_entropy(queries_NQD, ids_NQ).mean(1)
        with torch.no_grad():
            words = model.lm.get_input_embeddings().weight
            goal_NQL, scale = words[ids_NQ].float(), words.float().var()
        return (model.project(queries_NQD).float() - goal_NQL).pow(2).mean((1, 2)) / scale


def repeated(ids: Sequence[int], count: int) -> list[int]:
    """The first `count` of the tokens, repeated as often as needed."""
    return [ids[at % len(ids)] for at in range(count)]
