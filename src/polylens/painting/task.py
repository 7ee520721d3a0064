"""Training of a painter: to undo noise on pictures, knowing their captions.

    caption --.-- language model ---> states (T, L), once, on disk --- bridge ---> context
              '-- now and then the empty prompt                                       |
    picture --- nearest aspect --- space ---> latents (C, h, w), once, on disk --- + noise ---> denoiser ---> loss

All that is random about a sample (time, noise, dropped caption) follows from the run's seed, the sample and the
epoch: the size of micro-batches changes nothing, and a run that was stopped goes on exactly.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from PIL import Image, ImageOps
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from polylens.data.images import ImageProcessor
from polylens.data.sample import Picture, Sample
from polylens.data.sides import names_a_side
from polylens.errors import UserError
from polylens.feature_cache import FeatureCache, hash_weights
from polylens.files import cache_folder
from polylens.painting.config import PaintingSettings
from polylens.painting.painter import Painter
from polylens.progress import progress_bar
from polylens.recipe import Augmentation
from polylens.training.augment import VERSION, View, augment
from polylens.training.stages import Plan
from polylens.training.tasks import Task

FILL_BATCH = 32
MAX_ASPECT = 2.0
FEW_PLACES = 1024
TRAINED = ("bridge.", "denoiser.")
AVERAGE, AVERAGE_STEPS = "average.", "average_steps"
Size = tuple[int, int]  # width, height


@dataclass
class Pictures:
    """Pictures of one size: latents and noise (N, C, h, w), timesteps (N,), and the states (T, L) of each caption."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    rows: list[Tensor]

    def to(self, device: torch.device) -> "Pictures":
        moved = {name: getattr(self, name).to(device) for name in ("latents", "noise", "timesteps")}
        return Pictures(**moved, rows=[row.to(device) for row in self.rows])


@dataclass
class PaintBatch:
    """A batch, pictures of one size together; every picture is a target."""

    groups: list[Pictures]
    sample_ids: list[str]
    num_targets: int

    def to(self, device: torch.device) -> "PaintBatch":
        return replace(self, groups=[group.to(device) for group in self.groups])


