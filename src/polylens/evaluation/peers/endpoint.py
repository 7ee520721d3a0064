"""A vision-language model behind an OpenAI-compatible endpoint, as a predictor."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from polylens.data.answer import Answer
from polylens.data.sample import Sample
from polylens.errors import UserError
from polylens.evaluation.generation import Generation, refuse_temperature
from polylens.evaluation.peers.chat import (
    ChatClient,
    Estimate,
    Message,
    Prices,
    estimate,
    image_tokens,
    map_concurrently,
    text_tokens,
)
from polylens.languages import language

# Larger pictures are scaled down before they are sent; COCO's and most benchmarks' are smaller.
MAX_SIDE = 1024
# Pictures whose sizes stand for all others' in an estimate.
SIZED = 50


class EndpointPredictor:
    """Pictures travel as PNG inside the request, so that nothing but the scaling touches them.

    `announce` hears what answering will take before the first request is sent; in money where `prices` are given.
    """

    def __init__(
        self,
        client: ChatClient,
        max_side: int = MAX_SIDE,
        prices: Prices | None = None,
        announce: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.client, self.max_side, self.prices, self.announce = client, max_side, prices, announce
        self.name = f"{client.model} at {urlsplit(client.url).netloc}"
        self.settings: dict[str, Any] = {
            "endpoint": client.url,
            "endpoint_model": client.model,
            "temperature": 0,
            "picture_format": "png",
            "picture_max_side": max_side,
        }

    def ask_caption(self, code: str) -> str:
        return f"Write a short caption of this image in {language(code).name}. Answer with the caption only."

    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        """Many requests at once; an answer comes when it is ready. Raises `UserError` for beams and penalties."""
        refuse_temperature(self.name, generation)
        beams, penalty = generation.num_beams, generation.repetition_penalty
        if beams != 1 or penalty != 1:
            raise UserError(
                f"num_beams={beams} and repetition_penalty={penalty:g} cannot be asked of '{self.name}': "
                "endpoints of this kind have neither, so give 1 for both."
            )

        def ask(sample: Sample) -> Answer:
            said = self.client.ask(self.messages(sample), max_tokens=generation.max_new_tokens).text
            return Answer(said.strip(), said.finish_reason)

        if samples:
            self.announce(f"To ask {self.name}: {self.estimate(samples, generation)}.")
        return map_concurrently(ask, samples, self.client.concurrency)

    def messages(self, sample: Sample) -> list[Message]:
        """The sample as a conversation: its pictures before the first question, its last turn to be answered."""
        messages: list[Message] = []
        for place, turn in enumerate(sample.turns):
            pictures = sample.images if place == 0 else ()
            content: list[Message] = [
                {"type": "image_url", "image_url": {"url": self._encoded(picture.load())}}
                for picture in pictures
            ]
            content.append({"type": "text", "text": turn.prompt})
            messages.append({"role": "user", "content": content})
            if place < len(sample.turns) - 1:
                messages.append({"role": "assistant", "content": turn.answer})
        return messages

    def estimate(self, samples: Sequence[Sample], generation: Generation) -> Estimate:
        """What answering all samples will take; every request carries its pictures anew."""
        pictures = list(dict.fromkeys(picture for sample in samples for picture in sample.images))
        step = max(1, len(pictures) // SIZED)
        sizes = [self._scaled(picture.load()).size for picture in pictures[::step][:SIZED]]
        each = sum(image_tokens(*size) for size in sizes) / max(1, len(sizes))
        text = sum(text_tokens(turn.prompt) for sample in samples for turn in sample.turns)
        tokens = text + round(each * sum(len(sample.images) for sample in samples))
        return estimate(len(samples), tokens, len(samples) * generation.max_new_tokens, self.prices)

    def _scaled(self, picture: Image.Image) -> Image.Image:
        if max(picture.size) > self.max_side:
            picture = picture.copy()
            picture.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        return picture

    def _encoded(self, picture: Image.Image) -> str:
        buffer = io.BytesIO()
        self._scaled(picture).save(buffer, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
