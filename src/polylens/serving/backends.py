"""How the engine runs a family of models: many rows at once, or one answer after the other."""

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from polylens.data.collate import Row
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.models.decoding.generation import end_ids
from polylens.models.decoding.scoring import read_prompts
from polylens.models.visual import tokens_of
from polylens.models.vlm import VisionLanguageModel
from polylens.serving.choose import Drawing, choose
from polylens.serving.jobs import DEFAULT_LENGTH, Finish, Job, Settled, Update
from polylens.serving.rows import Rows

# Pictures that are encoded together: bounds the memory that many requests with many pictures take.
PICTURES_AT_ONCE = 32


class Backend(Protocol):
    """What the engine asks of a family. `prepare` and `tokens` may be called from any thread, the rest from one."""

    @property
    def limit(self) -> int | None:
        """The most tokens of a prompt and its answer; None where there is no limit, or none is known."""

    @property
    def running(self) -> Sequence[Job]:
        """The jobs that are being written."""

    def tokens(self, sample: Sample) -> list[int]:
        """The tokens of a prompt, the places of its pictures included. Raises `UserError` where they are not known."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Read pictures and count tokens. Raises `UserError` for what the model cannot read or follow."""

    def room(self) -> int:
        """How many jobs may join now."""

    def join(self, jobs: Sequence[Job]) -> None:
        """Begin with jobs that were prepared."""

    def step(self) -> None:
        """Go on by one token with all that runs; those that have ended leave."""

    def leave(self, jobs: Sequence[Job]) -> None:
        """Forget jobs that run."""


class VisualCache:
    """Visual tokens (Q, L) by picture key, the longest unused ones given up for new ones. Any thread may use it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self.hits, self.misses = 0, 0
        self._tokens: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> torch.Tensor | None:
        with self._lock:
            tokens = self._tokens.get(key)
            if tokens is not None:
                self._tokens.move_to_end(key)
            self.hits, self.misses = self.hits + (tokens is not None), self.misses + (tokens is None)
            return tokens

    def put(self, key: str, tokens: torch.Tensor) -> None:
        with self._lock:
            if key in self._tokens or tokens.nbytes > self.max_bytes:
                return
            # A copy: a view would keep the whole batch that the picture was encoded in.
            self._tokens[key] = tokens.clone()
            self.num_bytes += tokens.nbytes
            while self.num_bytes > self.max_bytes:
                self.num_bytes -= self._tokens.popitem(last=False)[1].nbytes


@dataclass
class _Writing:
    job: Job
    drawing: Drawing
    settled: Settled
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None


class BatchedBackend:
    """A `VisionLanguageModel`, decoder or encoder-decoder: up to `max_batch` rows are written at once."""

    def __init__(self, model: VisionLanguageModel, max_batch: int, cache_bytes: int, max_length: int) -> None:
        self.model = model.eval()
        self.max_batch = max_batch
        positions = None if model.is_encoder_decoder else _positions(model)
        self.limit: int | None = max_length if positions is None else min(max_length, positions)
        self.collator = model.collator(with_pictures=False)
        self.cache = VisualCache(cache_bytes)
        self.ends = frozenset(end_ids(model))
        self._tokenizing = threading.Lock()
        self._rows = Rows(model)
        self._writing: list[_Writing] = []

    @property
    def running(self) -> list[Job]:
        return [one.job for one in self._writing]

    def tokens(self, sample: Sample) -> list[int]:
        return self._row(sample).ids

    def prepare(self, jobs: Sequence[Job]) -> None:
        pixels: dict[str, torch.Tensor] = {}
        for job in jobs:
            job.row = self._row(job.sample)
            job.num_prompt_tokens = len(job.row.ids)
            job.max_new_tokens = _longest(job, self.limit)
            for key, picture in {picture.key: picture for picture in job.sample.images}.items():
                if key not in pixels and (known := self.cache.get(key)) is not None:
                    job.visual[key] = known
                    times = sum(other.key == key for other in job.sample.images)
                    job.num_cached_tokens += times * self.model.num_image_tokens
                    continue
                if key not in pixels:
                    pixels[key] = self.model.processor([picture.load()])[0]
                job.pixels[key] = pixels[key]

    def room(self) -> int:
        return self.max_batch - len(self._writing) if self._rows.can_join() else 0

    @torch.no_grad()
    def join(self, jobs: Sequence[Job]) -> None:
        rows = [job.row for job in jobs if job.row is not None]
        batch = self.collator.stack(rows, answers=False)
        batch.visual, batch.level = tokens_of([job.sample for job in jobs], self._encode(jobs)), "tokens"
        prompts = read_prompts(self.model, batch.to(self.model.device))
        self._rows.join(prompts)
        new = [_Writing(job, Drawing(job.settings), Settled(job.settings.stop)) for job in jobs]
        self._writing += new
        self._advance(prompts.logits, new)

    def step(self) -> None:
        self._advance(self._rows.read([one.ids[-1] for one in self._writing]), self._writing)

    def leave(self, jobs: Sequence[Job]) -> None:
        self._keep([row for row, one in enumerate(self._writing) if one.job not in jobs])

    def _row(self, sample: Sample) -> Row:
        # Some tokenizers cannot be used by two threads at once.
        with self._tokenizing:
            return self.collator.row(sample, answers=False)

    def _encode(self, jobs: Sequence[Job]) -> dict[str, torch.Tensor]:
        """Visual tokens of the jobs' pictures, each encoded once, however many ask about it."""
        visual = {key: tokens for job in jobs for key, tokens in job.visual.items()}
        pixels = {key: one for job in jobs for key, one in job.pixels.items() if key not in visual}
        for key in list(pixels):
            # Another job may have had it encoded since this one was prepared.
            if (known := self.cache.get(key)) is not None:
                visual[key] = known
                del pixels[key]
        keys = list(pixels)
        for start in range(0, len(keys), PICTURES_AT_ONCE):
            chunk = keys[start : start + PICTURES_AT_ONCE]
            stacked = torch.stack([pixels[key] for key in chunk]).to(self.model.device)
            for key, tokens in zip(chunk, self.model.visual_tokens(self.model.encode(stacked)), strict=True):
                visual[key] = tokens
                self.cache.put(key, tokens)
        return visual

    def _advance(self, logits: torch.Tensor, writing: Sequence[_Writing]) -> None:
        tokens = choose(logits, [one.drawing for one in writing])
        updates = []
        for one, token in zip(writing, tokens, strict=True):
            one.ids.append(token)
            ended = token in self.ends
            full = len(one.ids) >= one.job.max_new_tokens
            text = self.model.tokenizer.decode(one.ids, skip_special_tokens=True)
            piece = one.settled.grow(text, ended or full)
            if ended or one.settled.stopped:
                one.finish = "stop"
            elif full:
                one.finish = "length"
            updates.append((one.job, Update(piece, len(one.ids), one.finish)))
        self._keep([row for row, one in enumerate(self._writing) if one.finish is None])
        # The room of what has ended is free before anybody hears of it.
        for job, update in updates:
            job.deliver(update)

    def _keep(self, rows: Sequence[int]) -> None:
        if len(rows) < len(self._writing):
            self._rows.keep(rows)
            self._writing = [self._writing[row] for row in rows]


