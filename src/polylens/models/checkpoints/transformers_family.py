"""The family of transformers' own image-text-to-text models: Qwen3-VL, Gemma 3, SmolVLM2, Aya Vision and others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from polylens.models.checkpoints.blip2_files import MODEL_TYPE as BLIP2_TYPE
from polylens.models.checkpoints.card import card_languages
from polylens.models.checkpoints.families import Family, Loading

if TYPE_CHECKING:
    from polylens.models.checkpoints.model_info import ModelInfo
    from polylens.models.transformers_model import TransformersModel


class TransformersFamily(Family):
    name = "transformers"
    title = "an image-text-to-text model of transformers"

    def matches(self, path: Path) -> bool:
        # BLIP-2 folders are told apart here: the family `blip2` runs them faster, and reads those of transformers 4.
        kind = _model_type(path)
        if kind is None or kind == BLIP2_TYPE:
            return False
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

        return kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    def load(self, path: Path, loading: Loading) -> "TransformersModel":
        from polylens.models.transformers_model import TransformersModel

        return TransformersModel.from_pretrained(
            path, loading.dtype, loading.quantization, card_languages(path)
        )

    def describe(self, path: Path) -> "ModelInfo":
        from polylens.models.checkpoints.info import describe_part

        return describe_part(path)


def _model_type(path: Path) -> str | None:
    try:
        return json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


FAMILY = TransformersFamily()
