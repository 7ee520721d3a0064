"""Engines: what turns texts of one language into another. Packages register more as `polylens.translators`.

An entry point's value is a function `(settings: EngineSettings) -> Engine`.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from polylens.errors import UserError

logger = logging.getLogger(__name__)

GROUP = "polylens.translators"
EXTRA = "translation"


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


def _nllb(settings: EngineSettings) -> Engine:
    if importlib.util.find_spec("ctranslate2") is None:
        logger.warning(
            "CTranslate2 is not installed, so transformers translates, many times slower: pip install"
            " 'polylens[%s]'.",
            EXTRA,
        )
        return _transformers(replace(settings, engine="transformers"))
    from polylens.data.translation.nllb_ctranslate2 import CTranslate2Engine

    return CTranslate2Engine(settings)


def _transformers(settings: EngineSettings) -> Engine:
    from polylens.data.translation.nllb_transformers import TransformersEngine

    return TransformersEngine(settings)


BUILT_IN: dict[str, Callable[[EngineSettings], Engine]] = {"nllb": _nllb, "transformers": _transformers}


def engine_names() -> list[str]:
    """The engines that are built in, and those that installed packages register."""
    return [*BUILT_IN, *sorted(point.name for point in entry_points(group=GROUP))]


def open_engine(settings: EngineSettings) -> Engine:
    """The engine that `settings` name, ready to translate. Raises `UserError` when there is none of that name."""
    if settings.engine in BUILT_IN:
        return BUILT_IN[settings.engine](settings)
    for point in entry_points(group=GROUP):
        if point.name == settings.engine:
            engine: Engine = point.load()(settings)
            return engine
    raise UserError(f"No engine '{settings.engine}': choose one of {', '.join(engine_names())}.")
