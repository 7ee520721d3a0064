"""The data check of a recipe's samples against its model, before training and for `polylens inspect`."""

import logging
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from polylens.data.check import TextFit, check_texts, text_warnings
from polylens.data.sample import Sample
from polylens.languages import language
from polylens.models.checkpoints.card import MANIFEST, known_languages
from polylens.models.checkpoints.folder import TOKENIZER
from polylens.models.checkpoints.manifest import read_manifest
from polylens.models.checkpoints.registry import resolve_model

logger = logging.getLogger(__name__)


def check_model(model: Any, samples: Sequence[Sample], max_length: int | None = None) -> list[TextFit]:
    """How the samples' answers fit a model's tokenizer and languages."""
    return _check(samples, model.tokenizer, model.config.language_model.languages, max_length)


def check_named(name: str, samples: Sequence[Sample]) -> list[TextFit]:
    """The same of a model by its name; its weights are not loaded."""
    folder = resolve_model(name, weights=False)
    places = [folder / TOKENIZER, folder]
    if (folder / MANIFEST).is_file():
        path = read_manifest(folder)[0]["parts"]["language_model"]["path"]
        places.insert(1, resolve_model(path, relative_to=folder, weights=False))
    place = next((each for each in places if (each / "tokenizer_config.json").is_file()), None)
    tokenizer = None if place is None else AutoTokenizer.from_pretrained(place)
    return _check(samples, tokenizer, known_languages(name), None)


def _check(
    samples: Sequence[Sample], tokenizer: Any, languages: list[str] | None, max_length: int | None
) -> list[TextFit]:
    known = None if languages is None else {language(code).code for code in languages}
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return check_texts(samples, None, None, known, None)

    def tokenize(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    return check_texts(samples, tokenize, tokenizer.unk_token_id, known, max_length)


def warn_before_training(model: Any, samples: Sequence[Sample], max_length: int | None) -> None:
    """Warn of what is likely to spoil the training."""
    for sentence in text_warnings(check_model(model, samples, max_length)):
        logger.warning("%s", sentence)


def fit_table(texts: Sequence[TextFit]) -> Table:
    """The languages as rows."""
    table = Table(title="How the captions fit the model", title_justify="left")
    for heading in ("language", "samples", "repeated", "known", "can be written", "median tokens", "longest"):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for each in texts:
        known = {True: "yes", False: "no", None: "not said"}[each.known]
        numbers = (f"{each.samples:,}", f"{each.repeated:,}", known, f"{each.sayable:.1%}")
        table.add_row(language(each.language).name, *numbers, f"{each.tokens:g}", f"{each.longest}")
    return table
