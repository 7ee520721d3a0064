"""The contract of a translation engine, and its settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class EngineSettings:
    """Which engine, and how it works: enough to open the same one in another process.

    `model` is a folder; `beams` those of the search (1 is greedy); `precision` one of CTranslate2's compute
    types, None for int8 (with float16 on a GPU); `threads` of one engine, None for all cores.
    """

    engine: str = "nllb"
    model: Path | None = None
    beams: int = 4
    precision: str | None = None
    threads: int | None = None


class Engine(Protocol):
    """`fingerprint` names all that decides a translation, its weights by content: it is part of cache keys.

    An `exact` one looks texts up: it is shown them whole, gives none rather than a wrong one, and passes without
    the quality gate.
    """

    fingerprint: str
    exact: bool

    def check(self, source: str, targets: Sequence[str]) -> None:
        """Raise `UserError` if a language, given by BCP 47 code, is not among the engine's."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """One translation for each text, whatever else is in the batch; None where the engine has none, or one that
        was cut at its limit of tokens.
        """
