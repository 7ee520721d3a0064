"""The composition: image encoder -> resampler -> projector -> any language model of transformers.

Shapes: N pictures, P patches, V encoder width, Q visual tokens per picture, D resampler width, L language
model width, B samples, T tokens.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polylens.data.collate import IGNORED, Batch, Collator, Side
from polylens.data.images import ImageProcessor
from polylens.data.sample import Picture, Sample
from polylens.errors import UserError
from polylens.models.config import ModelConfig
from polylens.models.decoding.choosing import choose_candidates, choose_texts
from polylens.models.decoding.generation import generate_answers
from polylens.models.decoding.scoring import Prompts, head_only_at, read_prompts, score_candidates
from polylens.models.parts.lora import apply_lora
from polylens.models.parts.resamplers import Resampler
from polylens.models.parts.vision import VisionTower
from polylens.models.parts.words import VisualWords, memory_ids, repeated
from polylens.models.readings import in_every_way
from polylens.models.visual import Visual, check_candidates, check_given, encode_distinct, tokens_of

if TYPE_CHECKING:
    from polylens.models.decoding.chat import Chat


class VisionLanguageModel(nn.Module):
    """Pictures and text to text, over a decoder or an encoder-decoder; the language model's config says
    which.
    """

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
        self._mixtures = VisualWords()
        if isinstance(config.memory, list) and tokenizer is not None:
            self.remember(config.memory)
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

    def remember(self, captions: Sequence[str]) -> None:
        """Let the visual words agree on these captions, and keep them in the config.

        Raises `UserError` for captions that cannot be remembered (models/parts/words.py).
        """
        distinct = list(dict.fromkeys(captions))
        ids = memory_ids(distinct, self.collator(with_pictures=False))
        self._mixtures.remember(torch.tensor(ids, device=self.device))
        self.config.memory = distinct

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised pixels to (N, P, V) patch states."""
        return self.vision(pixel_values)

    def visual_tokens(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, P, V) patch states to (N, Q, L) visual tokens."""
        return self.project(self.resampler(patches))

    def project(self, queries: torch.Tensor) -> torch.Tensor:
        """(N, Q, D) out of the resampler to (N, Q, L)."""
        return self._worded(self._project_freely(queries))

    def _project_freely(self, queries: torch.Tensor) -> torch.Tensor:
        weight = next(self.projector.parameters(), None)
        return self.projector(queries if weight is None else queries.to(weight.dtype))

    def _worded(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, Q, L) out of the projector, as the language model reads them."""
        return self._mixtures.mixed(tokens, self._words()) if self.config.visual_words else tokens

    def _words(self) -> torch.Tensor:
        return self.lm.get_input_embeddings().weight

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Picture], batch_size: int = 32) -> dict[str, torch.Tensor]:
        """Visual tokens (Q, L) of every distinct picture, by its key; each is loaded and encoded once.

        With a memory they are as the projector gives them: how they are read is found with the samples.
        """

        def encode(chunk: Sequence[Picture]) -> torch.Tensor:
            pixels = self.processor([picture.load() for picture in chunk])
            tokens = self._project_freely(self.resampler(self.encode(pixels.to(self.device))))
            return tokens if self._mixtures.remembers else self._worded(tokens)

        with evaluating(self):
            return encode_distinct(pictures, batch_size, encode)

    def embed(self, batch: Batch) -> torch.Tensor:
        """(B, T, L) text embeddings with the visual tokens in the places of `batch.image_mask`."""
        embeds = self.lm.get_input_embeddings()(batch.input_ids)
        tokens = batch.visual if batch.visual_level == "tokens" else self._projected(batch)
        if tokens is None:
            return embeds
        if batch.visual_level != "tokens":
            tokens = self._worded(tokens)
        return embeds.masked_scatter(batch.image_mask[..., None], tokens.to(embeds.dtype))

    def _projected(self, batch: Batch) -> torch.Tensor | None:
        """The batch's visual tokens as the projector gives them; None where it has no picture."""
        states, level = batch.visual, batch.visual_level
        if batch.pixel_values is not None:
            states, level = self.encode(batch.pixel_values), "patches"
        if states is None or level == "projected":
            return states
        return self._project_freely(self.resampler(states) if level == "patches" else states)

    def readings(self, batch: Batch) -> Batch:
        """The batch to be answered, in every way that it is read: with a memory each sample has rows that show the
        likeliest captions in the place of its pictures (models/readings.py).
        """
        if not self._mixtures.remembers or batch.visual_level == "tokens":
            return batch
        tokens, words = self._projected(batch), self._words()
        if tokens is None:
            return batch
        every, captions = in_every_way(batch, *self._mixtures.likeliest(tokens, words))
        return replace(every, visual=self._mixtures.said(captions, words), visual_level="tokens")

    def forward(self, batch: Batch) -> torch.Tensor:
        """(num_targets, vocabulary) logits, only for the targets of `batch.labels`, row by row."""
        labels = _labels(batch)
        rows = self._target_rows(labels)
        inputs = {"inputs_embeds": self.embed(batch), "attention_mask": batch.attention_mask}
        if self.is_encoder_decoder:
            inputs["decoder_input_ids"] = self._shift_right(labels)
        else:
            inputs |= self.positions(batch.attention_mask)
        with self.logits_at(rows):
            return self.lm(**inputs, use_cache=False).logits

    def loss(self, batch: Batch, num_targets: int | None = None) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, divided by `num_targets`: the batch's own, unless
        the trainer gives the count over all micro-batches.
        """
        logits = self(batch)
        labels = _labels(batch) if self.is_encoder_decoder else _labels(batch)[:, 1:]
        targets = labels[labels != IGNORED]
        return F.cross_entropy(logits.float(), targets, reduction="sum") / (num_targets or batch.num_targets)

    def embedding_loss(self, batch: Batch, num_targets: int | None = None) -> torch.Tensor:
        """How far the visual tokens are from the language model's embeddings of the answer.

        The answer's tokens, without the end, are repeated until they are as many as the visual tokens. Of
        visual words it is the cross-entropy of those tokens, else the squared error in units of the
        embeddings' variance; averaged over tokens and weighted by the number of targets, so that it adds up
        over micro-batches as `loss` does. Every sample must have one picture.
        """
        tokens, labels = self._projected(batch), batch.labels
        if tokens is None or labels is None or len(tokens) != len(batch.sample_ids):
            raise UserError(
                "The objective 'embeddings' needs samples of one picture and one answer each: "
                "choose such tasks for this stage, or the objective 'answers'."
            )
        wanted = (labels != IGNORED) & (labels != self.tokenizer.eos_token_id)
        answers = [row[keep].tolist() for row, keep in zip(labels, wanted, strict=True)]
        ids = torch.tensor([repeated(answer, tokens.shape[1]) for answer in answers], device=tokens.device)
        if self.config.visual_words:
            self._mixtures.check_known(ids, batch.sample_ids)
            errors = self._mixtures.cross_entropy(tokens, self._words(), ids).mean(1)
        else:
            with torch.no_grad():
                goal, scale = self._words()[ids], self._words().float().var()
            errors = (tokens.float() - goal.float()).pow(2).mean((1, 2)) / scale
        weights = (labels != IGNORED).sum(1)
        return (errors * weights).sum() / (num_targets or batch.num_targets)

    def _target_rows(self, labels: torch.Tensor) -> torch.Tensor:
        """(B, T) or (B, A), True where the state predicts a target."""
        wanted = labels != IGNORED
        return wanted if self.is_encoder_decoder else F.pad(wanted[:, 1:], (0, 1))

    def _shift_right(self, labels: torch.Tensor) -> torch.Tensor:
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.decoder_start)
        return shifted.masked_fill(shifted == IGNORED, self.decoder_start)

    @property
    def decoder_start(self) -> int:
        """The token that an encoder-decoder's answers begin after."""
        ids = (
            getattr(self.lm.generation_config, "decoder_start_token_id", None),
            getattr(self.lm.config, "decoder_start_token_id", None),
            self.lm.config.pad_token_id,
            0,
        )
        return next(i for i in ids if i is not None)

    def positions(self, attention_mask: torch.Tensor, last: int | None = None) -> dict[str, torch.Tensor]:
        """Position ids of the (last) tokens, counted over what is attended to, where the language model
        takes them.
        """
        if not _takes_positions(type(self.lm)):  # type: ignore[arg-type]  # classes are hashable
            return {}
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        return {"position_ids": positions if last is None else positions[:, -last:]}

    def logits_at(self, rows: torch.Tensor) -> contextlib.AbstractContextManager[None]:
        """Inside, the language model computes logits only for the states (B, T, L) at `rows` (B, T) bool."""
        return head_only_at(self.lm.get_output_embeddings(), rows)

    def visual_batch(
        self, samples: Sequence[Sample], visual: Visual, first: int = 0, padding_side: Side | None = None
    ) -> Batch:
        """A batch to answer, with visual tokens by picture key, or (N, Q, L) of which `first` is the first
        to use.
        """
        batch = self.collator(with_pictures=False)(samples, answers=False, padding_side=padding_side)
        batch.visual = tokens_of(samples, visual, first)
        batch.visual_level = "projected" if self._mixtures.remembers else "tokens"
        return batch.to(self.device)

    def check_visual(self, samples: Sequence[Sample], visual: Visual | None, batch_size: int) -> Visual:
        """The visual tokens of the samples' pictures: those given, checked, or computed once for each
        picture.

        Raises `UserError` when given tokens do not fit.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
        pictures = [picture for sample in samples for picture in sample.images]
        if visual is None:
            return self.encode_pictures(pictures, batch_size)
        shape = (self.num_image_tokens, self.lm.get_input_embeddings().weight.shape[1])
        return check_given(pictures, visual, shape)

    @torch.no_grad()
    def read(self, samples: Sequence[Sample], *, visual: Visual | None = None) -> Prompts:
        """The samples, read at once and up to their answers: what `generate` and `choose` take as well, so that both
        need them read only once. `visual` as in `generate`.
        """
        given = self.check_visual(samples, visual, 32)
        with evaluating(self):
            return read_prompts(self, self.visual_batch(samples, given))

    @torch.no_grad()
    def generate(
        self,
        samples: Sequence[Sample] | Batch | Prompts,
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
        num_beams: int = 1,
        max_new_tokens: int = 32,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
        **settings: Any,
    ) -> list[str]:
        """The answers to the samples' last turns, in their order, without surrounding white space.

        `visual` stands in for the pictures: visual tokens by picture key (see `encode_pictures`), or one
        (N, Q, L) for the pictures of all samples in their order. A sample without pictures is answered from
        text alone. Further `settings` are those of transformers' `GenerationConfig`; they need samples, not what
        `read` gave, and with them, and a memory, the mixture of all captions is read. Raises `UserError` for settings
        out of range.
        """
        settings |= {
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "length_penalty": length_penalty,
        }
        with evaluating(self):
            ids = generate_answers(self, samples, visual, batch_size, repetition_penalty, settings)
        # One by one: of no answers `batch_decode` makes an empty one.
        return [self.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in ids]

    def chat(
        self,
        language: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        num_beams: int = 1,
        max_new_tokens: int = 256,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
    ) -> "Chat":
        """A conversation, with answers in `language` (None: as the model likes), or going on from `messages`."""
        from polylens.models.decoding.chat import vision_language_chat

        return vision_language_chat(
            self, language, messages, num_beams, max_new_tokens, length_penalty, repetition_penalty
        )

    @torch.no_grad()
    def score(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
        padding_side: Side | None = None,
    ) -> list[list[float]]:
        """log P(candidate | pictures, prompt) for every sample's candidate answers, summed over tokens, end
        included.

        The picture is encoded once, the prompt is read once for each sample, and all its candidates go on
        from there. `visual` as in `generate`. The result does not depend on `batch_size` or the padding.
        """
        check_candidates(samples, candidates)
        given = self.check_visual(samples, visual, batch_size)
        with evaluating(self):
            return score_candidates(self, samples, candidates, given, batch_size, padding_side)

    @torch.no_grad()
    def choose(
        self,
        samples: Sequence[Sample] | Prompts,
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
    ) -> list[int]:
        """The index of every sample's likeliest candidate: the argmax of `score` (the first of equals),
        much faster. Readings that are next to nothing may be left out of it. Raises `UserError` for a sample without
        candidates.
        """
        check_candidates(samples, candidates)
        if isinstance(samples, Prompts):
            with evaluating(self):
                return choose_texts(self, samples, candidates)
        given = self.check_visual(samples, visual, batch_size)
        with evaluating(self):
            return choose_candidates(self, samples, candidates, given, batch_size)


@cache
def _takes_positions(language_model: type[PreTrainedModel]) -> bool:
    return "position_ids" in inspect.signature(language_model.forward).parameters


def _labels(batch: Batch) -> torch.Tensor:
    assert batch.labels is not None, "a batch to answer has no targets"
    return batch.labels


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
