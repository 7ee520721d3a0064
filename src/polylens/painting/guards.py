"""What may stand around a painter, each a folder, packaged name or hub id of transformers: checks and a reranker."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from polylens.errors import UserError
from polylens.models.checkpoints.registry import resolve_model

UNSAFE = ("nsfw", "unsafe", "toxic", "harmful", "porn", "sexy", "hentai", "offensive", "hate")
THRESHOLD = 0.5


class Check:
    """A classifier whose `unsafe` labels block from a probability of `threshold` on, all of them together."""

    kind: ClassVar[Any]
    reader_kind: ClassVar[Any]

    def __init__(
        self,
        path: str,
        unsafe: Sequence[str] | None = None,
        threshold: float = THRESHOLD,
        device: torch.device | str = "cpu",
    ) -> None:
        self.path, self.threshold = path, threshold
        source = resolve_model(path)
        try:
            self.model: PreTrainedModel = self.kind.from_pretrained(source).to(device).eval()
            self.reader = self.reader_kind.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(f"No classifier can be loaded from '{path}': {error}") from error
        labels = {int(i): str(label).lower() for i, label in self.model.config.id2label.items()}
        wanted = [label.lower() for label in unsafe or UNSAFE]
        self.places = [i for i, label in labels.items() if label in wanted]
        if not self.places:
            raise UserError(
                f"None of the labels of '{path}' ({', '.join(labels.values())}) is known to be unsafe: name those "
                "that are with --unsafe."
            )

    @torch.no_grad()
    def unsafe(self, inputs: Any) -> list[float]:
        """The probability (N,) of the unsafe labels."""
        logits = self.model(**inputs.to(self.model.device)).logits.float()
        if self.model.config.problem_type == "multi_label_classification":
            return logits.sigmoid()[:, self.places].amax(1).tolist()
        return logits.softmax(-1)[:, self.places].sum(1).tolist()


class PromptCheck(Check):
    """Blocks prompts."""

    kind = AutoModelForSequenceClassification
    reader_kind = AutoTokenizer

    def refused(self, prompt: str) -> str | None:
        """Why the prompt is blocked; None if it is not."""
        limit = _longest(self.reader, self.model.config)
        inputs = self.reader([prompt], return_tensors="pt", truncation=True, max_length=limit)
        found = self.unsafe(inputs)[0]
        return None if found < self.threshold else f"'{self.path}' finds the prompt unsafe ({found:.2f})"


class ImageCheck(Check):
    """Blocks images."""

    kind = AutoModelForImageClassification
    reader_kind = AutoImageProcessor

    def refused(self, images: Sequence[Image.Image]) -> list[str | None]:
        """For each image why it is blocked; None if it is not."""
        found = self.unsafe(self.reader(list(images), return_tensors="pt"))
        return [
            None if one < self.threshold else f"'{self.path}' finds the image unsafe ({one:.2f})"
            for one in found
        ]


class Reranker:
    """A dual encoder (CLIP, Chinese-CLIP, SigLIP 2, ...) that says how well images fit a prompt."""

    def __init__(self, path: str, device: torch.device | str = "cpu") -> None:
        source = resolve_model(path)
        try:
            self.model = AutoModel.from_pretrained(source).to(device).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(source)
            self.processor = AutoImageProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(f"No reranker can be loaded from '{path}': {error}") from error
        if not hasattr(self.model, "get_text_features") or not hasattr(self.model, "get_image_features"):
            raise UserError(f"'{path}' is no dual encoder of texts and images: give a CLIP, or one like it.")

    @torch.no_grad()
    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        """The cosine similarity of each image to the prompt."""
        # Padded whole: some of these models read the state at the last place.
        limit = _longest(self.tokenizer, self.model.config.text_config)
        text = self.tokenizer(
            [prompt], return_tensors="pt", padding="max_length", truncation=True, max_length=limit
        )
        said = _pooled(self.model.get_text_features(**text.to(self.model.device)))
        pixels = self.processor(list(images), return_tensors="pt").to(self.model.device)
        seen = _pooled(self.model.get_image_features(**pixels))
        return torch.nn.functional.cosine_similarity(said, seen).tolist()


def _pooled(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _longest(tokenizer: Any, config: Any) -> int:
    return min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
