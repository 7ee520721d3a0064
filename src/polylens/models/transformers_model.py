"""Any image-text-to-text model of transformers, with its own processor, behind the contract of all models.

Each model lays out pictures and prompts in its own way, so every prompt is read whole and no visual tokens are kept.
Shapes: B samples of a batch, T tokens of the longest prompt, A tokens of an answer.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Self

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor, TextIteratorStreamer

from polylens.data.answer import Answer
from polylens.data.layout import Layout
from polylens.data.plain_text import spaced_names
from polylens.data.sample import Picture, Sample, Turn
from polylens.errors import UserError
from polylens.models.asking import Asking
from polylens.models.config import LanguageModelConfig, ModelConfig, Quantization
from polylens.models.decoding.chat import Chat
from polylens.models.parts.precision import loading_settings
from polylens.pretrained import load_whole

logger = logging.getLogger(__name__)

CAPTION_PROMPT = "Write a short caption of this image in {language}."
# Sampling settings that a model brings along have no part in a search.
SEARCH = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
# What such processors give for every token of the prompt, and what a further token gets.
PER_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}


class TransformersModel(Asking):
    """The model of a folder, asked through its chat template if it has one, else pictures before the prompt."""

    kind = "transformers"
    num_image_tokens = 0

    def __init__(self, model: Any, processor: Any, name: str, languages: list[str] | None = None) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.is_encoder_decoder = bool(model.config.get_text_config().is_encoder_decoder)
        # Prompts end where answers begin; an encoder does not care.
        self.tokenizer.padding_side = "right" if self.is_encoder_decoder else "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.config = ModelConfig(
            language_model=LanguageModelConfig(languages=languages),
            layout=Layout(caption_prompt=CAPTION_PROMPT),
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        dtype: torch.dtype | str = torch.float32,
        quantization: Quantization | None = None,
        languages: list[str] | None = None,
    ) -> Self:
        """From a folder as transformers saves it. Raises `UserError` when transformers cannot load all of it."""
        settings = {"dtype": dtype} if isinstance(dtype, str) else loading_settings(dtype, quantization)
        try:
            processor = AutoProcessor.from_pretrained(folder)
            model = load_whole(AutoModelForImageTextToText, folder, **settings)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(
                f"'{folder}' cannot be loaded as an image-text-to-text model: {reason}"
            ) from error
        return cls(model.eval(), processor, Path(folder).name, languages)

    @property
    def lm(self) -> Any:
        """The whole model: its language model has no common name."""
        return self.model

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: torch.device | str) -> Self:
        self.model.to(device)
        return self

    def eval(self) -> Self:
        self.model.eval()
        return self

    @property
    def has_template(self) -> bool:
        """Whether prompts go through a chat template."""
        return getattr(self.processor, "chat_template", None) is not None

    def adapt(self, pattern: str, *, rank: int, alpha: float, dropout: float) -> None:
        raise UserError(f"'{self.name}' is a model of transformers, which Polylens runs and does not train.")

    def encode_pictures(self, pictures: Sequence[Picture], batch_size: int = 32) -> dict[str, torch.Tensor]:
        """Nothing: the model's own processor reads pictures together with their prompt."""
        return {}

    def vision_identity(self) -> dict[str, Any]:
        raise UserError(f"'{self.name}' keeps no visual tokens: leave --cache out.")

    @torch.no_grad()
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
        num_beams: int = 1,
        max_new_tokens: int = 32,
        length_penalty: float = 1.0,
        repetition_penalty: float = 1.0,
    ) -> list[Answer]:
        """Answers to the samples' last turns, in their order. Raises `UserError` for prompts it cannot read."""
        settings: dict[str, Any] = {
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "repetition_penalty": repetition_penalty,
        }
        if num_beams > 1:
            settings["length_penalty"] = length_penalty
        texts = [Answer("")] * len(samples)
        for places in self._batches(samples, batch_size):
            answers = self._answer([samples[place] for place in places], settings)
            for place, answer in zip(places, answers, strict=True):
                texts[place] = answer
        return texts

    @torch.no_grad()
    def score(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
    ) -> list[list[float]]:
        """log P(candidate | pictures, prompt), summed over the candidate's tokens and the end of the answer."""
        if len(samples) != len(candidates):
            raise UserError(
                f"{len(samples)} samples, but {len(candidates)} lists of candidates: give one for each."
            )
        scores: list[list[float]] = []
        for sample, texts in zip(samples, candidates, strict=True):
            row: list[float] = []
            for start in range(0, len(texts), batch_size):
                row += self._log_probabilities(sample, texts[start : start + batch_size])
            scores.append(row)
        return scores

    def choose(
        self,
        samples: Sequence[Sample],
        candidates: Sequence[Sequence[str]],
        *,
        visual: Mapping[str, torch.Tensor] | None = None,
        batch_size: int = 16,
    ) -> list[int]:
        """The index of every sample's likeliest candidate; of equals the first."""
        scores = self.score(samples, candidates, batch_size=batch_size)
        return [max(range(len(row)), key=row.__getitem__) for row in scores]

    def chat(
        self,
        language: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        num_beams: int = 1,
        max_new_tokens: int = 256,
    ) -> Chat:
        """A conversation, with answers in `language` if one is given."""
        return Chat(self, TransformersSpeaker(self, num_beams, max_new_tokens), language, messages)

    def _batches(self, samples: Sequence[Sample], size: int) -> Iterator[list[int]]:
        """Places of samples with the same number of pictures and prompts of like length, which processors can read."""
        order = sorted(
            range(len(samples)), key=lambda at: (len(samples[at].images), len(samples[at].turns[-1].prompt))
        )
        start = 0
        while start < len(order):
            wanted = len(samples[order[start]].images)
            places = [at for at in order[start : start + size] if len(samples[at].images) == wanted]
            yield places
            start += len(places)

    def _answer(self, samples: Sequence[Sample], settings: Mapping[str, Any]) -> list[Answer]:
        inputs = self.inputs(samples).to(self.device)
        ids_BA = self.model.generate(**inputs, **SEARCH, **settings, pad_token_id=self.tokenizer.pad_token_id)
        prompt_BT = inputs["input_ids"]
        length = prompt_BT.shape[1]
        # Most decoders give the prompt back in front of the answer.
        if ids_BA.shape[1] >= length and torch.equal(ids_BA[:, :length], prompt_BT):
            ids_BA = ids_BA[:, length:]
        texts = self.tokenizer.batch_decode(ids_BA, skip_special_tokens=True)
        return [
            Answer(text.strip(), "stop" if self._ends.intersection(ids) else "length")
            for text, ids in zip(texts, ids_BA.tolist(), strict=True)
        ]

    @property
    def _ends(self) -> set[int]:
        named = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}

    def _log_probabilities(self, sample: Sample, texts: Sequence[str]) -> list[float]:
        inputs = self.inputs([sample] * len(texts)).to(self.device)
        answers = [
            [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            for text in texts
        ]
        rows = [torch.tensor(ids, device=self.device) for ids in answers]
        ids_BA = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        known_BA = torch.arange(ids_BA.shape[1], device=self.device) < torch.tensor(
            [[len(ids)] for ids in answers], device=self.device
        )
        if self.is_encoder_decoder:
            logits = self.model(**inputs, labels=ids_BA).logits
        else:
            length = inputs["input_ids"].shape[1]
            for key, value in PER_TOKEN.items():
                if key in inputs and inputs[key].shape[:2] == inputs["input_ids"].shape:
                    fill = torch.full_like(ids_BA, value) * (known_BA if key == "attention_mask" else 1)
                    inputs[key] = torch.cat([inputs[key], fill.to(inputs[key].dtype)], 1)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], ids_BA], 1)
            logits = self.model(**inputs).logits[:, length - 1 : -1]
        losses = F.cross_entropy(logits.float().transpose(1, 2), ids_BA, reduction="none")
        return (-(losses * known_BA).sum(1)).tolist()

    def inputs(self, samples: Sequence[Sample]) -> Any:
        """What the model reads of samples with the same number of pictures. Raises `UserError`."""
        samples = [self._as_text(sample) for sample in samples]
        pictures = [[picture.load() for picture in sample.images] for sample in samples]
        texts = [self._templated(sample) if self.has_template else self._plain(sample) for sample in samples]
        # A template has put the special tokens already.
        settings = {"add_special_tokens": False} if self.has_template else {}
        try:
            inputs = self.processor(
                text=texts,
                images=pictures if pictures[0] else None,
                padding=True,
                return_tensors="pt",
                **settings,
            )
        except ValueError as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"The processor of '{self.name}' cannot read these prompts: {reason}") from error
        place = getattr(
            self.model.config, "image_token_id", getattr(self.model.config, "image_token_index", None)
        )
        if pictures[0] and place is not None and not (inputs["input_ids"] == place).any(1).all():
            raise UserError(
                f"The processor of '{self.name}' leaves no place for the picture in the prompt, so the model would "
                "not see it: give the model a chat template."
            )
        return inputs

    def _as_text(self, sample: Sample) -> Sample:
        """The sample with questions that no processor takes for places of pictures or ends of turns."""
        turns = tuple(
            Turn(spaced_names(self.tokenizer, turn.prompt), spaced_names(self.tokenizer, turn.answer))
            for turn in sample.turns
        )
        if turns != sample.turns:
            logger.warning(
                "The texts of '%s' have names of special tokens of '%s': they are shown with a space inside.",
                sample.id,
                self.name,
            )
        return replace(sample, turns=turns)

    def _templated(self, sample: Sample) -> str:
        return self.processor.apply_chat_template(_conversation(sample), add_generation_prompt=True)

    def _plain(self, sample: Sample) -> str:
        if len(sample.turns) > 1:
            raise UserError(f"'{self.name}' has no chat template, so it cannot be asked a second question.")
        # BLIP-2's processor puts the places of its queries itself.
        puts_places = getattr(self.processor, "num_query_tokens", None) is not None
        mark = "" if puts_places else str(getattr(self.processor, "image_token", "") or "")
        return mark * len(sample.images) + sample.turns[-1].prompt


