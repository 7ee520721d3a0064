"""The family of VisCPM-Chat and CPM-Bee: converted folders, what was trained over them, and released files beside
their vocabulary.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polylens.errors import UserError
from polylens.models.checkpoints.card import MANIFEST as CHECKPOINT
from polylens.models.checkpoints.families import Family, Loading
from polylens.models.checkpoints.inventory import read_headers
from polylens.viscpm.cpm_bee.tokenizer import LANGUAGES, VOCABULARY

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo
    from polylens.viscpm.model import VisCpmChat

TRAINED = "viscpm.json"
# Beginnings of the tensor names of each part.
CHAT = {
    "vision": ("vpm.",),
    "resampler": ("query",),
    "projector": ("mapping.",),
    "language_model": ("llm.",),
}
CPM_BEE = {"language_model": ("encoder.", "input_embedding.", "position_bias.")}


class VisCpmFamily(Family):
    name = "viscpm"
    title = "VisCPM-Chat or CPM-Bee"
    streams = True
    released = (
        "openbmb/VisCPM-Chat",
        "openbmb/VisCPM-Chat/viscpm_chat_balance_checkpoint.pt",
        "openbmb/VisCPM-Chat/viscpm_chat_zhplus_checkpoint.pt",
    )

    def matches(self, path: Path) -> bool:
        return self._converted(path) or _is_trained(path) or _is_released(path)

    def load(self, path: Path, loading: Loading) -> "VisCpmChat":
        if _is_trained(path):
            from polylens.viscpm.trained import base_of, load_trained

            name, source = base_of(path)
            return load_trained(self.load(source, replace(loading, name=name)), path).eval()
        model = self._load_whole(path, loading)
        model.base = loading.name if loading.name and not Path(loading.name).exists() else str(path)
        return model

    def _load_whole(self, path: Path, loading: Loading) -> "VisCpmChat":
        from polylens.viscpm.model import VisCpmChat

        if self._converted(path):
            settings = (loading.dtype, loading.quantization, loading.stream)
            return VisCpmChat.from_pretrained(path, *settings).eval()
        if loading.quantization or loading.stream:
            raise UserError(
                f"'{path}' is VisCPM-Chat as it was released, which loads whole: `polylens convert` makes a folder "
                "that loads in 8 or 4 bits and streams."
            )
        return VisCpmChat.from_released(path, loading.dtype).eval()

    def export(self, path: Path, loading: Loading, out: Path) -> None:
        from polylens.models.parts.lora import merge_lora
        from polylens.viscpm.files import save_folder

        model = self.load(path, loading)
        merge_lora(model)
        save_folder(model.model, model.tokenizer, out)

    def describe(self, path: Path) -> "ModelInfo":
        from polylens.models.checkpoints.info import describe_names
        from polylens.viscpm.files import is_cpm_bee

        if _is_trained(path):
            from polylens.viscpm.trained import base_of

            name, source = base_of(path, check=False)
            found = self.describe(source)
            return replace(
                found, path=str(path), notes=[*found.notes, f"trained over {name}, whose sizes these are"]
            )
        if path.is_dir() and is_cpm_bee(path):
            return describe_names(path, "CPM-Bee", CPM_BEE, LANGUAGES)
        return describe_names(path, "VisCPM-Chat", CHAT, LANGUAGES)

    def skeleton(self, path: Path) -> "VisCpmChat":
        from polylens.viscpm.model import VisCpmChat

        if _is_trained(path):
            from polylens.viscpm.trained import base_of

            path = base_of(path, check=False)[1]
        return VisCpmChat.skeleton(path)

    def _converted(self, path: Path) -> bool:
        from polylens.viscpm.files import is_cpm_bee, is_viscpm

        return path.is_dir() and (is_viscpm(path) or is_cpm_bee(path))


def _is_trained(path: Path) -> bool:
    return (path / TRAINED).is_file()


def _is_released(path: Path) -> bool:
    """A weight file of VisCPM-Chat, or a folder with such files and no config that says otherwise."""
    if path.is_dir():
        named = any((path / name).is_file() for name in (CHECKPOINT, "painter.json", "config.json"))
        if (path / CHECKPOINT).is_file() or (named and not (path / VOCABULARY).is_file()):
            return False
    return any(tensor.name.startswith("vpm.") for tensor in read_headers(path))


FAMILY = VisCpmFamily()
