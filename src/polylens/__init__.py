"""Polylens: vision-language models for any language, out of parts that exist.

    import polylens

    model = polylens.load("picto")
    model.caption("cat.png", lang="sw")
    model.ask("cat.png", "What is this?")

What `__all__` lists is public (docs/library.md); every other name may change. Names are imported when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from polylens.data.sample import Sample, Turn
    from polylens.errors import UserError
    from polylens.languages import LANGUAGES, Language, language
    from polylens.library import evaluate, load, train, translate
    from polylens.recipe import Recipe, load_recipe

__all__ = [
    "LANGUAGES",
    "Language",
    "Recipe",
    "Sample",
    "Turn",
    "UserError",
    "evaluate",
    "language",
    "load",
    "load_recipe",
    "train",
    "translate",
]

_PLACES = {
    "polylens.data.sample": ("Sample", "Turn"),
    "polylens.errors": ("UserError",),
    "polylens.languages": ("LANGUAGES", "Language", "language"),
    "polylens.library": ("evaluate", "load", "train", "translate"),
    "polylens.recipe": ("Recipe", "load_recipe"),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'polylens' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
