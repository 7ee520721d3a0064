"""The classifier that captions are compared with: a linear probe on the same frozen encoder, and a dictionary.

    patch states -> mean and maximum over patches -> one linear layer -> which concepts, and how many

It learns from the scenes that the arms are trained on, in the same views, and sees no text at all: its answers are
put into words by CLDR's names, or in English, for the language model to translate.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polylens.batching import chunks
from polylens.data.mix import Mix
from polylens.models.vlm import VisionLanguageModel
from polylens.picto.scenes import Scene
from polylens.picto.world import Concept, concepts
from polylens.recipe import Recipe
from polylens.training.loop import Trainer
from polylens.training.run import beginning
from polylens.training.tasks import VisionLanguageTask

MOST = 3
EPOCHS = 12
BATCH_SIZE = 512
RATE = 5e-3
WEIGHT_DECAY = 0.05
# Of how many scenes features are read at once.
PART = 512


class Probe(nn.Module):
    """Standardised features (B, 2 V) to logits over concepts (B, C) and over how many there are (B, 3)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, num_concepts: int):
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        self.register_buffer("deviation", features.std(0).clamp(min=1e-4))
        self.names = nn.Linear(features.shape[1], num_concepts)
        self.count = nn.Linear(features.shape[1], MOST)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        standard = (features - self.mean) / self.deviation
        return self.names(standard), self.count(standard)


def classify(recipe: Recipe, shown: Sequence[Scene]) -> list[list[str]]:
    """The concept ids that a probe sees in each scene, likeliest first, after learning from the recipe's scenes."""
    model, samples, _ = beginning(recipe)
    assert isinstance(model, VisionLanguageModel)
    features, wanted = _training_features(recipe, model, Mix.of(samples))
    torch.manual_seed(recipe.seed)
    known = [concept for concept in concepts() if concept.trained_styles()]
    probe = train_probe(features, wanted, known)
    names, counts = probe(_features(_encode(model, shown)))
    sizes = counts.argmax(1) + 1
    ranked = names.topk(MOST, 1).indices
    return [
        [known[at].id for at in row[:size]] for row, size in zip(ranked.tolist(), sizes.tolist(), strict=True)
    ]


def train_probe(features: Tensor, wanted: Sequence[Sequence[str]], known: Sequence[Concept]) -> Probe:
    """Learn which `known` concepts are in (N, 2 V) features; the cross-entropy is shared out among those of a scene."""
    place = {concept.id: at for at, concept in enumerate(known)}
    targets = torch.zeros(len(wanted), len(known))
    for row, ids in zip(targets, wanted, strict=True):
        row[[place[one] for one in ids]] = 1 / len(ids)
    sizes = torch.tensor([len(ids) - 1 for ids in wanted])
    probe = Probe(features, len(known))
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(features) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH_SIZE):
            names, counts = probe(features[rows])
            loss = F.cross_entropy(names, targets[rows]) + F.cross_entropy(counts, sizes[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return probe.requires_grad_(False)


def _training_features(
    recipe: Recipe, model: VisionLanguageModel, samples: Mix
) -> tuple[Tensor, list[list[str]]]:
    """Of every training scene in every view, from the cache that the arms train from."""
    task = VisionLanguageTask(model, recipe.augmentation, recipe.data.max_length)
    # The last stage trains the resampler, so that what is cached for it are patch states.
    Trainer(
        task, recipe.stages[-1:], samples, Path(), precision=recipe.precision, device=model.device
    ).prepare()
    scenes = list({sample.images[0].key: sample for sample in samples}.values())
    features, wanted = [], []
    for epoch in range(int(recipe.augmentation.views) if recipe.augmentation.views != "off" else 1):
        for part in chunks(scenes, PART):
            states = task.collate(part, [epoch] * len(part)).visual
            assert states is not None
            features.append(_features(states))
            wanted += [sample.extra["concepts"] for sample in part]
    return torch.cat(features), wanted


@torch.no_grad()
def _encode(model: VisionLanguageModel, shown: Sequence[Scene]) -> Tensor:
    model.eval()
    parts = [model.encode(model.processor([scene.load() for scene in part])) for part in chunks(shown, PART)]
    return torch.cat(parts)


def _features(states_BPV: Tensor) -> Tensor:
    states = states_BPV.float()
    return torch.cat([states.mean(1), states.amax(1)], 1)
