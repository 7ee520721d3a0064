"""VisCPM-Chat, or CPM-Bee alone, as a model that answers samples: weights, vocabulary and picture settings.

    Sample(images=(a, b), turns=(Turn("What?", "A cat."), Turn("Where?", "")))

    {"image": "<unk>" x 2Q, "context": "User: What?\\nAI: A cat.\\n", "question": "Where?", "<ans>": ""}

Shapes: N pictures, Q queries, D width.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from polylens.data.answer import Answer, FinishReason
from polylens.data.images import ImageProcessor
from polylens.data.layout import Layout
from polylens.data.sample import Picture, Sample
from polylens.errors import UserError
from polylens.feature_cache import hash_weights
from polylens.models.asking import Asking
from polylens.models.checkpoints.families import Stream
from polylens.models.config import LanguageModelConfig, ModelConfig, Quantization
from polylens.models.decoding.chat import Chat
from polylens.models.parts.lora import apply_lora
from polylens.models.visual import Visual, check_candidates, check_given, encode_distinct, tokens_of
from polylens.viscpm.cpm_bee.generation import BeamSettings, own_words, search
from polylens.viscpm.cpm_bee.layout import (
    ANSWER,
    IGNORED,
    IMAGE,
    CpmBeeBatch,
    Encoded,
    collate_data,
    encode_data,
)
from polylens.viscpm.cpm_bee.modeling import CpmBee
from polylens.viscpm.cpm_bee.tokenizer import LANGUAGES, CpmBeeTokenizer, escape, unescape
from polylens.viscpm.files import (
    find_vocabulary,
    is_cpm_bee,
    read_cpm_bee,
    read_released_viscpm,
    read_viscpm,
    released_file,
    viscpm_processor,
)
from polylens.viscpm.modeling import VisCpm, VisCpmConfig

CAPTION_PROMPT = "Describe the image in {language}."
CAPTION = "caption"
MAX_PROMPT = 4096  # the position bias of a prompt of T tokens takes T x T numbers for every head


@dataclass
class VisCpmBatch:
    """Dictionaries to train on or to score, and the pictures in them."""

    text: CpmBeeBatch
    sample_ids: list[str]
    num_targets: int
    pixel_values: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> "VisCpmBatch":
        """The same batch with its tensors on `device`."""
        pixels = None if self.pixel_values is None else self.pixel_values.to(device)
        return VisCpmBatch(self.text.to(device), self.sample_ids, self.num_targets, pixels)


class VisCpmChat(Asking, nn.Module):
    """Answers samples as `VisionLanguageModel` does; `model` is a `VisCpm`, or a `CpmBee` that reads text alone.

    `base` is the file, folder or hub id that its weights came from.
    """

    kind = "viscpm"
    adapted = "model"

    def __init__(
        self, model: VisCpm | CpmBee, tokenizer: CpmBeeTokenizer, processor: ImageProcessor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.processor = processor
        self.base: str | None = None
        self.config = ModelConfig(
            language_model=LanguageModelConfig(languages=LANGUAGES),
            layout=Layout(caption_prompt=CAPTION_PROMPT),
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: torch.dtype = torch.float32,
        quantization: Quantization | None = None,
        stream: Stream | None = None,
    ) -> "VisCpmChat":
        """From a converted folder of either kind; see `read_viscpm`."""
        folder = Path(folder)
        tokenizer = CpmBeeTokenizer.from_pretrained(folder)
        if is_cpm_bee(folder):
            return cls(read_cpm_bee(folder, dtype, quantization, stream), tokenizer)
        model = read_viscpm(folder, dtype, quantization, stream)
        return cls(model, tokenizer, ImageProcessor.from_folder(folder))

    @classmethod
    def from_released(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> "VisCpmChat":
        """From a released file, or a folder with it; see `find_vocabulary`."""
        path = Path(path)
        file = released_file(path) if path.is_dir() else path
        model = read_released_viscpm(file, dtype=dtype)
        return cls(
            model,
            CpmBeeTokenizer.from_pretrained(find_vocabulary(file.parent)),
            viscpm_processor(model.config.vision.image_size),
        )

    @classmethod
    def skeleton(cls, folder: Path) -> "VisCpmChat":
        """The model of a converted folder on the meta device, without a tokenizer; without sizes, the released 10B."""
        sizes = folder / "config.json"
        config = VisCpmConfig()
        if sizes.is_file():
            config = VisCpmConfig.from_dict(json.loads(sizes.read_text(encoding="utf-8")))
        tokenizer: Any = None
        with torch.device("meta"):
            return cls(VisCpm(config), tokenizer, viscpm_processor(config.vision.image_size))

    def adapt(self, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
        """LoRA on the linear layers of CPM-Bee and BEiT-3; see `models/parts/lora.py`."""
        apply_lora(self, pattern, rank=rank, alpha=alpha, dropout=dropout)

    @property
    def lm(self) -> CpmBee:
        """CPM-Bee."""
        return self.model.llm if isinstance(self.model, VisCpm) else self.model

    @property
    def device(self) -> torch.device:
        return self.lm.input_embedding.weight.device

    @property
    def num_image_tokens(self) -> int:
        """Q, the places that one picture takes among the text tokens."""
        return self.model.config.num_queries if isinstance(self.model, VisCpm) else 0

    def num_tokens(self, text: str) -> int:
        return super().num_tokens(escape(text))

    def data(self, sample: Sample, answer: str = "") -> dict[str, str]:
        """The dictionary that asks the last turn of a sample; every text stands for itself, `<` too."""
        *earlier, turn = sample.turns
        data = {IMAGE: "<unk>" * (self.num_image_tokens * len(sample.images))} if sample.images else {}
        if sample.task == CAPTION and not earlier:
            return data | {"input": escape(turn.prompt), ANSWER: escape(answer)}
        said = "".join(f"User: {t.prompt}\nAI: {t.answer}\n" for t in earlier)
        return data | {"context": escape(said), "question": escape(turn.prompt), ANSWER: escape(answer)}

    def encode_sample(self, sample: Sample, answer: str = "") -> Encoded:
        """The arrays of `data`. Raises `UserError` for pictures that it cannot see, and for a prompt without end."""
        if sample.images and not isinstance(self.model, VisCpm):
            raise UserError(f"CPM-Bee alone reads text, but sample '{sample.id}' has an image: leave it out.")
        if not sample.turns:
            raise UserError(f"Sample '{sample.id}' of {sample.source} has no turn: give a prompt.")
        encoded = encode_data(self.tokenizer, self.data(sample, answer))
        if len(encoded.ids) > MAX_PROMPT:
            raise UserError(
                f"Sample '{sample.id}' has {len(encoded.ids)} tokens, but {MAX_PROMPT} are the limit: shorten it."
            )
        return encoded

    def vision_identity(self) -> dict[str, Any]:
        """What determines the visual tokens beside the picture, as JSON: settings, and a hash of the weights.

        Raises `UserError` for CPM-Bee alone, which sees no pictures.
        """
        if not isinstance(self.model, VisCpm):
            raise UserError("CPM-Bee alone reads text and has no visual tokens to keep: leave --cache out.")
        return {
            "kind": "visual tokens",
            "weights": hash_weights([self.model.vpm, self.model.mapping]),
            "query": hash_weights([nn.ParameterList([self.model.query])]),
            "vision": self.model.config.vision.to_dict(),
            "processor": repr(self.processor),
        }

    @torch.no_grad()
    def encode_pictures(self, pictures: Sequence[Picture], batch_size: int = 32) -> dict[str, torch.Tensor]:
        """Visual tokens (Q, D) of every distinct picture, by its key; each is loaded and encoded once."""
        return encode_distinct(
            pictures, batch_size, lambda chunk: self.model(self._pixels(chunk).to(self.device))
        )

    def _pixels(self, pictures: Sequence[Picture]) -> torch.Tensor:
        if self.processor is None:
            raise UserError("CPM-Bee alone reads text: leave the images out.")
        return self.processor([picture.load() for picture in pictures])

    def _check_visual(self, samples: Sequence[Sample], visual: Visual | None) -> Visual:
        """The visual tokens of the samples' pictures: those given, checked, or computed once for each picture."""
        pictures = [picture for sample in samples for picture in sample.images]
        if visual is None:
            return self.encode_pictures(pictures)
        return check_given(pictures, visual, (self.num_image_tokens, self.lm.config.hidden_size))

    def _tokens_of(self, samples: Sequence[Sample], visual: Visual) -> torch.Tensor | None:
        tokens = tokens_of(samples, visual)
        return None if tokens is None else tokens.to(self.device)

    def stream(self, sample: Sample, settings: BeamSettings, visual: Visual | None = None) -> Iterator[str]:
        """The answer as it grows: what all beams agree on after every step, and at last the whole."""
        row = self.encode_sample(sample)
        given = self._check_visual([sample], visual)
        found = search(self.lm, self.tokenizer, [row], settings, self._tokens_of([sample], given))
        for answers in found:
            yield Answer(self._text(row, answers[0]), _finish_reason(answers[0], settings))

    def _text(self, row: Encoded, ids: Sequence[int]) -> str:
        return unescape(self.tokenizer.decode(ids, own_words(row, self.tokenizer)))

    def chat(
        self,
        language: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        **settings: Any,
    ) -> Chat:
        """A conversation, with answers in `language` (None: that of the question), or going on from `messages`.

        `settings` are those of `BeamSettings`.
        """
        return Chat(self, VisCpmSpeaker(self, BeamSettings(**settings)), language, messages)

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
        temperature: float = 1.0,
        sample: bool = False,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> list[Answer]:
        """The answers to the samples' last turns, in their order, without surrounding white space.

        An answer's `finish_reason` says whether it ended or was cut at `max_new_tokens`.

        `visual` stands in for the pictures, as in `VisionLanguageModel.generate`. Raises `UserError` for settings out
        of range.
        """
        settings = BeamSettings(
            num_beams,
            max_new_tokens,
            temperature,
            repetition_penalty,
            length_penalty,
            sample=sample,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        given = self._check_visual(samples, visual)
        texts = []
        for start in range(0, len(samples), batch_size):
            chunk = samples[start : start + batch_size]
            rows = [self.encode_sample(sample) for sample in chunk]
            tokens = self._tokens_of(chunk, given)
            *_, ids = search(self.lm, self.tokenizer, rows, settings, tokens)
            texts += [
                Answer(self._text(row, one).strip(), _finish_reason(one, settings))
                for row, one in zip(rows, ids, strict=True)
            ]
        return texts

    def fill(self, data: Sequence[Mapping[str, Any]], settings: BeamSettings | None = None) -> list[str]:
        """What belongs into the empty `<ans>` of every dictionary, texts in CPM-Bee's own notation, one batch."""
        rows = [encode_data(self.tokenizer, one) for one in data]
        *_, ids = search(self.lm, self.tokenizer, rows, settings or BeamSettings())
        return [
            self.tokenizer.decode(one, own_words(row, self.tokenizer))
            for row, one in zip(rows, ids, strict=True)
        ]

    def collate(
        self,
        samples: Sequence[Sample],
        pixel_values: torch.Tensor | None = None,
        max_length: int | None = None,
    ) -> VisCpmBatch:
        """A batch that trains the answers of the samples' last turns; pictures are loaded unless given.

        A row of more than `max_length` text tokens loses its earliest turns, then the end of its answer. Raises
        `UserError` for a sample without an answer, or none of it within the limit.
        """
        empty = next(
            (sample.id for sample in samples if not sample.turns or not sample.turns[-1].answer), None
        )
        if empty is not None:
            raise UserError(f"Sample '{empty}' has no answer to its last turn to be trained on: give one.")
        rows = [self._encode_within(sample, max_length) for sample in samples]
        text = collate_data(rows, self.tokenizer)
        pictures = [picture for sample in samples for picture in sample.images]
        if pictures and pixel_values is None:
            pixel_values = self._pixels(pictures)
        num_targets = int((text.labels != IGNORED).sum())
        return VisCpmBatch(text, [sample.id for sample in samples], num_targets, pixel_values)

    def _encode_within(self, sample: Sample, max_length: int | None) -> Encoded:
        limit = math.inf if max_length is None else max_length + self.num_image_tokens * len(sample.images)
        row = self.encode_sample(sample, sample.turns[-1].answer)
        while len(row.ids) > limit and len(sample.turns) > 1:
            sample = replace(sample, turns=sample.turns[1:])
            row = self.encode_sample(sample, sample.turns[-1].answer)
        if len(row.ids) <= limit:
            return row
        row = row.first(int(limit))
        if row.context.count(0) < 2:  # the token that an answer begins with, and one to learn
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} has no target token within max_length={max_length}: shorten "
                "its prompt, or raise the limit."
            )
        return row

    def loss(self, batch: VisCpmBatch, num_targets: int | None = None) -> torch.Tensor:
        """Cross-entropy summed over the batch's targets, divided by `num_targets` (the batch's own)."""
        visual = None if batch.pixel_values is None else self.model(batch.pixel_values)
        return self.lm.loss(batch.text, visual, num_targets)

    @torch.no_grad()
    def score(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
    ) -> list[list[float]]:
        """log P(candidate | pictures, prompt) for every sample's candidate answers, summed over tokens, end
        included. Pictures are encoded once; `visual` as in `generate`.
        """
        check_candidates(samples, candidates)
        given = self._check_visual(samples, visual)
        pairs = [(s, text) for s, texts in enumerate(candidates) for text in texts]
        scores: list[list[float]] = [[] for _ in samples]
        for start in range(0, len(pairs), batch_size):
            chunk = pairs[start : start + batch_size]
            rows = [self.encode_sample(samples[s], text) for s, text in chunk]
            values = self._log_probabilities(rows, self._tokens_of([samples[s] for s, _ in chunk], given))
            for (s, _), value in zip(chunk, values, strict=True):
                scores[s].append(value)
        return scores

    def _log_probabilities(self, rows: Sequence[Encoded], visual: torch.Tensor | None) -> list[float]:
        batch = collate_data(rows, self.tokenizer).to(self.device)
        wanted = batch.labels != IGNORED
        logits = self.lm.logits(self.lm(batch, visual)[wanted], batch.extension).float()
        # A row knows its own words only: those of others in the batch must not count.
        owner = wanted.nonzero()[:, 0].tolist()
        known = [set(zip(row.ids, row.subs, strict=True)) for row in rows]
        for column, pair in enumerate(batch.extension.tolist(), start=len(self.tokenizer)):
            strange = [number for number, row in enumerate(owner) if tuple(pair) not in known[row]]
            logits[strange, column] = -torch.inf
        losses = torch.zeros(wanted.shape, device=logits.device)
        losses[wanted] = F.cross_entropy(logits, batch.labels[wanted], reduction="none")
        return (-losses.sum(1)).tolist()

    def choose(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Visual | None = None,
        batch_size: int = 16,
    ) -> list[int]:
        """The index of every sample's likeliest candidate: the argmax of `score` (the first of equals)."""
        scores = self.score(samples, candidates, visual=visual, batch_size=batch_size)
        return [max(range(len(row)), key=row.__getitem__) for row in scores]


def _finish_reason(ids: Sequence[int], settings: BeamSettings) -> FinishReason:
    """An answer that ended has its end, which is not among `ids`, within the limit."""
    return "length" if len(ids) >= settings.max_new_tokens else "stop"


class VisCpmSpeaker:
    """Answers of a `VisCpmChat` in a conversation; each reads its prompt anew, for all of it sees the question."""

    def __init__(self, model: VisCpmChat, settings: BeamSettings) -> None:
        self.model, self.settings = model, settings

    def fits(self, sample: Sample) -> bool:
        return len(encode_data(self.model.tokenizer, self.model.data(sample)).ids) <= MAX_PROMPT

    def answer(self, sample: Sample, visual: Mapping[str, torch.Tensor]) -> Iterator[str]:
        return self.model.stream(sample, self.settings, visual)
