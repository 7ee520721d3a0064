"""What a model is trained for: the batch contract and the loss, apart from the loop that all share."""

import math
import os
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from rich.console import Console
from torch import Tensor, nn

from polylens.batching import chunks
from polylens.data.collate import Batch, Level, Row
from polylens.data.conversations import unroll
from polylens.data.sample import Sample
from polylens.data.sides import names_a_side
from polylens.errors import UserError
from polylens.feature_cache import FeatureCache, hash_weights
from polylens.files import cache_folder
from polylens.models.vlm import VisionLanguageModel
from polylens.progress import progress_bar
from polylens.recipe import Augmentation
from polylens.training.augment import VERSION, View, load_views
from polylens.training.objectives import find_objective
from polylens.training.stages import Plan

FILL_BATCH = 64
# Numbers in the patch states of a picture that are cached although a stage needs less: 64 KiB in bfloat16.
SMALL_PATCHES = 1 << 15
# Tokenized samples that are kept: of streamed ones, which come anew each time, no more would ever be used.
ROWS = 1 << 16


class TrainingBatch(Protocol):
    """What the loop asks of a batch."""

    num_targets: int
    sample_ids: list[str]

    def to(self, device: torch.device) -> Self: ...


class Task(ABC):
    """A model and how to train it. Samples are anything with `id` and `language`."""

    model: nn.Module

    def prepare(self, plan: Plan, samples: Sequence[Any], held_out: Sequence[Any]) -> None:  # noqa: B027 (may stay empty)
        """Called when a stage begins, with its parts frozen and all weights in place: the moment to
        precompute.
        """

    @abstractmethod
    def collate(self, samples: Sequence[Any], epochs: Sequence[int] | None = None) -> Any:
        """A `TrainingBatch`. `epochs` are those that the samples are drawn for, None when nothing may be
        random.
        """

    def size(self, sample: Any) -> int:
        """How long a sample is; micro-batches are made of samples of about one length."""
        return 0

    @abstractmethod
    def loss(self, batch: Any, num_targets: int) -> Tensor:
        """The loss summed over the batch's targets, divided by `num_targets`, those of all micro-batches."""

    def after_step(self) -> None:  # noqa: B027 (may stay empty)
        """Called after every update of the weights."""

    def state(self) -> dict[str, Tensor]:
        """What the task keeps beside the model's weights; checkpoints hold it."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (may stay empty)
        """Take back what `state` gave."""

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Inside, the model has the weights that validation is about."""
        yield

    def finish(self) -> None:  # noqa: B027 (may stay empty)
        """Called once all stages are through: the moment to give the model its final weights."""


class PictureTask(Task):
    """Samples with pictures, as a step sees them: plain, or in views that the augmentation makes."""

    model: Any

    def __init__(self, model: Any, augmentation: Augmentation | None = None):
        self.model = model
        self.augmentation = augmentation or Augmentation()
        self._threads = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads)

    def _view(self, sample: Sample, epoch: int) -> int:
        """Every epoch the next view; samples begin with different ones."""
        views = self.augmentation.views
        if views == "off":
            return epoch + 1 if self.augmentation.changes else 0
        return (epoch + zlib.crc32(sample.id.encode())) % views

    def _views(self, sample: Sample, number: int) -> list[View]:
        """The sample's pictures in their view of that number."""
        mirror = not (number and self.augmentation.flip and names_a_side(sample))
        return [View(picture, number, mirror) for picture in sample.images]

    def _pixels(self, wanted: Iterable[View]) -> Tensor:
        """(N, 3, H, W) of pictures in their views."""
        processor = self.model.processor
        size = (processor.width, processor.height)

        views = list(wanted)
        # A piece for each thread: what is small is changed together.
        pieces = chunks(views, max(1, math.ceil(len(views) / self._threads)))
        load = partial(load_views, settings=self.augmentation, size=size)
        return processor([image for images in self._pool.map(load, pieces) for image in images])


