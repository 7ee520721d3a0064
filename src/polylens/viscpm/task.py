"""Training VisCPM: dictionaries whose `<ans>` is learnt, conversations unrolled.

CPM-Bee's positions all see the question, so that the turns of a conversation cannot share one sequence: every turn is
an example of its own, with the turns before it as context. A picture is looked at once for all turns of its sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polylens.data.conversations import unroll
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.recipe import Augmentation
from polylens.training.augment import View
from polylens.training.stages import Plan
from polylens.training.tasks import PictureTask
from polylens.viscpm.model import VisCpmBatch, VisCpmChat


@dataclass
class UnrolledBatch:
    """The examples of some samples; `pictures` (N) says which of the distinct pictures each place of theirs is."""

    examples: VisCpmBatch
    pictures: Tensor
    sample_ids: list[str]
    num_targets: int

    def to(self, device: torch.device) -> "UnrolledBatch":
        """The same batch with its tensors on `device`."""
        return replace(self, examples=self.examples.to(device), pictures=self.pictures.to(device))


class VisCpmTask(PictureTask):
    """Answers of VisCPM-Chat, or of CPM-Bee alone."""

    model: VisCpmChat

    def __init__(
        self, model: VisCpmChat, augmentation: Augmentation | None = None, max_length: int | None = None
    ):
        super().__init__(model, augmentation)
        self.max_length = max_length

    def prepare(self, plan: Plan, samples: Sequence[Sample], held_out: Sequence[Sample]) -> None:
        if plan.stage.objective != "answers":
            raise UserError(
                f"Stage '{plan.stage.name}' has the objective '{plan.stage.objective}', and VisCPM learns answers only."
            )
        # Even under a frozen CPM-Bee gradients go back to the pictures: its 48 layers' states would take more memory
        # than its weights.
        self.model.lm.recompute = True

    def collate(self, samples: Sequence[Sample], epochs: Sequence[int] | None = None) -> UnrolledBatch:
        numbers = [0] * len(samples) if epochs is None else map(self._view, samples, epochs)
        views: list[View] = []
        places: list[int] = []
        examples: list[Sample] = []
        for sample, number in zip(samples, numbers, strict=True):
            turns = unroll(sample)
            mine = range(len(views), len(views) + len(sample.images))
            views += self._views(sample, number)
            places += [*mine] * len(turns)
            examples += turns
        pixels = self._pixels(views) if views else None
        batch = self.model.collate(examples, pixels, self.max_length)
        return UnrolledBatch(
            batch, torch.tensor(places, dtype=torch.long), batch.sample_ids, batch.num_targets
        )

    def size(self, sample: Sample) -> int:
        turns = unroll(sample)
        return sum(len(self.model.encode_sample(turn, turn.turns[-1].answer).ids) for turn in turns)

    def finish(self) -> None:
        self.model.lm.recompute = False

    def loss(self, batch: UnrolledBatch, num_targets: int) -> Tensor:
        pixels = batch.examples.pixel_values
        visual = None if pixels is None else self.model.model(pixels)[batch.pictures]
        return self.model.lm.loss(batch.examples.text, visual, num_targets)
