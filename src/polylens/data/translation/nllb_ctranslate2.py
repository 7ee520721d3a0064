"""NLLB through CTranslate2: about ten times as fast as transformers on a CPU, in int8."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2

from polylens.data.rows import read_json
from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.nllb import (
    MAX_NEW_TOKENS,
    MAX_TOKENS,
    TOKENIZER,
    NllbTokenizer,
    fingerprint,
    model_folder,
)
from polylens.errors import UserError
from polylens.files import cache_folder, make_writable_folder, sha256_folder

ARCHITECTURE = "m2m_100"
CONVERTED = "model.bin"


class CTranslate2Engine:
    """Settings' `model` is a converted folder, or one of transformers, which is converted once and kept."""

    exact = False

    def __init__(self, settings: EngineSettings):
        folder = model_folder(settings.model)
        device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        precision = settings.precision or ("int8_float16" if device == "cuda" else "int8")
        supported = sorted(ctranslate2.get_supported_compute_types(device))
        if precision not in supported:
            raise UserError(
                f"The precision '{precision}' is not supported here ({device}): choose from {', '.join(supported)}."
            )
        if not (folder / CONVERTED).is_file():
            folder = converted(folder, precision)
        self.tokenizer = NllbTokenizer(folder)
        self.fingerprint = fingerprint(folder, "ctranslate2", precision, settings.beams)
        self._beams = settings.beams
        try:
            self._translator = ctranslate2.Translator(
                str(folder), device=device, compute_type=precision, intra_threads=settings.threads or 0
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"CTranslate2 cannot load '{folder}' ({error}): convert it anew.") from error

    def check(self, source: str, targets: Sequence[str]) -> None:
        for code in (source, *targets):
            self.tokenizer.language_token(code)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        encoded = self.tokenizer.encode(texts, source)
        target_token = self.tokenizer.language_token(target)
        inputs = [[self.tokenizer.token_of(i) for i in ids] for ids in encoded if ids is not None]
        results = iter(
            self._translator.translate_batch(
                inputs,
                target_prefix=[[target_token]] * len(inputs),
                beam_size=self._beams,
                max_input_length=MAX_TOKENS + 2,
                max_decoding_length=MAX_NEW_TOKENS,
                return_end_token=True,
            )
        )
        # The first token of a result is the target language.
        return [None if ids is None else self._decode(next(results).hypotheses[0][1:]) for ids in encoded]

    def _decode(self, tokens: Sequence[str]) -> str | None:
        return self.tokenizer.decode([self.tokenizer.id_of(token) for token in tokens])


def converted(folder: Path, precision: str) -> Path:
    """The CTranslate2 format of a transformers folder, converted on first use and kept beside the cache.

    Raises `UserError` for a folder that holds no NLLB model.
    """
    _check_architecture(folder)
    kept = cache_folder("ctranslate2") / f"{sha256_folder(folder)[:32]}-{precision}"
    if kept.is_dir():
        return kept
    # A folder appears under its name when it is whole.
    with tempfile.TemporaryDirectory(dir=make_writable_folder(kept.parent)) as temporary:
        made = Path(temporary) / "model"
        _convert(folder, made, precision)
        try:
            os.rename(made, kept)
        except OSError:
            # Another process was faster.
            if not kept.is_dir():
                raise
    return kept


def _check_architecture(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"'{folder}' has no readable config.json: give a model folder.")
    config: Any = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != ARCHITECTURE:
        raise UserError(f"'{folder}' is a model of type '{kind}', and NLLB's is '{ARCHITECTURE}'.")


def _convert(folder: Path, out: Path, precision: str) -> None:
    from ctranslate2.converters import TransformersConverter
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    try:
        TransformersConverter(str(folder), low_cpu_mem_usage=True).convert(str(out), quantization=precision)
        if (folder / TOKENIZER).is_file():
            shutil.copyfile(folder / TOKENIZER, out / TOKENIZER)
        else:
            AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"'{folder}' cannot be converted for CTranslate2: {error}.") from error
