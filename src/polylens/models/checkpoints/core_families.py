"""The families that `VisionLanguageModel` reads: our own checkpoints, and BLIP-2 (mBLIP) folders."""

from pathlib import Path
from typing import TYPE_CHECKING

from polylens.models.checkpoints.blip2_files import is_blip2
from polylens.models.checkpoints.card import MANIFEST
from polylens.models.checkpoints.families import Family, Loading

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo
    from polylens.models.vlm import VisionLanguageModel


class Checkpoint(Family):
    """Folders that training writes: `polylens.json` beside what was trained."""

    name = "polylens"
    title = "a Polylens checkpoint"

    def matches(self, path: Path) -> bool:
        return (path / MANIFEST).is_file()

    def load(self, path: Path, loading: Loading) -> "VisionLanguageModel":
        from polylens.models.checkpoints.folder import load_model

        return load_model(path, loading.dtype, loading.quantization)

    def export(self, path: Path, loading: Loading, out: Path) -> None:
        from polylens.models.checkpoints.folder import load_model, save_model
        from polylens.models.parts.lora import merge_lora

        model = load_model(path, loading.dtype)
        merge_lora(model)
        save_model(model, out, {"exported_from": loading.name or str(path)}, standalone=True)

    def describe(self, path: Path) -> "ModelInfo":
        from polylens.models.checkpoints.info import describe_checkpoint

        return describe_checkpoint(path)

    def skeleton(self, path: Path) -> "VisionLanguageModel":
        from polylens.models.checkpoints.skeleton import checkpoint_skeleton

        return checkpoint_skeleton(path)


class Blip2(Checkpoint):
    """BLIP-2 and mBLIP, as transformers 4 and 5 write them."""

    name = "blip2"
    title = "a BLIP-2 (mBLIP) folder"

    def matches(self, path: Path) -> bool:
        return path.is_dir() and is_blip2(path) and not (path / MANIFEST).is_file()

    def describe(self, path: Path) -> "ModelInfo":
        from polylens.models.checkpoints.info import describe_blip2

        return describe_blip2(path)

    def skeleton(self, path: Path) -> "VisionLanguageModel":
        from polylens.models.checkpoints.skeleton import blip2_skeleton

        return blip2_skeleton(str(path))


CHECKPOINT, BLIP2 = Checkpoint(), Blip2()
