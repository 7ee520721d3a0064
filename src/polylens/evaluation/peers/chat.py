"""Any OpenAI-compatible chat endpoint: many requests at once, faults of the network waited out, answers checked.

The `openai` package speaks the protocol: it tries again after HTTP 408, 409, 429 and 5xx, lost connections and
timeouts, waits longer each time, and as long as `Retry-After` says.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polylens.data.answer import Answer
from polylens.errors import UserError

KEYS = ("POLYLENS_API_KEY", "OPENAI_API_KEY")
# Requests to a server that asks for none.
NO_KEY = "none"
# Longer is somebody's error page.
MESSAGE_LENGTH = 300
# UTF-8 bytes of a token: an English word has more, most other scripts fewer.
BYTES_PER_TOKEN = 3

Item = TypeVar("Item")
Result = TypeVar("Result")
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What was answered, by which model as the server names it, and the tokens it counted (0: not said); the text
    says whether it was cut at the limit of tokens.
    """

    text: Answer
    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class ChatClient:
    """`model` at the base address `url` (up to and with /v1).

    The key is read from POLYLENS_API_KEY or OPENAI_API_KEY; a server that asks for none gets none.
    `served` counts the names by which the server called the answering model, and `tokens` what it counted.
    """

    url: str
    model: str
    timeout: float = 120.0
    retries: int = 6
    concurrency: int = 8
    served: Counter[str] = field(default_factory=Counter, init=False)
    tokens: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        try:
            import openai
        except ImportError as error:
            raise UserError("Endpoints need the package openai: pip install 'polylens[endpoint]'.") from error
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0:
            raise UserError(
                f"concurrency={self.concurrency}, retries={self.retries}, timeout={self.timeout}: these must be "
                "at least 1, at least 0, and above 0."
            )
        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), NO_KEY)
        # Its types know no plain mappings, which are all that a request is made of here.
        self._openai: Any = openai
        self._client: Any = openai.OpenAI(
            base_url=self.url, api_key=key, timeout=self.timeout, max_retries=self.retries
        )
        self._lock = threading.Lock()

    @classmethod
    def named(cls, name: str, **settings: Any) -> "ChatClient":
        """The client of "https://HOST/v1#MODEL". Raises `UserError` when the model is missing."""
        url, _, model = name.partition("#")
        if not model or "://" not in url:
            raise UserError(f"'{name}' names no model: write it as https://HOST/v1#MODEL.")
        return cls(url.rstrip("/"), model, **settings)

    def ask(self, messages: Sequence[Message], *, max_tokens: int, **settings: Any) -> Reply:
        """One answer at temperature 0. Raises `UserError` when there is none after all tries."""
        for attempt in range(self.retries + 1):
            completion = self._complete(messages, max_tokens=max_tokens, temperature=0, **settings)
            reply = _reply(completion)
            if reply is not None:
                with self._lock:
                    self.served[reply.model] += 1
                    self.tokens["prompt"] += reply.prompt_tokens
                    self.tokens["completion"] += reply.completion_tokens
                return reply
            if attempt < self.retries:
                time.sleep(min(0.5 * 2**attempt, 8))
        raise UserError(
            f"'{self.url}' answered {self.retries + 1} times without a chat completion: is it OpenAI-compatible?"
        )

    def _complete(self, messages: Sequence[Message], **settings: Any) -> Any:
        """The completion as the package gives it, None where it is no JSON."""
        errors = self._openai
        tries = f"after {self.retries + 1} tries"
        try:
            return self._client.chat.completions.create(model=self.model, messages=messages, **settings)
        except errors.APITimeoutError as error:
            raise UserError(
                f"'{self.url}' did not answer within {self.timeout:g} s {tries}: allow more time or fewer "
                "requests at once."
            ) from error
        except errors.APIConnectionError as error:
            reason = error.__cause__ or error
            raise UserError(
                f"'{self.url}' cannot be reached {tries} ({_short(reason)}): is it up?"
            ) from error
        except errors.APIStatusError as error:
            status = error.status_code
            remedy = {
                401: f": set {KEYS[0]} to a key that it takes",
                403: f": set {KEYS[0]} to a key that may use '{self.model}'",
                404: f": is '{self.model}' the name of a model there, and does the address end in /v1?",
                429: f", {tries}: allow fewer requests at once, or try later",
            }.get(status, f", {tries}" if status >= 500 else "")
            raise UserError(f"'{self.url}' answers HTTP {status} ({_short(error)}){remedy}.") from error
        except (errors.APIResponseValidationError, ValueError):
            return None


def map_concurrently(
    function: Callable[[Item], Result], items: Sequence[Item], concurrency: int
) -> Iterator[tuple[int, Result]]:
    """(place, result) as results get ready; the first error ends it, and what has not begun is left."""
    errors: list[BaseException] = []

    def guarded(item: Item) -> Result:
        if errors:
            raise CancelledError
        try:
            return function(item)
        except BaseException as error:
            errors.append(error)
            raise

    pool = ThreadPoolExecutor(concurrency)
    try:
        places = {pool.submit(guarded, item): place for place, item in enumerate(items)}
        for future in as_completed(places):
            if future.exception() is not None:
                raise errors[0]
            yield places.pop(future), future.result()
    finally:
        errors.append(CancelledError())
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Estimate:
    """What many requests will take, before the first is sent; `dollars` is None without prices."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None

    def __str__(self) -> str:
        cost = "prices unknown" if self.dollars is None else f"about ${self.dollars:.2f}"
        return (
            f"{self.requests:,} requests, about {self.prompt_tokens:,} tokens in and at most "
            f"{self.completion_tokens:,} out: {cost}"
        )


@dataclass(frozen=True)
class Prices:
    """Dollars for a million tokens read and written."""

    prompt: float
    completion: float


def estimate(requests: int, prompt_tokens: int, completion_tokens: int, prices: Prices | None) -> Estimate:
    """The estimate in money, where prices are known."""
    dollars = None
    if prices is not None:
        dollars = (prompt_tokens * prices.prompt + completion_tokens * prices.completion) / 1e6
    return Estimate(requests, prompt_tokens, completion_tokens, dollars)


def text_tokens(text: str) -> int:
    """About how many tokens a text has; tokenizers differ."""
    return -(-len(text.encode("utf-8")) // BYTES_PER_TOKEN)


def image_tokens(width: int, height: int) -> int:
    """Tokens of a picture by the tile rule that OpenAI published for GPT-4o in high detail; others count differently.

    The picture is scaled down into 2,048 x 2,048, then its short side to 768; 85 tokens and 170 for each tile of 512.
    """
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    tiles = -(-round(width * scale) // 512) * -(-round(height * scale) // 512)
    return 85 + 170 * tiles


def _reply(completion: Any) -> Reply | None:
    """The reply, or None where something else than a chat completion came."""
    choices = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    if message is None or not choices:
        return None
    usage = completion.usage
    # A refusal has no content: it is an empty answer, which is wrong, not an error.
    return Reply(
        text=Answer(
            message.content or "",
            "length" if getattr(choices[0], "finish_reason", None) == "length" else "stop",
        ),
        model=str(completion.model or ""),
        prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
        completion_tokens=getattr(usage, "completion_tokens", None) or 0,
    )


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= MESSAGE_LENGTH else text[:MESSAGE_LENGTH] + "..."
