"""One picture and a model: a caption of it, an answer about it. What `polylens.load(..)` gives can do both."""

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from polylens.data.images import FilePicture, decode_image
from polylens.data.sample import Picture, Sample, Turn
from polylens.languages import language
from polylens.models.limits import not_among

logger = logging.getLogger(__name__)

# A file, an encoded picture, an image that is open, or any picture of the program.
ImageLike = str | Path | bytes | Image.Image | Picture


class Asking:
    """What a model of any family can be asked about one picture; the model gives `config`, `generate`, `chat` and
    `tokenizer`.
    """

    config: Any
    tokenizer: Any
    generate: Any
    chat: Any

    def caption(
        self, image: ImageLike, lang: str = "en", *, num_beams: int = 1, max_new_tokens: int = 32
    ) -> str:
        """A caption of the picture in the language `lang`, a code in any spelling.

        `image` is a path, the bytes of a file, or a PIL image. Warns of a language that the model does not know.
        Raises `UserError` for an unknown language and an image that cannot be read.
        """
        code = language(lang).code
        warn_of_unknown(self, [code])
        sample = caption_sample(self, as_picture(image), code)
        answers: list[str] = self.generate([sample], num_beams=num_beams, max_new_tokens=max_new_tokens)
        return answers[0]

    def ask(
        self, image: ImageLike, question: str, lang: str | None = None, *, max_new_tokens: int = 256
    ) -> str:
        """The answer to a question about the picture, in the language `lang`, or as the model likes.

        Raises `UserError` as `caption` does, and for a question that is too long. `chat` holds a conversation.
        """
        code = None if lang is None else language(lang).code
        warn_of_unknown(self, [code] if code else [])
        answer: str = self.chat(code, max_new_tokens=max_new_tokens).say(question, [as_picture(image)])
        return answer

    def num_tokens(self, text: str) -> int:
        """The number of tokens of a text that stands for itself, without its end."""
        return sum(1 for _ in self.tokenizer.tokenize(text))


def caption_sample(
    model: Asking, picture: Picture, code: str, name: str = "", prompt: str | None = None
) -> Sample:
    """What asks a model for a caption: with `prompt`, in which "{language}" is filled in, or with its own prompt."""
    if prompt is None:
        asked = model.config.layout.ask_caption(code)
    else:
        asked = prompt.replace("{language}", language(code).name)
    return Sample(name or "caption", (picture,), (Turn(asked, ""),), code, "caption", "")


def unknown_languages(model: Any, codes: Sequence[str]) -> list[str]:
    """Those of `codes` that the model's language model does not know; none if that is not known."""
    return not_among(model.config.language_model.languages, codes)


def warn_of_unknown(model: Any, codes: Sequence[str], name: str = "") -> None:
    """Warn of languages that the model does not know: what it writes there is often another language."""
    if unknown := unknown_languages(model, codes):
        names = ", ".join(f"{language(code).name} ({code})" for code in unknown)
        logger.warning(
            "The language model%s does not know %s: expect little there, or text in another language.",
            f" of '{name}'" if name else "",
            names,
        )


def as_picture(image: ImageLike) -> Picture:
    """The picture that an `ImageLike` stands for. Raises `TypeError` for anything else."""
    if isinstance(image, str | Path):
        return FilePicture(Path(image))
    if isinstance(image, bytes):
        return HeldPicture(image)
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        (image if image.mode in ("RGB", "RGBA", "L", "P", "LA") else image.convert("RGB")).save(file, "PNG")
        return HeldPicture(file.getvalue())
    if isinstance(image, Picture):
        return image
    raise TypeError(f"An image is a path, bytes or a PIL image, not {type(image).__name__}.")


@dataclass(frozen=True)
class HeldPicture:
    """A picture whose file is in memory."""

    data: bytes

    @property
    def key(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def read(self) -> bytes:
        return self.data

    def load(self) -> Image.Image:
        return decode_image(self.data, "the image")