class VisionLanguageTask(PictureTask):
    """Answers to pictures and prompts, by a `VisionLanguageModel`.

    Whatever lies below the stage's frozen boundary is computed once and cached under `cache`, unless the
    augmentation's `views` are off. Texts are tokenized once.
    """

    model: VisionLanguageModel

    def __init__(
        self,
        model: VisionLanguageModel,
        augmentation: Augmentation | None = None,
        max_length: int | None = None,
        cache: Path | None = None,
        console: Console | None = None,
    ):
        super().__init__(model, augmentation)
        self.console = console or Console(quiet=True)
        self._cache_root = cache or cache_folder("features")
        self._collator = model.collator(max_length, with_pictures=False)
        turns = model.config.layout.train_turns
        self._unrolls = turns == "unrolled" or (turns == "all" and model.is_encoder_decoder)
        if self._unrolls:
            layout = model.config.layout.model_copy(update={"train_turns": "last"})
            self._collator = replace(self._collator, layout=layout)
        self._rows: OrderedDict[int, tuple[Sample, list[Row]]] = OrderedDict()
        self._features: FeatureCache | None = None
        self._level: Level = "pixels"
        self._objective = find_objective("answers")

    def prepare(self, plan: Plan, samples: Sequence[Sample], held_out: Sequence[Sample]) -> None:
        self._features, self._level = None, "pixels"
        self._objective = find_objective(plan.stage.objective)
        eyes = ("vision.", "resampler.", "projector.")
        if all(name.startswith(eyes) for name in plan.rows) and not any(s.images for s in samples):
            raise UserError(
                f"Stage '{plan.stage.name}' trains only what images pass through, but no sample has one: "
                "give samples with images, or train the language model."
            )
        if plan.boundary not in ("patches", "queries") or self.augmentation.views == "off":
            return
        views = range(self.augmentation.views)
        # Samples about one picture share their views: a key, for which its file is looked at, is asked for once.
        seen: dict[tuple[int, int, bool], View] = {}
        for sample in samples:
            for number in views:
                for view in self._views(sample, number):
                    seen.setdefault((id(view.picture), view.number, view.mirror), view)
        wanted = {view.key: view for view in seen.values()}
        wanted |= {view.key: view for s in held_out for view in self._views(s, 0)}
        self._level = plan.boundary
        self._features = self._cached(plan.boundary, wanted)

    @torch.no_grad()
    def _cached(self, level: Level, wanted: dict[str, View]) -> FeatureCache:
        """The features of all views, computed where they are missing."""
        model = self.model
        bfloat16 = torch.is_autocast_enabled(model.device.type)
        origin = {
            "level": level,
            "weights": hash_weights(
                [model.vision] if level == "patches" else [model.vision, model.resampler]
            ),
            "vision": model.config.vision.model_dump(mode="json", exclude={"path"}),
            "processor": repr(model.processor),
            "precision": "bfloat16" if bfloat16 else "float32",
            "augmentation": self.augmentation.model_dump(mode="json", exclude={"views"})
            | {"version": VERSION},
        }
        features = FeatureCache(self._cache_root, origin)
        missing = {key: view for key, view in wanted.items() if key not in features}
        if not missing:
            return features
        size = model.vision.num_patches(model.processor.height, model.processor.width) * model.vision.width
        # A later stage may train the resampler: where patches are small, pictures are read once for both.
        patches = self._cached("patches", missing) if level == "queries" and size <= SMALL_PATCHES else None

        def read(keys: Sequence[str]) -> Tensor:
            return self._pixels([missing[key] for key in keys]) if patches is None else patches.get(keys)

        def compute(given: Tensor) -> Tensor:
            given = given.to(model.device)
            states = model.encode(given) if patches is None else given
            states = model.resampler(states) if level == "queries" else states
            return states.to(torch.bfloat16 if bfloat16 else torch.float32)

        with progress_bar(self.console) as progress:
            bar = progress.add_task(f"caching {level}", total=len(missing))
            features.fill(missing, compute, FILL_BATCH, partial(progress.advance, bar), read=read)
        return features

    def collate(self, samples: Sequence[Sample], epochs: Sequence[int] | None = None) -> Batch:
        rows = [self._examples(sample) for sample in samples]
        batch = self._collator.stack([row for examples in rows for row in examples])
        numbers = [0] * len(samples) if epochs is None else map(self._view, samples, epochs)
        views = zip(samples, numbers, rows, strict=True)
        wanted = [view for s, number, examples in views for view in self._views(s, number) * len(examples)]
        if not wanted:
            return batch
        batch.level = self._level
        if self._features is None:
            batch.visual = self._pixels(wanted)
        else:
            batch.visual = self._features.get([view.key for view in wanted])
        return batch

    def size(self, sample: Sample) -> int:
        targets = self.model.is_encoder_decoder
        return sum(len(r.ids) + (r.num_targets if targets else 0) for r in self._examples(sample))

    def loss(self, batch: Batch, num_targets: int) -> Tensor:
        return self._objective.loss(self.model, batch, num_targets)

    def _examples(self, sample: Sample) -> list[Row]:
        """The rows that a sample makes, from memory after the first time."""
        if id(sample) not in self._rows:
            examples = unroll(sample) if self._unrolls else [sample]
            # The sample is kept beside its rows, so that its id() is not given to another one.
            self._rows[id(sample)] = (sample, [self._collator.row(example) for example in examples])
            if len(self._rows) > ROWS:
                self._rows.popitem(last=False)
        return self._rows[id(sample)][1]