class OneByOneBackend:
    """A model of any other family: one answer after the other, as its own chat writes it. Greedy, or its own beams."""

    limit = None

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        self._job: Job | None = None
        self._answers: Iterator[str] = iter(())
        self._settled = Settled(())
        self._whole = ""

    @property
    def running(self) -> list[Job]:
        return [] if self._job is None else [self._job]

    def tokens(self, sample: Sample) -> list[int]:
        raise UserError("A model of this family does not tell its tokens: leave the question out.")

    def prepare(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.max_new_tokens = job.settings.max_new_tokens or DEFAULT_LENGTH
            if job.settings.temperature != 0:
                raise UserError(
                    f"temperature is {job.settings.temperature:g}, but a model of this family does not sample: "
                    "leave it out, or give 0."
                )
            for picture in job.sample.images:
                picture.load()

    def room(self) -> int:
        return 1 if self._job is None else 0

    def join(self, jobs: Sequence[Job]) -> None:
        [job] = jobs
        speaker = self.model.chat(max_new_tokens=job.max_new_tokens).speaker
        if not speaker.fits(job.sample):
            raise UserError("The conversation is longer than the model can read: leave out its first turns.")
        self._answers = speaker.answer(job.sample, self.model.encode_pictures(job.sample.images))
        self._job, self._settled, self._whole = job, Settled(job.settings.stop), ""

    def step(self) -> None:
        job = self._job
        assert job is not None
        whole = next(self._answers, None)
        self._whole = self._whole if whole is None else whole
        piece = self._settled.grow(self._whole, whole is None)
        done = whole is None or self._settled.stopped
        if done:
            self.leave([job])
        job.deliver(Update(piece, 0, "stop" if done else None))

    def leave(self, jobs: Sequence[Job]) -> None:
        if self._job in jobs:
            self._job = None
            if isinstance(self._answers, Generator):
                self._answers.close()


def backend_for(model: Any, *, max_batch: int, cache_bytes: int, max_length: int) -> Backend:
    """The fastest way to run a model; `max_length` bounds the tokens of a prompt and its answer."""
    if isinstance(model, VisionLanguageModel):
        return BatchedBackend(model, max_batch, cache_bytes, max_length)
    return OneByOneBackend(model)


def _positions(model: VisionLanguageModel) -> int | None:
    return getattr(model.lm.config, "max_position_embeddings", None)


def _longest(job: Job, limit: int | None) -> int:
    """The most tokens of the answer. Raises `UserError` where there is no room for them."""
    asked, prompt = job.settings.max_new_tokens, job.num_prompt_tokens or 0
    if limit is not None and prompt + (asked or 1) > limit:
        raise UserError(
            f"The prompt has {prompt} tokens and the answer may have {asked or 1}, but {limit} are the most in all: "
            "shorten the prompt, or lower max_tokens."
        )
    return asked or (DEFAULT_LENGTH if limit is None else min(DEFAULT_LENGTH, limit - prompt))
