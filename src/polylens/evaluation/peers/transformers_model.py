"""Any image-text-to-text model of transformers, with its own processor, as a predictor.

Shapes: B samples of a batch, T tokens of the longest prompt.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor

from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.predictor import Generation, refuse_temperature
from polylens.files import sha256_folder
from polylens.languages import language
from polylens.pretrained import load_whole


class TransformersPredictor:
    """The model of a folder or hub id, through its chat template if it has one, else pictures before the prompt.

    Raises `UserError` when transformers cannot load it.
    """

    def __init__(self, path: str, dtype: str = "auto", device: str | None = None) -> None:
        self.name = Path(path).name if Path(path).exists() else path
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.processor = AutoProcessor.from_pretrained(path)
            self.model = load_whole(AutoModelForImageTextToText, path, dtype=dtype).to(device).eval()
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"'{path}' cannot be loaded as an image-text-to-text model: {reason}") from error
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.is_encoder_decoder = bool(self.model.config.get_text_config().is_encoder_decoder)
        # Prompts end where answers begin; an encoder does not care.
        self.tokenizer.padding_side = "right" if self.is_encoder_decoder else "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.settings: dict[str, Any] = {
            "transformers_model": path,
            "model_sha256": sha256_folder(path) if Path(path).is_dir() else "",
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "transformers": transformers.__version__,
            "prompt": "chat template" if self._has_template else "pictures, then the prompt",
        }

    def ask_caption(self, code: str) -> str:
        return f"Write a short caption of this image in {language(code).name}."

    @torch.no_grad()
    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        """Batches of prompts of like length with the same number of pictures, which all processors can read."""
        order = sorted(
            range(len(samples)), key=lambda at: (len(samples[at].images), len(samples[at].turns[-1].prompt))
        )
        start = 0
        while start < len(order):
            wanted = len(samples[order[start]].images)
            places = order[start : start + generation.batch_size]
            places = [at for at in places if len(samples[at].images) == wanted]
            yield from zip(places, self._answer([samples[at] for at in places], generation), strict=True)
            start += len(places)

    def _answer(self, samples: Sequence[Sample], generation: Generation) -> list[str]:
        inputs = self._inputs(samples).to(self.model.device)
        refuse_temperature(self.name, generation)
        settings: dict[str, Any] = {"length_penalty": generation.length_penalty}
        # Sampling settings that come with a model have no part in a search.
        sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        ids_BA = self.model.generate(
            **inputs,
            **sampling,
            **(settings if generation.num_beams > 1 else {}),
            num_beams=generation.num_beams,
            max_new_tokens=generation.max_new_tokens,
            repetition_penalty=generation.repetition_penalty,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        prompt_BT = inputs["input_ids"]
        length = prompt_BT.shape[1]
        # Most decoders give the prompt back in front of the answer.
        if ids_BA.shape[1] >= length and torch.equal(ids_BA[:, :length], prompt_BT):
            ids_BA = ids_BA[:, length:]
        return [text.strip() for text in self.tokenizer.batch_decode(ids_BA, skip_special_tokens=True)]

    @property
    def _has_template(self) -> bool:
        return getattr(self.processor, "chat_template", None) is not None

    def _inputs(self, samples: Sequence[Sample]) -> Any:
        pictures = [[picture.load() for picture in sample.images] for sample in samples]
        if self._has_template:
            texts = [
                self.processor.apply_chat_template(_conversation(sample), add_generation_prompt=True)
                for sample in samples
            ]
        else:
            texts = [self._plain(sample) for sample in samples]
        # A template has put the special tokens already.
        settings = {"add_special_tokens": False} if self._has_template else {}
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

    def _plain(self, sample: Sample) -> str:
        if len(sample.turns) > 1:
            raise UserError(f"'{self.name}' has no chat template, so it cannot be asked a second question.")
        # BLIP-2's processor puts the places of its queries itself.
        puts_places = getattr(self.processor, "num_query_tokens", None) is not None
        mark = "" if puts_places else str(getattr(self.processor, "image_token", "") or "")
        return mark * len(sample.images) + sample.turns[-1].prompt


def _conversation(sample: Sample) -> list[dict[str, Any]]:
    """The sample as a conversation in the form of chat templates, its pictures before the first question."""
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(sample.turns):
        images = [{"type": "image"} for _ in sample.images] if place == 0 else []
        messages.append({"role": "user", "content": [*images, {"type": "text", "text": turn.prompt}]})
        if place < len(sample.turns) - 1:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return messages
