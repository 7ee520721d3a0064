"""What clients send, as OpenAI's chat completions have it, and what is refused.

A field that is null is one that was left out. A field that is not known here is an error: nothing is ignored silently.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_TURNS, MOST_CHOICES, MOST_LANGUAGES = 200, 16, 100
MOST_TOKENS = 1_000_000
Number = Annotated[float, Field(allow_inf_nan=False)]
StopText = Annotated[str, Field(min_length=1, max_length=200)]


class Strict(BaseModel):
    """Takes what it knows, in the right types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return (
            {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value
        )


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    """`detail` changes nothing: every picture is seen at the model's own size."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=MOST_TURNS)]


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TextFormat(Strict):
    type: Literal["text"]


EXAMPLE: dict[str, Any] = {
    "model": "picto",
    "messages": [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}],
        }
    ],
    "languages": ["de", "sw", "zh"],
}


class ChatRequest(Strict):
    """A conversation to answer. Without a temperature the answer is the likeliest one (greedy search).

    `language` asks for the answer in that language, and the reply says whether it is. `languages` asks for one answer
    in each, in the order given. A question without text asks for a caption.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_TURNS)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[Number, Field(ge=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] = Field(default_factory=list)
    language: str | None = None
    languages: Annotated[list[str], Field(min_length=1, max_length=MOST_LANGUAGES)] | None = None
    # Whoever asks is not looked at; the others may only have the values that change nothing.
    user: str | None = None
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0
    logprobs: Literal[False] = False
    response_format: TextFormat | None = None

    @property
    def max_new_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class TokenizeRequest(Strict):
    """A prompt, or messages, as the model would read them."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_TURNS)] | None = None
