"""A generated text that says whether it ended by itself, as chat endpoints say it of theirs."""

from collections.abc import Iterable
from typing import Literal

FinishReason = Literal["stop", "length"]


class Answer(str):
    """The text; `finish_reason` is "stop" where the model ended it, "length" where the limit of tokens cut it."""

    finish_reason: FinishReason

    def __new__(cls, text: str, finish_reason: FinishReason = "stop") -> "Answer":
        made = super().__new__(cls, text)
        made.finish_reason = finish_reason
        return made


def finish_reason(text: str) -> FinishReason:
    """How a text ended; one that nothing was said of ended by itself."""
    return text.finish_reason if isinstance(text, Answer) else "stop"


def num_cut(texts: Iterable[str]) -> int:
    """How many of the texts were cut."""
    return sum(finish_reason(text) == "length" for text in texts)
