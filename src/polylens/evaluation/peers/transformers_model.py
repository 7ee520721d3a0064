"""Any image-text-to-text model of transformers, with its own processor, as a predictor."""

from pathlib import Path
from typing import Any

import torch
import transformers

from polylens.evaluation.predictor import LocalPredictor
from polylens.files import sha256_folder
from polylens.models.transformers_model import TransformersModel


class TransformersPredictor(LocalPredictor):
    """The model of a folder or hub id. Raises `UserError` when transformers cannot load it."""

    def __init__(self, path: str, dtype: str = "auto", device: str | None = None) -> None:
        model = TransformersModel.from_pretrained(path, dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        super().__init__(model, Path(path).name if Path(path).exists() else path)
        self.settings: dict[str, Any] = {
            "transformers_model": path,
            "model_sha256": sha256_folder(path) if Path(path).is_dir() else "",
            "dtype": str(model.lm.dtype).removeprefix("torch."),
            "transformers": transformers.__version__,
            "prompt": "chat template" if model.has_template else "pictures, then the prompt",
        }
