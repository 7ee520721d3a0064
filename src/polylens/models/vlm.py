"""The model: image encoder -> resampler -> projector -> any language model of transformers.

Shapes: N pictures, P patches, V encoder width, Q visual tokens per picture, D resampler width, L language
model width, B samples, T tokens, A answer tokens.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polylens.data.answer import Answer
from polylens.data.collate import IGNORED, Batch, Collator
from polylens.data.images import ImageProcessor
from polylens.data.sample import Picture, Sample
from polylens.errors import UserError
from polylens.feature_cache import hash_weights
from polylens.models.asking import Asking
from polylens.models.config import ModelConfig
from polylens.models.decoding.chat import Chat, VisionLanguageSpeaker
from polylens.models.decoding.choosing import choose_texts
from polylens.models.decoding.generation import as_answer, end_ids, generate_answers
from polylens.models.decoding.scoring import Prompts, head_only_at, read_prompts, score_texts
from polylens.models.decoding.search import Search
from polylens.models.parts.lora import apply_lora
from polylens.models.parts.resamplers import Resampler
from polylens.models.parts.vision import VisionTower
from polylens.models.visual import Visual, check_candidates, check_given, encode_distinct, tokens_of


class VisionLanguageModel(Asking, nn.Module):
    """Pictures and text to text, over a decoder or an encoder-decoder: the language model's config says which."""

    kind = "vision-language"
    adapted = "language_model"

    def __init__(
        self,
        vision: VisionTower,
        resampler: Resampler,
        projector: nn.Module,
        language_model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        processor: ImageProcessor,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.resampler = resampler
        self.projector = projector
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.processor = processor
        self.config = config
        self.fingerprints: dict[str, dict[torch.dtype, tuple[int, int]]] = {}

    @property
    def lm(self) -> PreTrainedModel:
        """The language model, with its adapters if it carries any."""
        return self.language_model

    @property
    def is_encoder_decoder(self) -> bool:
        return bool(self.lm.config.is_encoder_decoder)

    @property
    def device(self) -> torch.device:
        return self.lm.get_input_embeddings().weight.device

    @property
    def num_image_tokens(self) -> int:
        """Q, the places that one picture takes among the text tokens."""
        return self.resampler.num_tokens

    def collator(self, max_length: int | None = None, with_pictures: bool = True) -> Collator:
        """The collator of this model's layout; without pictures it leaves loading them to the caller."""
        return Collator(
            tokenizer=self.tokenizer,
            num_image_tokens=self.num_image_tokens,
            layout=self.config.layout,
            is_encoder_decoder=self.is_encoder_decoder,
            max_length=max_length,
            processor=self.processor if with_pictures else None,
        )

    def adapt(self, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
        """LoRA on the language model's linear layers; see `models/parts/lora.py`."""
        apply_lora(self, pattern, rank=rank, alpha=alpha, dropout=dropout)

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised pixels to (N, P, V) patch states."""
        return self.vision(pixel_values)

    def visual_tokens(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, P, V) patch states to (N, Q, L) visual tokens."""
        return self.project(self.resampler(patches))

    def project(self, queries: torch.Tensor) -> torch.Tensor:
        """(N, Q, D) queries out of the resampler to (N, Q, L) visual tokens."""
        weight = next(self.projector.parameters(), None)
        return self.projector(queries if weight is None else queries.to(weight.dtype))

    def vision_identity(self) -> dict[str, Any]:
        """What determines the visual tokens beside the picture, as JSON: settings, and a hash of the weights."""
        modules: list[nn.Module] = [self.vision, self.resampler, self.projector]
        if self.config.projector.kind != "linear":  # others may read the language model's embeddings
            modules.append(self.lm.get_input_embeddings())
        return {
            "kind": "visual tokens",
            "weights": hash_weights(modules),
            "vision": self.config.vision.model_dump(include={"layer", "class_token"}),
            "processor": repr(self.processor),
        }

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Picture], batch_size: int = 32) -> dict[str, torch.Tensor]:
        """Visual tokens (Q, L) of every distinct picture, by its key. Each is loaded and encoded once."""

        def encode(chunk: Sequence[Picture]) -> torch.Tensor:
            pixels = self.processor([picture.load() for picture in chunk])
            return self.visual_tokens(self.encode(pixels.to(self.device)))

        with evaluating(self):
            return encode_distinct(pictures, batch_size, encode)

    def queries(self, batch: Batch) -> torch.Tensor:
        """(N, Q, D) queries of the batch's pictures; it must have some, at a level below "tokens"."""
        assert batch.visual is not None
        if batch.level == "queries":
            return batch.visual
        return self.resampler(self.encode(batch.visual) if batch.level == "pixels" else batch.visual)

    def embed(self, batch: Batch) -> torch.Tensor:
        """(B, T, L) text embeddings with the visual tokens in the places of `batch.image_mask`."""
        embeds = self.lm.get_input_embeddings()(batch.input_ids)
        if batch.visual is None:
            return embeds
        tokens = batch.visual if batch.level == "tokens" else self.project(self.queries(batch))
        return embeds.masked_scatter(batch.image_mask[..., None], tokens.to(embeds.dtype))

    def forward(self, batch: Batch) -> torch.Tensor:
        """(num_targets, vocabulary) logits, only for the targets of `batch.labels`, row by row."""
        assert batch.labels is not None, "a batch to answer has no targets"
        rows = batch.labels != IGNORED
        inputs = {"inputs_embeds": self.embed(batch), "attention_mask": batch.attention_mask}
        if self.is_encoder_decoder:
            inputs["decoder_input_ids"] = self._shift_right(batch.labels)
        else:
            rows = F.pad(rows[:, 1:], (0, 1))  # a target is predicted by the state before it
            inputs |= self.positions(batch.attention_mask)
        with self.logits_at(rows):
            return self.lm(**inputs, use_cache=False).logits

    def loss(self, batch: Batch, num_targets: int | None = None) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, divided by `num_targets` (the batch's own if not given)."""
        logits = self(batch)
        assert batch.labels is not None
        targets = batch.labels[batch.labels != IGNORED]
        return F.cross_entropy(logits.float(), targets, reduction="sum") / (num_targets or batch.num_targets)

    def _shift_right(self, labels: torch.Tensor) -> torch.Tensor:
        """(B, A) what an encoder-decoder reads before each target."""
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.decoder_start)
        return shifted.masked_fill(shifted == IGNORED, self.decoder_start)

    @property
    def decoder_start(self) -> int:
        """The token that an encoder-decoder's answers begin after."""
        for config in (self.lm.generation_config, self.lm.config):
            if (start := getattr(config, "decoder_start_token_id", None)) is not None:
                return start
        return self.lm.config.pad_token_id or 0

    def positions(self, attention_mask: torch.Tensor, last: int | None = None) -> dict[str, torch.Tensor]:
        """Position ids of the (last) tokens, not counting padding; none if the language model takes none."""
        if not _takes_positions(type(self.lm)):  # type: ignore[arg-type]  # classes are hashable
            return {}
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        return {"position_ids": positions if last is None else positions[:, -last:]}

    def logits_at(self, rows: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, the language model computes logits only for the states (B, T, L) at `rows` (B, T) bool."""
        return head_only_at(self.lm.get_output_embeddings(), rows)

    def visual_batch(self, samples: Sequence[Sample], visual: Visual) -> Batch:
        """A batch to answer, with the visual tokens of its pictures, by picture key."""
        batch = self.collator(with_pictures=False)(samples, answers=False)
        batch.visual, batch.level = tokens_of(samples, visual), "tokens"
        return batch.to(self.device)

    def _batches(self, samples: Sequence[Sample], visual: Visual | None, batch_size: int) -> Iterator[Batch]:
        """Batches to answer, in the samples' order; visual tokens are computed unless they are given."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
        pictures = [picture for sample in samples for picture in sample.images]
        if visual is None:
            visual = self.encode_pictures(pictures, batch_size)
        else:
            shape = (self.num_image_tokens, self.lm.get_input_embeddings().weight.shape[1])
            visual = check_given(pictures, visual, shape)
        for start in range(0, len(samples), batch_size):
            yield self.visual_batch(samples[start : start + batch_size], visual)

    def _questions(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        visual: Visual | None,
        batch_size: int,
    ) -> Iterator[tuple[Prompts, Sequence[Sequence[str]]]]:
        """Batches of prompts, read, with their candidates. Raises `UserError` where the numbers differ."""
        check_candidates(samples, candidates)
        for number, batch in enumerate(self._batches(samples, visual, batch_size)):
            yield read_prompts(self, batch), candidates[number * batch_size :][:batch_size]

    @torch.no_grad()
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
        num_beams: int = 1,
        max_new_tokens: int = 32,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
        **settings: Any,
    ) -> list[Answer]:
        """The answers to the samples' last turns, in their order, without surrounding white space.

        An answer's `finish_reason` says whether it ended, or was cut at `max_new_tokens`.

        `visual` stands in for the pictures: visual tokens (Q, L) by picture key, as `encode_pictures` gives them.
        A sample without pictures is answered from text alone. Further `settings` are those of transformers'
        `GenerationConfig`. Raises `UserError` for settings out of range.
        """
        settings.update(num_beams=num_beams, max_new_tokens=max_new_tokens, length_penalty=length_penalty)
        with evaluating(self):
            batches = self._batches(samples, visual, batch_size)
            ids = generate_answers(self, batches, repetition_penalty, settings)
        # One by one: of no answers `batch_decode` makes an empty one.
        return [as_answer(self, answer) for answer in ids]

    def chat(
        self,
        language: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        num_beams: int = 1,
        max_new_tokens: int = 256,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
    ) -> Chat:
        """A conversation, with answers in `language` (None: the model decides), or going on from `messages`."""
        ends = frozenset(end_ids(self))
        search = Search(num_beams, max_new_tokens, length_penalty, repetition_penalty, ends)
        return Chat(self, VisionLanguageSpeaker(self, search), language, messages)

    @torch.no_grad()
    def score(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
    ) -> list[list[float]]:
        """log P(candidate | pictures, prompt) of every sample's candidates, summed over tokens, the end included.

        Each prompt is read once for all its candidates. `visual` as in `generate`; `batch_size` changes no score.
        """
        with evaluating(self):
            questions = self._questions(samples, candidates, visual, batch_size)
            return [row for prompts, texts in questions for row in score_texts(self, prompts, texts)]

    @torch.no_grad()
    def choose(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
    ) -> list[int]:
        """The index of every sample's likeliest candidate: the argmax of `score` (the first of equals), much faster.

        Raises `UserError` for a sample without candidates.
        """
        empty = next((place for place, texts in enumerate(candidates) if not texts), None)
        if empty is not None:
            raise UserError(f"Sample {empty} has no candidates to choose from: give at least one.")
        with evaluating(self):
            questions = self._questions(samples, candidates, visual, batch_size)
            return [pick for prompts, texts in questions for pick in choose_texts(self, prompts, texts)]


@cache
def _takes_positions(language_model: type[PreTrainedModel]) -> bool:
    return "position_ids" in inspect.signature(language_model.forward).parameters


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every submodule is in the mode it was in."""
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True
