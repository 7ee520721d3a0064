"""The family of painters: known by their files, described, and never taken for a model that answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from polylens.errors import UserError
from polylens.models.checkpoints.card import MANIFEST as CHECKPOINT
from polylens.models.checkpoints.families import Family, Loading
from polylens.models.checkpoints.inventory import read_headers
from polylens.painting.config import MANIFEST

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo

# Beginnings of the tensor names of each part, in our folders and in VisCPM-Paint's released file.
FOLDER = {"bridge": ("bridge.",), "denoiser": ("denoiser.",)}
RELEASED = {
    "bridge": ("trans_block.",),
    "denoiser": ("unet.",),
    "autoencoder": ("vae.",),
    "language_model": ("llm.",),
}


class PainterFamily(Family):
    name = "painter"
    title = "a painter"

    def matches(self, path: Path) -> bool:
        if path.is_dir() and (path / MANIFEST).is_file():
            return True
        if path.is_dir() and any((path / name).is_file() for name in (CHECKPOINT, "config.json")):
            return False
        return any(tensor.name.startswith("trans_block.") for tensor in read_headers(path))

    def load(self, path: Path, loading: Loading) -> NoReturn:
        raise UserError(
            f"'{path}' is a painter, as VisCPM-Paint is: it draws pictures and answers nothing; use "
            f"`polylens paint {path} PROMPT`, or give a VisCPM-Chat."
        )

    def export(self, path: Path, loading: Loading, out: Path) -> None:
        from polylens.models.parts.lora import merge_lora
        from polylens.painting.folder import load_painter, save_painter

        painter = load_painter(path, loading.dtype)
        merge_lora(painter)
        save_painter(painter, out, {"exported_from": loading.name or str(path)}, standalone=True)

    def describe(self, path: Path) -> "ModelInfo":
        from polylens.models.checkpoints.info import describe_names

        if not path.is_dir() or not (path / MANIFEST).is_file():
            return describe_names(path, "VisCPM-Paint", RELEASED)
        languages = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["config"]["text"]["languages"]
        return describe_names(path, "painter: text to image", FOLDER, languages)


FAMILY = PainterFamily()
