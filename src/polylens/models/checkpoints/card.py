"""Which languages a model says it knows: in its checkpoint's config, or in its model card. Needs no torch."""

import json
from pathlib import Path

import yaml

from polylens.errors import UserError
from polylens.languages import language
from polylens.models.checkpoints.registry import resolve_model

MANIFEST = "polylens.json"
CARD = "README.md"
FENCE = "---"


def known_languages(name_or_path: str | Path) -> list[str] | None:
    """The codes that the language model of a checkpoint or model folder knows; None if it does not say.

    Raises `UserError` when there is no such model, or its config is damaged.
    """
    folder = resolve_model(name_or_path)
    if not (folder / MANIFEST).is_file():
        return card_languages(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["config"]["language_model"]["languages"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{folder / MANIFEST}' is damaged ({error!r}): save the checkpoint again."
        ) from error


def card_languages(folder: Path) -> list[str] | None:
    """The codes under `language` in the head of the folder's README.md; None where there are none.

    What is no language of ours, such as "multilingual" or "code", is passed over.
    """
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not text.startswith(FENCE):
        return None
    try:
        head = yaml.safe_load(text.split(FENCE, 2)[1])
    except yaml.YAMLError:
        return None
    named = head.get("language") if isinstance(head, dict) else None
    codes: dict[str, None] = {}
    for code in [named] if isinstance(named, str) else named or []:
        try:
            # YAML reads a bare `no`, Norwegian, as false.
            codes[language("no" if code is False else str(code)).code] = None
        except UserError:
            continue
    return list(codes) or None
