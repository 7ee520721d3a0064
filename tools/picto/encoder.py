"""Trains Picto's image encoder: a small ResNet that tells concepts apart, and knows their English keywords.

Pictures: every style but the test style, of the concepts in image training. Validation: for a tenth of the concepts
the Noto or the OpenMoji drawing is withheld, and told apart in that style among each other. (Among all concepts the
encoder seldom names them: it has learnt that this style does not show them. A new style has no such past.)
"""

import io
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tools.picto.augment import augment
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel

from polylens.picto.world import LINE_STYLE, TRAINING_STYLES, Concept, concepts

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of one run: `steps` batches of `batch_size` augmented views, the first `small_share` of them small."""

    steps: int
    batch_size: int = 128
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.03
    smoothing: float = 0.1
    keyword_weight: float = 0.5
    average_decay: float = 0.998
    small_share: float = 0.5
    small_size: int = 48
    plain_first: float = 0.9
    plain_last: float = 0.1
    seed: int = 0


def new_encoder() -> ResNetModel:
    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256], depths=[2, 2, 2], layer_type="basic"
    )
    return ResNetModel(config)


def rgba(concept: Concept, style: str) -> Tensor:
    """(4, 64, 64) float32 in [0, 1]."""
    picture = Image.open(io.BytesIO(concept.picture(style).read())).convert("RGBA")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def on_white(pictures: Tensor) -> Tensor:
    """(B, 4, H, W) RGBA to (B, 3, H, W)."""
    return pictures[:, :3] * pictures[:, 3:] + 1 - pictures[:, 3:]


def normalised(views: Tensor) -> Tensor:
    return (views - MEAN) / STD


class Classifier(nn.Module):
    """The encoder under two heads, used in training only: which concept it is, and its English keywords."""

    def __init__(self, num_concepts: int, num_keywords: int):
        super().__init__()
        self.encoder = new_encoder().to(memory_format=torch.channels_last)
        width = self.encoder.config.hidden_sizes[-1]
        self.dropout = nn.Dropout(0.2)
        self.concepts = nn.Linear(width, num_concepts)
        self.keywords = nn.Linear(width, num_keywords)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] to (B, concepts) and (B, keywords) logits."""
        pixels = normalised(views).to(memory_format=torch.channels_last)
        pooled = self.dropout(self.encoder(pixels).last_hidden_state.mean((2, 3)))
        return self.concepts(pooled), self.keywords(pooled)


def train_encoder(
    settings: EncoderTraining, out: Path, *, report: Callable[[str], None] = print
) -> ResNetModel:
    """Train, with a resumable state in `out/state.pt` and a log in `out/log.jsonl`. Returns the averaged encoder."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    trained = [concept for concept in concepts() if concept.trained_styles()]
    pictures, labels = _training_pictures(trained)
    validation = {
        style: [i for i, concept in enumerate(trained) if concept.validation_style() == style]
        for style in TRAINING_STYLES
    }
    keywords = _keyword_targets(trained)
    flips = torch.tensor([_may_flip(concept) for concept in trained])

    model = Classifier(len(trained), keywords.shape[1])
    averaged = torch.optim.swa_utils.AveragedModel(
        model,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average_decay),
        use_buffers=True,
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    )
    step = 0
    if (out / "state.pt").exists():
        state = torch.load(out / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    started, running = time.monotonic(), []
    while step < settings.steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _schedule(step / settings.steps, settings.warmup)
        model.train()
        picked = torch.randint(len(pictures), (settings.batch_size,), generator=generator)
        target = labels[picked]
        views = augment(pictures[picked].float() / 255, flips[target], generator)
        # Plain pictures first: from strong augmentation alone, learning hardly starts.
        share = max(settings.plain_last, settings.plain_first * (1 - 2 * step / settings.steps))
        unchanged = torch.rand(len(views), 1, 1, 1, generator=generator) < share
        views = torch.where(unchanged, on_white(pictures[picked].float() / 255), views)
        if step < settings.small_share * settings.steps:
            # Half the pixels cost half the time, and teach as much while there is much to learn.
            views = F.interpolate(views, size=settings.small_size, mode="area")
        with torch.autocast("cpu", torch.bfloat16):
            names, words = model(views)
        loss = F.cross_entropy(names.float(), target, label_smoothing=settings.smoothing)
        loss = loss + settings.keyword_weight * F.cross_entropy(words.float(), keywords[target])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
        running.append(loss.item())
        step += 1
        if step % 200 == 0 or step == settings.steps:
            row = {
                "step": step,
                "loss": round(sum(running) / len(running), 4),
                "validation_accuracy": {
                    style: _accuracy(averaged.module, trained, places, style)
                    for style, places in validation.items()
                },
                "seconds": round(time.monotonic() - started, 1),
            }
            running = []
            report(json.dumps(row))
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            state = {
                "model": model.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
            }
            torch.save(state, out / "state.tmp")
            os.replace(out / "state.tmp", out / "state.pt")
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    return averaged.module.encoder.to(memory_format=torch.contiguous_format)


def _training_pictures(trained: Sequence[Concept]) -> tuple[Tensor, Tensor]:
    """uint8 (N, 4, 64, 64) and the concept index of each."""
    pictures, labels = [], []
    for index, concept in enumerate(trained):
        styles = list(concept.trained_styles())
        if "openmoji" in styles:
            styles.append(LINE_STYLE)
        for style in styles:
            # Colour drawings are seen twice as often as line drawings.
            for _ in range(1 if style == LINE_STYLE else 2):
                pictures.append((rgba(concept, style) * 255).byte())
                labels.append(index)
    return torch.stack(pictures), torch.tensor(labels)


def _keyword_targets(trained: Sequence[Concept]) -> Tensor:
    """(C, K) float32: each concept's English keywords share one, among those that at least two concepts have."""
    counts: dict[str, int] = {}
    for concept in trained:
        for word in concept.keywords("en"):
            counts[word] = counts.get(word, 0) + 1
    index = {word: i for i, word in enumerate(sorted(word for word, n in counts.items() if n > 1))}
    targets = torch.zeros(len(trained), len(index))
    for row, concept in zip(targets, trained, strict=True):
        known = [index[word] for word in concept.keywords("en") if word in index]
        row[known] = 1 / max(len(known), 1)
    return targets


def _may_flip(concept: Concept) -> bool:
    """False where the name or a keyword tells left from right, or letters from their mirror image."""
    words = " ".join([concept.name("en") or "", *concept.keywords("en")]).lower()
    return not any(word in words for word in ("left", "right", "arrow", "clock", "flag", "button", "mirror"))


def _schedule(progress: float, warmup: float) -> float:
    return (
        progress / warmup
        if progress < warmup
        else 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    )


@torch.no_grad()
def _accuracy(model: nn.Module, trained: Sequence[Concept], places: Sequence[int], style: str) -> float:
    """Share of the concepts at `places` that are told apart among themselves in `style`."""
    model.eval()
    names, _ = model(on_white(torch.stack([rgba(trained[place], style) for place in places])))
    said = names[:, list(places)].argmax(1)
    return round((said == torch.arange(len(places))).float().mean().item(), 4)
