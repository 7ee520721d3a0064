"""Conversations with any model that answers samples: history as data, nothing computed twice.

    chat = model.chat(language="zh")
    chat.say("What is this?", images=["a.jpg"])         the answer
    for piece in chat.stream("And where?"): ...         the same, as it is found
    chat.messages                                       the history, as JSON could hold it

A picture is looked at once in a conversation. A causal language model goes on from the keys and values of what it has
read (`CausalReader`); CPM-Bee and encoder-decoders read every prompt anew, for a new question changes all of it.
"""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from polylens.data.answer import Answer, FinishReason, finish_reason
from polylens.data.collate import Batch
from polylens.data.images import FilePicture
from polylens.data.layout import Layout
from polylens.data.sample import Picture, Sample, Turn, stored_at
from polylens.errors import UserError
from polylens.languages import language as find_language
from polylens.models.decoding.interface import Decodable, Seeing
from polylens.models.decoding.scoring import Prompts, head_input, read_prompts
from polylens.models.decoding.search import Search, beam_search, greedy_steps

logger = logging.getLogger(__name__)

PIVOT = "en"
CHARACTER_CUT_OFF = "\ufffd"


class Speaker(Protocol):
    """How one family of models answers in a conversation."""

    def fits(self, sample: Sample) -> bool:
        """Whether the model can read so long a prompt."""

    def answer(self, sample: Sample, visual: Mapping[str, torch.Tensor]) -> Iterator[str]:
        """The answer to the last turn so far, again and again as it grows, at last the whole."""


@dataclass(frozen=True)
class Exchange:
    """One question as it was asked and as it was sent, its new pictures, and the answer."""

    question: str
    prompt: str
    answer: str
    images: tuple[Picture, ...] = ()


