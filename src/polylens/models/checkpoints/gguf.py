"""Language models in GGUF files: dequantised once by transformers, and kept as a folder of safetensors in the cache."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from polylens.errors import UserError
from polylens.files import cache_folder, make_writable_folder, sha256_file
from polylens.pretrained import load_whole

logger = logging.getLogger(__name__)


def converted(path: Path) -> Path:
    """The folder of the model in a GGUF file, in bfloat16: made at the first call, found by the file's SHA-256 later.

    Raises `UserError` for a file that transformers cannot read, and where the package gguf is absent.
    """
    root = make_writable_folder(cache_folder("gguf"))
    folder = root / sha256_file(path)[:32]
    if folder.is_dir():
        return folder
    try:
        import gguf  # noqa: F401 (what transformers reads such files with)
    except ImportError as error:
        raise UserError(
            f"Reading '{path}' needs the package gguf, which is not installed: pip install 'polylens[gguf]'."
        ) from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.warning("'%s' is converted once, which takes a minute or two.", path.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = load_whole(
            AutoModelForCausalLM, path.parent, name=path, gguf_file=path.name, dtype=torch.bfloat16
        )
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UserError(f"No language model can be read from '{path}': {error}") from error
    half = Path(tempfile.mkdtemp(dir=root))
    try:
        model.save_pretrained(half)
        tokenizer.save_pretrained(half)
        os.replace(half, folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder
