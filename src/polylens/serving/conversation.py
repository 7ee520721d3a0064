"""From the messages of a request to a sample: turns in order, pictures in front, the language in the last question."""

from collections.abc import Sequence
from dataclasses import dataclass

from polylens.data.layout import Layout
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.language_id import SURE, identify, knows, same
from polylens.languages import language as find_language
from polylens.models.decoding.chat import prompt_in
from polylens.serving.pictures import SentPicture, read_data_uri
from polylens.serving.protocol import Message


@dataclass(frozen=True)
class Conversation:
    """What was said, with the system's text before the first question, and all pictures."""

    turns: tuple[Turn, ...]
    question: str
    pictures: tuple[SentPicture, ...]

    def sample(self, layout: Layout, language: str | None) -> Sample:
        """To be answered in a language (a code), or in any. Raises `UserError` where there is nothing to answer."""
        prompt = prompt_in(layout, self.question, language, bool(self.pictures))
        return Sample(
            "chat", self.pictures, (*self.turns, Turn(prompt, "")), language or "", "chat", "request"
        )


def read_messages(messages: Sequence[Message], max_pictures: int) -> Conversation:
    """Messages of one side in a row are one turn. Raises `UserError` for what is no conversation to answer."""
    system: list[str] = []
    said: list[tuple[str, list[str]]] = []
    pictures: list[SentPicture] = []
    for message in messages:
        texts = _read_parts(message, pictures, max_pictures)
        if message.role in ("system", "developer"):
            system += texts
        elif said and said[-1][0] == message.role:
            said[-1][1].extend(texts)
        else:
            said.append((message.role, texts))
    if [role for role, _ in said] != (["user", "assistant"] * len(said))[: len(said)] or len(said) % 2 == 0:
        raise UserError("The messages must begin and end with the user's, and the assistant's stand between.")
    texts = ["\n".join(one) for _, one in said]
    texts[0] = "\n".join([*system, texts[0]] if texts[0] else system)
    turns = tuple(Turn(*pair) for pair in zip(texts[:-1:2], texts[1::2], strict=True))
    return Conversation(turns, texts[-1], tuple(pictures))


def _read_parts(message: Message, pictures: list[SentPicture], max_pictures: int) -> list[str]:
    if isinstance(message.content, str):
        return [message.content] if message.content else []
    texts = []
    for part in message.content:
        if part.type == "text":
            texts += [part.text] if part.text else []
            continue
        if message.role != "user":
            raise UserError(f"A message of the {message.role} holds an image: only the user's may.")
        if len(pictures) == max_pictures:
            raise UserError(f"There are more than {max_pictures} images: send fewer.")
        pictures.append(read_data_uri(part.image_url.url, f"image {len(pictures) + 1}"))
    return texts


def language_codes(asked: Sequence[str]) -> list[str]:
    """The codes of languages, however they are spelled. Raises `UserError` for unknown and repeated ones."""
    codes = [find_language(one).code for one in asked]
    if len(set(codes)) < len(codes):
        raise UserError("A language is named twice: name each once.")
    return codes


def check_language(asked: str, answer: str) -> dict[str, object]:
    """Whether an answer is in the language that was asked for; `kept` is null where that cannot be told surely."""
    found, confidence = identify(answer)
    kept: bool | None = None
    if found is not None and knows(asked):
        if same(found, asked):
            kept = True
        elif confidence >= SURE:
            kept = False
    return {"asked": asked, "found": found, "confidence": round(confidence, 3), "kept": kept}