class Chat:
    """A conversation. `language` is what answers should be in; None leaves it to the model.

    `messages` is an earlier conversation to go on with. Raises `UserError` for what `messages` cannot hold.
    """

    def __init__(
        self,
        model: Seeing,
        speaker: Speaker,
        language: str | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.model = model
        self.speaker = speaker
        self.language = language
        self.exchanges: list[Exchange] = _exchanges(messages)
        self.finish_reason: FinishReason = "stop"  # of the last answer
        self._visual: dict[str, torch.Tensor] = {}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The history as data: {"role": "user", "content": ..., "prompt": ..., "images": [...]}, then
        {"role": "assistant", "content": ...}. `prompt` is there where what was sent is not what was asked.
        """
        rows: list[dict[str, Any]] = []
        for one in self.exchanges:
            asked: dict[str, Any] = {"role": "user", "content": one.question}
            if one.prompt != one.question:
                asked["prompt"] = one.prompt
            if one.images:
                asked["images"] = [stored_at(picture) for picture in one.images]
            rows += [asked, {"role": "assistant", "content": one.answer}]
        return rows

    def say(self, text: str, images: Sequence[str | Path | Picture] = ()) -> str:
        """The answer to `text`, about the pictures so far and the new ones; see `stream`."""
        return "".join(self.stream(text, images))

    def stream(self, text: str, images: Sequence[str | Path | Picture] = ()) -> Generator[str, None, None]:
        """The answer in pieces, as they are settled.

        An empty text asks for a caption of the pictures. When the prompt is longer than the model can read, the
        oldest turns are left out of it, with a warning. Whatever ends this early, an interrupt or `close()`, the
        answer up to there stays in the history. Raises `UserError` for an empty text without pictures, an image that
        cannot be read, and a question that is too long by itself.
        """
        new = tuple(FilePicture(Path(i)) if isinstance(i, str | Path) else i for i in images)
        pictures = (*(picture for one in self.exchanges for picture in one.images), *new)
        prompt = prompt_in(self.model.config.layout, text, self.language, bool(pictures))
        sample = self._fitting(pictures, prompt)
        missing = [picture for picture in pictures if picture.key not in self._visual]
        if missing:
            self._visual |= self.model.encode_pictures(missing)
        said = ""
        begun = False
        try:
            for whole in self.speaker.answer(sample, self._visual):
                begun = True
                self.finish_reason = finish_reason(whole)
                whole = whole.lstrip()
                # A character may take several tokens, and white space at the end may not be the end.
                settled = whole.rstrip().rstrip(CHARACTER_CUT_OFF)
                if settled.startswith(said) and len(settled) > len(said):
                    piece, said = settled[len(said) :], settled
                    yield piece
            rest = whole.rstrip()[len(said) :] if begun else ""
            if rest:
                said += rest
                yield rest
        finally:
            if begun:
                self.exchanges.append(Exchange(text, prompt, said, new))

    def _fitting(self, pictures: tuple[Picture, ...], prompt: str) -> Sample:
        for first in range(len(self.exchanges) + 1):
            turns = [Turn(one.prompt, one.answer) for one in self.exchanges[first:]]
            sample = Sample("chat", pictures, (*turns, Turn(prompt, "")), self.language or "", "chat", "chat")
            if self.speaker.fits(sample):
                if first:
                    logger.warning("The conversation is too long: its first %d turns are left out.", first)
                return sample
        raise UserError(
            "The question is longer than the model can read, even without the turns before it: shorten it"
            f"{', or ask about fewer than ' + str(len(pictures)) + ' images' if pictures else ''}."
        )


def prompt_in(layout: Layout, text: str, language: str | None, seen: bool) -> str:
    """What is sent for `text` so that the answer is in `language`; an empty text asks for a caption of what is `seen`.

    Raises `UserError` for an empty text without pictures.
    """
    if not text.strip():
        if not seen:
            raise UserError("There is nothing to answer: ask a question, or give an image.")
        return layout.ask_caption(language or PIVOT)
    return f"{text} Answer in {find_language(language).name}." if language else text


def _exchanges(messages: Sequence[Mapping[str, Any]]) -> list[Exchange]:
    roles = [message.get("role") if isinstance(message, Mapping) else None for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise UserError("Messages must go from 'user' to 'assistant' and back, and end with the assistant's.")
    try:
        return [
            Exchange(
                asked["content"],
                asked.get("prompt", asked["content"]),
                answered["content"],
                tuple(FilePicture(Path(path)) for path in asked.get("images", ())),
            )
            for asked, answered in zip(messages[::2], messages[1::2], strict=True)
        ]
    except (KeyError, TypeError) as error:
        raise UserError(f"Messages need a 'content', and 'images' are paths: {error!r}.") from error


class VisionLanguageSpeaker:
    """Answers of a `VisionLanguageModel`; beams are shown when they have ended."""

    def __init__(self, model: Decodable, search: Search) -> None:
        self.model, self.search = model, search
        self.reader = None if model.is_encoder_decoder else CausalReader(model)
        self.limit = _most_tokens(model)

    def fits(self, sample: Sample) -> bool:
        if self.limit is None:
            return True
        length = self.model.collator(with_pictures=False)([sample], answers=False).input_ids.shape[1]
        return length + self.search.max_new_tokens <= self.limit

    @torch.no_grad()
    def answer(self, sample: Sample, visual: Mapping[str, torch.Tensor]) -> Iterator[str]:
        batch = self.model.visual_batch([sample], visual)
        reader = self.reader
        prompts = read_prompts(self.model, batch) if reader is None else reader.read(batch, sample.images)
        ids: list[int] = []
        if self.search.num_beams > 1:
            if reader is not None:
                prompts = prompts.copy()  # beams leave their own rows in its cache
            yield self._answer(beam_search(self.model, prompts, self.search)[0])
            return
        try:
            for answers in greedy_steps(self.model, prompts, self.search):
                ids = answers[0]
                yield self._answer(ids)
        except GeneratorExit:
            raise
        except BaseException:
            # Interrupted inside a step: some layers have read on, others have not.
            self.reader = None if reader is None else CausalReader(self.model)
            raise
        finally:
            if reader is not None:
                reader.heard(ids)

    def _answer(self, ids: Sequence[int]) -> Answer:
        text = self.model.tokenizer.decode(ids, skip_special_tokens=True)
        return Answer(text, "stop" if ids[-1] in self.search.ends else "length")


def _most_tokens(model: Decodable) -> int | None:
    """The positions that a decoder has; None where they do not end."""
    return None if model.is_encoder_decoder else getattr(model.lm.config, "max_position_embeddings", None)


class CausalReader:
    """Reads prompts with one cache: of each, only what follows the part it shares with what was read before."""

    def __init__(self, model: Decodable) -> None:
        self.model = model
        self.cache: Any = None
        self.tokens: list[Any] = []  # what the cache holds: token ids, and (picture, place) for visual tokens

    def read(self, batch: Batch, pictures: Sequence[Picture]) -> Prompts:
        """The prompt of one sample (1, T), read."""
        tokens = self._names(batch, pictures)
        shared = 0
        # The last token is always read: what follows it is what is asked for.
        while shared < min(len(self.tokens), len(tokens) - 1) and self.tokens[shared] == tokens[shared]:
            shared += 1
        self.cache = self._cut(shared)
        shared = self.cache.get_seq_length() if self.cache is not None else 0
        if self.cache is None:
            self.cache = DynamicCache(config=self.model.lm.config)
        mask = batch.attention_mask
        embeds = self.model.embed(batch)[:, shared:]
        last = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=mask.device)
        last[:, -1] = True
        self.tokens = []  # until it is read whole
        with self.model.logits_at(last), head_input(self.model.lm.get_output_embeddings()) as states:
            output = self.model.lm(
                inputs_embeds=embeds,
                attention_mask=mask,
                past_key_values=self.cache,
                use_cache=True,
                **self.model.positions(mask, last=embeds.shape[1]),
            )
        self.cache, self.tokens = output.past_key_values, tokens
        return Prompts(output.logits.float(), mask, self.cache, None, states[-1])

    def heard(self, answer: Sequence[int]) -> None:
        """The cache has since read on in this answer, how far it knows itself."""
        self.tokens = [*self.tokens, *answer][: self.cache.get_seq_length()] if self.tokens else []

    def _cut(self, length: int) -> Any:
        """The cache of the first `length` tokens; None where it cannot be cut (states, sliding windows)."""
        if self.cache is None or length == 0:
            return None
        surplus = self.cache.get_seq_length() - length
        try:
            if surplus:
                self.cache.crop(-surplus)
        except RuntimeError:
            return None
        return self.cache

    def _names(self, batch: Batch, pictures: Sequence[Picture]) -> list[Any]:
        places = iter(
            (picture.key, place) for picture in pictures for place in range(self.model.num_image_tokens)
        )
        row = zip(batch.input_ids[0].tolist(), batch.image_mask[0].tolist(), strict=True)
        return [next(places) if image else i for i, image in row]
