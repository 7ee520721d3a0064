"""How well a painter draws Picto's concepts, language by language, judged by the packaged image encoder.

retrieval   the drawn picture is nearest to its own concept's pictures, among those of 100 concepts
fd_picto    Frechet distance of the encoder's features, drawn pictures against real ones that nothing trained on
control     pictures of the empty prompt, scored as if each were one of the concepts

The judge takes no part in training, in choosing among candidates or in choosing a checkpoint.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polylens.data.images import ImageProcessor
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.models.checkpoints.build import load_vision
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import VisionConfig
from polylens.painting.painter import Advance, Painter, silent
from polylens.painting.sampling import Sampling
from polylens.painting.scores.frechet import Moments, TowerFeatures, frechet_distance
from polylens.picto.measure import PIVOT
from polylens.picto.world import DEVELOPMENT_STYLE, Concept, concepts

JUDGE = "picto-parts/vision"
BATCH_SIZE = 50
NUM_CANDIDATES = 100


@dataclass
class Judge:
    """The packaged image encoder, and of every concept the mean feature of its trained pictures."""

    encoder: TowerFeatures
    means: dict[str, Tensor]

    @classmethod
    def packaged(cls, wanted: Sequence[Concept]) -> "Judge":
        """Ready for `wanted` concepts and their distractors. Their pictures are those of the trained styles."""
        processor = ImageProcessor.from_folder(resolve_model(JUDGE))
        judge = cls(TowerFeatures(load_vision(VisionConfig(path=JUDGE)), processor, {"path": JUDGE}), {})
        known = {c.id: c for one in wanted for c in (one, *distractors(one))}
        shown = [
            (c.id, style) for c in known.values() for style in c.trained_styles() or (DEVELOPMENT_STYLE,)
        ]
        features = judge.features([known[name].picture(style).load() for name, style in shown])
        for name in known:
            rows = [feature for (own, _), feature in zip(shown, features, strict=True) if own == name]
            judge.means[name] = torch.stack(rows).mean(0)
        return judge

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """(N, V) pooled features."""
        pieces = [
            self.encoder(images[start : start + BATCH_SIZE]) for start in range(0, len(images), BATCH_SIZE)
        ]
        return torch.cat(pieces)

    def finds(self, features: Tensor, wanted: Sequence[Concept]) -> list[float]:
        """1.0 where a picture (N, V) is nearer to its concept than to each of 99 others."""
        found = []
        centre = torch.stack(list(self.means.values())).mean(0)
        for feature, concept in zip(features, wanted, strict=True):
            rivals = torch.stack([self.means[c.id] for c in (concept, *distractors(concept))])
            nearness = torch.cosine_similarity(feature[None] - centre, rivals - centre)
            found.append(float(nearness.argmax() == 0))
        return found


def paint_concepts(
    painter: Painter,
    wanted: Sequence[Concept],
    code: str | None,
    settings: Sampling,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    advance: Advance = silent,
) -> list[Image.Image]:
    """One picture of every concept from its name in a language (None: from the empty prompt), with its own seed.

    The seed of a concept is the same in every language. `advance` hears of pictures drawn.
    """
    images: list[Image.Image] = []
    for start in range(0, len(wanted), batch_size):
        piece = wanted[start : start + batch_size]
        prompts = [(concept.name(code) or "") if code else "" for concept in piece]
        seeds = [seed * 1_000_000 + start + number for number in range(len(piece))]
        images += painter.draw(prompts, seeds, settings)
        advance(len(piece))
    return images


def measure(
    judge: Judge,
    wanted: Sequence[Concept],
    drawn: Mapping[str, Sequence[Image.Image]],
    blank: Sequence[Image.Image],
) -> dict[str, Any]:
    """results.json of drawn pictures {language: one per concept}, and those of the empty prompt."""
    real = judge.features([concept.picture(DEVELOPMENT_STYLE).load() for concept in wanted])
    seen = {code: judge.features(images) for code, images in drawn.items()}
    right = {code: judge.finds(features, wanted) for code, features in seen.items()}
    rows = {code: _row(right, code, wanted) for code in drawn}
    for code, features in seen.items():
        rows[code]["fd_picto"] = frechet_distance(_moments(features), _moments(real))
    others = [row for code, row in rows.items() if code != PIVOT and row.get("pivot_ratio") is not None]
    nothing = judge.features(blank)
    return {
        "languages": rows,
        "mean_pivot_ratio": sum(row["pivot_ratio"] for row in others) / len(others) if others else None,
        "judge_on_real_pictures": asdict(bootstrap_mean(judge.finds(real, wanted))),
        "controls": {"empty_prompt": asdict(bootstrap_mean(judge.finds(nothing, wanted))), "chance": 0.01},
    }


def zero_shot(
    judge: Judge, wanted: Sequence[Concept], drawn: Mapping[str, Sequence[Image.Image]]
) -> dict[str, Any]:
    """Retrieval of pictures {language: one per concept}: in English, and the mean over the other languages."""
    right = {code: judge.finds(judge.features(images), wanted) for code, images in drawn.items()}
    others = [values for code, values in right.items() if code != PIVOT]
    found = {"n": len(wanted), PIVOT: asdict(bootstrap_mean(right[PIVOT]))}
    return found | {"others": asdict(bootstrap_mean(np.mean(others, axis=0)))}


def _moments(features: Tensor) -> Moments:
    found = Moments()
    found.add(features)
    return found


def _row(right: Mapping[str, Sequence[float]], code: str, wanted: Sequence[Concept]) -> dict[str, Any]:
    """Retrieval with its interval, and its ratio to English over concepts that are not named as in English."""
    row: dict[str, Any] = {"retrieval": asdict(bootstrap_mean(right[code]))}
    if code != PIVOT and PIVOT in right:
        own = [
            i
            for i, c in enumerate(wanted)
            if (c.name(code) or "").casefold() != (c.name(PIVOT) or "").casefold()
        ]
        base = sum(right[PIVOT][i] for i in own)
        row |= {"n_ratio": len(own), "pivot_ratio": sum(right[code][i] for i in own) / base if base else None}
    return row


@cache
def distractors(concept: Concept) -> tuple[Concept, ...]:
    """99 other concepts, half of them of the same group, drawn by the concept alone."""
    rng = random.Random(f"distractors/{concept.id}")
    others = [c for c in concepts() if c.scored and c.id != concept.id]
    near = [c for c in others if c.group == concept.group]
    picked = rng.sample(near, NUM_CANDIDATES // 2)
    ids = {c.id for c in picked}
    return (*picked, *rng.sample([c for c in others if c.id not in ids], NUM_CANDIDATES - 1 - len(picked)))


def even(items: Sequence[Concept], count: int) -> Iterator[Concept]:
    """`count` of the items, evenly spread."""
    step = max(1, len(items) // count)
    yield from list(items[::step])[:count]