class PaintTask(Task):
    """Pictures and captions (the last answer of a sample) for a `Painter`, whose bridge and denoiser may train.

    Latents and states are computed once and kept under `cache`; then the language model and the autoencoder leave
    the accelerator.
    """

    def __init__(
        self,
        painter: Painter,
        settings: PaintingSettings,
        augmentation: Augmentation | None = None,
        *,
        seed: int = 0,
        cache: Path | None = None,
        console: Console | None = None,
    ):
        self.model: Painter = painter
        self.settings = settings
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.console = console or Console(quiet=True)
        self.scheduler = DDPMScheduler.from_config(painter.schedule)
        self._cache_root = cache or cache_folder("features")
        self._sizes: dict[str, Size] = {}
        self._latents: dict[Size, FeatureCache] = {}
        self._states: dict[int, FeatureCache] = {}
        self._lengths: dict[str, int] = {}
        self._average: dict[str, Tensor] = {}
        self._average_steps = 0

    # Once per stage.

    def prepare(self, plan: Plan, samples: Sequence[Sample], held_out: Sequence[Sample]) -> None:
        wrong = next((name for name in plan.rows if not name.startswith(TRAINED)), None)
        if wrong is not None:
            raise UserError(
                f"Stage '{plan.stage.name}' trains '{wrong}', but of a painter only {' and '.join(TRAINED)} may train."
            )
        if self.augmentation.views == "off":
            raise UserError("A painter learns from cached latents: give augmentation.views a number.")
        painter = self.model
        self._keep_average(plan)
        self._fill_states({_caption(sample) for sample in [*samples, *held_out]} | {""})
        size = plan.stage.size or painter.config.size
        pictures = {_picture(s).key: _picture(s) for s in [*samples, *held_out]}
        self._sizes = self._choose_sizes(pictures, size)
        views = [self._view(s, number) for s in samples for number in range(self.augmentation.views)]
        wanted: dict[Size, dict[str, View]] = {}
        for view in [*views, *(self._view(sample, 0) for sample in held_out)]:
            wanted.setdefault(self._sizes[view.picture.key], {})[view.key] = view
        self._fill_latents(wanted)
        for part in (painter.text, painter.space):
            part.to("cpu")
        self._speed_up(size)

    def _speed_up(self, size: int) -> None:
        painter = self.model
        few = (size // painter.space.factor) ** 2 <= FEW_PLACES
        if few and painter.device.type == "cpu" and isinstance(painter.denoiser, UNet2DConditionModel):
            # The fused attention of a CPU takes four times as long backwards as plain products of so few places.
            painter.denoiser.set_default_attn_processor()
        painter.speed_up(compiled=self.settings.compiled)

    def _choose_sizes(self, pictures: dict[str, Picture], size: int) -> dict[str, Size]:
        """The width and height that every picture is cut to."""
        if not self.settings.buckets:
            return dict.fromkeys(pictures, (size, size))
        allowed = buckets(size, self._step())
        shapes = FeatureCache(self._cache_root, {"kind": "sizes of pictures"})

        def measure(keys: Sequence[str]) -> Tensor:
            return torch.tensor([pictures[key].load().size for key in keys], dtype=torch.float32)

        self._fill("measuring pictures", shapes, list(pictures), measure)
        measured = shapes.get(list(pictures)).tolist() if pictures else []
        return {
            key: nearest_bucket(wh[0], wh[1], allowed) for key, wh in zip(pictures, measured, strict=True)
        }

    def _step(self) -> int:
        """What the sides of training pictures are multiples of: down-sampling must come out even."""
        blocks = self.model.denoiser.config.get("block_out_channels") or [0]
        return self.model.space.factor * max(
            2 ** (len(blocks) - 1), int(self.model.denoiser.config.get("patch_size") or 1)
        )

    def _fill_states(self, captions: set[str]) -> None:
        text, config = self.model.text, self.model.config.text
        self._lengths |= {c: text.num_states(c) for c in sorted(captions) if c not in self._lengths}
        origin = {
            "kind": "prompt states",
            "weights": hash_weights([text]),
            # Captions are read as they are: they are in the language that is learnt from.
            "text": config.model_dump(mode="json", exclude={"path", "languages", "pivot"}),
        } | self._precision()
        for length in sorted({self._lengths[caption] for caption in captions}):
            cache = FeatureCache(self._cache_root, origin | {"states": length})
            mine = sorted(caption for caption in captions if self._lengths[caption] == length)
            self._fill(
                "caching prompt states", cache, mine, lambda keys: torch.stack(text.encode(keys, FILL_BATCH))
            )
            self._states[length] = cache

    def _view(self, sample: Sample, number: int) -> View:
        mirror = not (number and self.augmentation.flip and names_a_side(sample))
        return View(_picture(sample), number, mirror)

    def _fill_latents(self, wanted: dict[Size, dict[str, View]]) -> None:
        space = self.model.space
        origin = {
            "kind": "latents",
            "weights": hash_weights([space]),
            "factor": space.factor,
            "augmentation": self.augmentation.model_dump(mode="json", exclude={"views"})
            | {"version": VERSION},
        } | self._precision()
        self._latents = {}
        for size, named in wanted.items():
            if size[0] % self._step() or size[1] % self._step():
                raise UserError(
                    f"Training pictures of {size[0]}x{size[1]} do not fit this painter: its sizes are multiples of "
                    f"{self._step()}."
                )
            width, height = size
            processor = ImageProcessor(height=height, width=width, mean=(0.5,) * 3, std=(0.5,) * 3)
            cache = FeatureCache(self._cache_root, origin | {"size": list(size)})

            def read(
                keys: Sequence[str],
                named: dict[str, View] = named,
                size: Size = size,
                processor: ImageProcessor = processor,
            ) -> Tensor:
                return processor([self._cut(named[key], size) for key in keys])

            def encode(pixels: Tensor) -> Tensor:
                return space.encode(pixels.to(self.model.device))

            self._fill("caching latents", cache, list(named), encode, read)
            self._latents[size] = cache

    def _cut(self, view: View, size: Size) -> Image.Image:
        image = view.picture.load()
        # The middle of the wanted aspect, at the picture's own resolution: it is resized once.
        scale = min(image.width / size[0], image.height / size[1])
        middle = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        image = ImageOps.fit(image, middle, Image.Resampling.BICUBIC)
        if view.number:
            image = augment(image, view.name, self.augmentation, size, view.mirror)
        return image.resize(size, Image.Resampling.BICUBIC)

    def _precision(self) -> dict[str, Any]:
        half = torch.is_autocast_enabled(self.model.device.type)
        return {"precision": "bfloat16" if half else "float32"}

    @torch.no_grad()
    def _fill(
        self,
        what: str,
        cache: FeatureCache,
        keys: list[str],
        compute: Callable[[Any], Tensor],
        read: Callable[[Sequence[str]], Any] = lambda keys: keys,
    ) -> None:
        missing = [key for key in keys if key not in cache]
        half = torch.is_autocast_enabled(self.model.device.type)

        def rounded(given: Any) -> Tensor:
            return compute(given).to(torch.bfloat16 if half and "pictures" not in what else torch.float32)

        if missing:
            with progress_bar(self.console) as progress:
                bar = progress.add_task(what, total=len(missing))
                cache.fill(missing, rounded, FILL_BATCH, partial(progress.advance, bar), read=read)

    # Once per batch.

    def size(self, sample: Sample) -> int:
        width, height = self._sizes[_picture(sample).key]
        return width * 10_000 + height  # micro-batches of one aspect

    def collate(self, samples: Sequence[Sample], epochs: Sequence[int] | None = None) -> PaintBatch:
        by_size: dict[Size, list[tuple[Sample, int | None]]] = {}
        for number, sample in enumerate(samples):
            epoch = None if epochs is None else epochs[number]
            by_size.setdefault(self._sizes[_picture(sample).key], []).append((sample, epoch))
        groups = [self._collate(size, drawn) for size, drawn in by_size.items()]
        return PaintBatch(groups, [sample.id for sample in samples], len(samples))

    def _collate(self, size: Size, drawn: Sequence[tuple[Sample, int | None]]) -> Pictures:
        keys, captions, times, noise = [], [], [], []
        cache = self._latents[size]
        for sample, epoch in drawn:
            generator = torch.Generator().manual_seed(_number(f"{self.seed}/{sample.id}/{epoch}"))
            dropped = torch.rand((), generator=generator).item() < self.settings.caption_dropout
            captions.append("" if dropped and epoch is not None else _caption(sample))
            views = self.augmentation.views
            assert isinstance(views, int)
            view = 0 if epoch is None else (epoch + _number(sample.id)) % views
            keys.append(self._view(sample, view).key)
            steps = self.scheduler.config.num_train_timesteps
            times.append(torch.randint(steps, (), generator=generator))
            noise.append(generator)
        latents = cache.get(keys).float()
        return Pictures(
            latents=latents,
            noise=torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in noise]),
            timesteps=torch.stack(times),
            rows=[self._states[self._lengths[c]].get([c])[0].float() for c in captions],
        )

    def loss(self, batch: PaintBatch, num_targets: int) -> Tensor:
        """Weighted squared error, mean over a picture's latents, summed over pictures."""
        return sum(self._errors(group).sum() for group in batch.groups) / num_targets  # type: ignore[return-value]

    def _errors(self, group: Pictures) -> Tensor:
        painter, scheduler = self.model, self.scheduler
        noisy = scheduler.add_noise(group.latents, group.noise, group.timesteps)
        context, mask = painter.context(group.rows)
        output = painter.predict(noisy, group.timesteps, context, mask).float()
        kind = scheduler.config.prediction_type
        if kind == "v_prediction":
            goal = scheduler.get_velocity(group.latents, group.noise, group.timesteps)
        else:
            goal = group.latents if kind == "sample" else group.noise
        errors = F.mse_loss(output, goal, reduction="none").flatten(1).mean(1)
        return errors * self._weights(group.timesteps)

    def _weights(self, timesteps: Tensor) -> Tensor:
        if self.settings.min_snr is None:
            return torch.ones_like(timesteps, dtype=torch.float32)
        signal = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        ratio = signal / (1 - signal)
        cut = ratio.clamp(max=self.settings.min_snr)
        kind = self.scheduler.config.prediction_type
        return cut / {"epsilon": ratio, "v_prediction": ratio + 1}[kind] if kind != "sample" else cut

    # The moving average.

    def _keep_average(self, plan: Plan) -> None:
        if self.settings.average is not None:
            parameters = dict(self.model.named_parameters())
            for name in plan.rows:
                if name not in self._average:
                    self._average[name] = parameters[name].detach().clone().contiguous()

    @torch.no_grad()
    def after_step(self) -> None:
        if self.settings.average is None:
            return
        self._average_steps += 1
        # At the beginning the average is short, or the first weights would stay in it for long.
        decay = min(self.settings.average, (1 + self._average_steps) / (10 + self._average_steps))
        parameters = dict(self.model.named_parameters())
        for name, kept in self._average.items():
            kept.lerp_(parameters[name], 1 - decay)

    def state(self) -> dict[str, Tensor]:
        if not self._average:
            return {}
        kept = {f"{AVERAGE}{name}": tensor for name, tensor in self._average.items()}
        return kept | {AVERAGE_STEPS: torch.tensor(self._average_steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, tensor in state.items():
            if name == AVERAGE_STEPS:
                self._average_steps = int(tensor)
            else:
                own = name.removeprefix(AVERAGE)
                self._average[own] = tensor.clone().to(parameters[own].device)

    @contextmanager
    def judged(self) -> Iterator[None]:
        parameters = dict(self.model.named_parameters())
        trained = {name: parameters[name].detach().clone() for name in self._average}
        self.finish()
        try:
            yield
        finally:
            self._put(trained.items())

    def finish(self) -> None:
        self._put(self._average.items())

    @torch.no_grad()
    def _put(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, tensor in tensors:
            parameters[name].copy_(tensor)


def buckets(size: int, step: int) -> list[Size]:
    """Sizes of about `size` squared pixels, from 1:2 to 2:1, both sides multiples of `step` (64 at least for latents
    of large pictures), from narrow to wide.
    """
    step = max(step, 64) if size >= 256 else step
    found = []
    for width in range(step, int(size * math.sqrt(MAX_ASPECT)) + 1, step):
        height = int(size * size / width) // step * step
        if height and 1 / MAX_ASPECT <= width / height <= MAX_ASPECT:
            found.append((width, height))
    return found or [(size, size)]


def nearest_bucket(width: float, height: float, allowed: Sequence[Size]) -> Size:
    """The allowed size whose aspect ratio is nearest, so that the least is cut off."""
    aspect = math.log(width / height)
    return min(allowed, key=lambda size: abs(math.log(size[0] / size[1]) - aspect))


def _caption(sample: Sample) -> str:
    return sample.turns[-1].answer


def _picture(sample: Sample) -> Picture:
    if len(sample.images) != 1:
        raise UserError(f"Sample '{sample.id}' has {len(sample.images)} images: a painter learns from one.")
    return sample.images[0]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