@dataclass
class TransformersSpeaker:
    """Answers of a `TransformersModel` in a conversation; each prompt is read anew."""

    model: TransformersModel
    num_beams: int
    max_new_tokens: int

    def fits(self, sample: Sample) -> bool:
        config = self.model.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        if limit is None or self.model.is_encoder_decoder:
            return True
        return self.model.inputs([sample])["input_ids"].shape[1] + self.max_new_tokens <= limit

    def answer(self, sample: Sample, visual: Mapping[str, torch.Tensor]) -> Iterator[str]:
        if self.num_beams > 1:
            yield self.model.generate([sample], num_beams=self.num_beams, max_new_tokens=self.max_new_tokens)[
                0
            ]
            return
        streamer = TextIteratorStreamer(self.model.tokenizer, skip_prompt=True, skip_special_tokens=True)
        inputs = self.model.inputs([sample]).to(self.model.device)
        settings = dict(inputs) | SEARCH | {"streamer": streamer, "max_new_tokens": self.max_new_tokens}
        settings["pad_token_id"] = self.model.tokenizer.pad_token_id
        thread = Thread(target=self.model.model.generate, kwargs=settings, daemon=True)
        thread.start()
        whole = ""
        for piece in streamer:
            whole += piece
            yield whole
        thread.join()
        yield whole


def _conversation(sample: Sample) -> list[dict[str, Any]]:
    """The sample as a conversation in the form of chat templates, its pictures before the first question."""
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(sample.turns):
        images = [{"type": "image"} for _ in sample.images] if place == 0 else []
        messages.append({"role": "user", "content": [*images, {"type": "text", "text": turn.prompt}]})
        if place < len(sample.turns) - 1:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return messages
