"""The engines by name. Packages register more as `polylens.translators`.

An entry point's value is a function `(settings: EngineSettings) -> Engine`.
"""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points

from polylens.data.translation.engine import Engine, EngineSettings
from polylens.errors import UserError

logger = logging.getLogger(__name__)

GROUP = "polylens.translators"
EXTRA = "translation"


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
