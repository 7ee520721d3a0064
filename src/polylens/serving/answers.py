"""From the engine's updates to replies in OpenAI's form: whole, or in chunks as they come."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from polylens.errors import UserError
from polylens.serving.conversation import check_language
from polylens.serving.guard import error_body
from polylens.serving.jobs import Job, Settings, TooLate, Update

Chunk = dict[str, Any]


def status_of(error: Exception) -> tuple[int, str]:
    """The status and the sentence for what ended a job."""
    if isinstance(error, UserError):
        return 400, str(error)
    if isinstance(error, TooLate):
        return 504, "The answer was not ready in time: ask for fewer tokens, or try again."
    return 500, "The model failed on this request; the log of the server says why."


class Failed(Exception):
    """A job ended with an error: `status` and the sentence."""

    def __init__(self, error: Exception) -> None:
        self.status, sentence = status_of(error)
        super().__init__(sentence)


@dataclass
class Answers:
    """The answers to one request, one for each job. `languages` are those asked for, or None, of each."""

    model: str
    jobs: list[Job] = field(default_factory=list)
    languages: list[str | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    one_prompt: bool = False

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.updates: asyncio.Queue[tuple[int, Update]] = asyncio.Queue()
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def add(self, sample: Any, settings: Settings, language: str | None, deadline: float) -> None:
        place = len(self.jobs)

        def deliver(update: Update) -> None:
            self.loop.call_soon_threadsafe(self.updates.put_nowait, (place, update))

        self.jobs.append(Job(sample, settings, deliver, deadline))
        self.languages.append(language)
        self.texts.append("")
        self.num_tokens.append(0)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for job in self.jobs:
            job.cancelled = True

    async def each(self) -> AsyncIterator[tuple[int, Update]]:
        """Every update with the place of its job, until all have ended. Raises `Failed`."""
        open_places = set(range(len(self.jobs)))
        while open_places:
            place, update = await self.updates.get()
            if update.error is not None:
                raise Failed(update.error)
            self.texts[place] += update.piece
            self.num_tokens[place] = update.num_tokens
            if update.is_last:
                open_places.discard(place)
            yield place, update

    async def whole(self) -> dict[str, Any]:
        """The reply when all answers are there. Raises `Failed`."""
        finish: dict[int, str | None] = {}
        async for place, update in self.each():
            finish[place] = update.finish
        choices = [
            self._choice(place, finish[place])
            | {"message": {"role": "assistant", "content": text, "refusal": None}}
            for place, text in enumerate(self.texts)
        ]
        return self._reply("chat.completion", choices) | {"usage": self.usage()}

    async def chunks(self, include_usage: bool) -> AsyncIterator[Chunk]:
        """The reply in pieces. Raises `Failed`, also in the middle."""
        begun: set[int] = set()
        async for place, update in self.each():
            delta: dict[str, Any] = {} if place in begun else {"role": "assistant", "content": ""}
            begun.add(place)
            if update.piece:
                delta["content"] = update.piece
            if delta:
                yield self._chunk([{"index": place, "delta": delta, "finish_reason": None}], include_usage)
            if update.is_last:
                yield self._chunk([self._choice(place, update.finish) | {"delta": {}}], include_usage)
        if include_usage:
            yield self._reply("chat.completion.chunk", []) | {"usage": self.usage()}

    def usage(self) -> dict[str, Any] | None:
        """Tokens read and written; None where the model does not count them."""
        # Several answers to one prompt read it once.
        read = self.jobs[:1] if self.one_prompt else self.jobs
        prompts = [job.num_prompt_tokens for job in read if job.num_prompt_tokens is not None]
        if len(prompts) < len(read):
            return None
        prompt, completion = sum(prompts), sum(self.num_tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(job.num_cached_tokens for job in read)},
        }

    def _choice(self, place: int, finish: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": place, "finish_reason": finish, "logprobs": None}
        language = self.languages[place]
        if language is not None:
            choice["language"] = check_language(language, self.texts[place])
        return choice

    def _chunk(self, choices: Sequence[dict[str, Any]], with_usage: bool) -> Chunk:
        reply = self._reply("chat.completion.chunk", choices)
        return reply | {"usage": None} if with_usage else reply

    def _reply(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
        }


async def events(answers: Answers, first: Chunk, rest: AsyncIterator[Chunk]) -> AsyncIterator[str]:
    """Server-sent events. However this ends, the jobs end with it."""
    try:
        yield _event(first)
        async for chunk in rest:
            yield _event(chunk)
        yield "data: [DONE]\n\n"
    except Failed as error:
        yield _event(error_body(error.status, str(error)))
    finally:
        answers.cancel()


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
