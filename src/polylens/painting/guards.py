"""What may stand around a painter or a chat, each a folder, packaged name or hub id: checks and a reranker.

A model whose files lack some of its weights is refused: it would judge at random.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CLIPConfig,
    CLIPVisionModel,
    PreTrainedModel,
)

from polylens.errors import UserError
from polylens.models.checkpoints.registry import resolve_model
from polylens.pretrained import load_whole

UNSAFE = ("nsfw", "unsafe", "toxic", "harmful", "porn", "sexy", "hentai", "offensive", "hate")
THRESHOLD = 0.5
CONCEPTS = "StableDiffusionSafetyChecker"
SPECIAL_CARE = 0.01  # what a concept that asks for care adds to all others
# transformers 5 took one level out of CLIP's vision model.
RENAMED = {r"^vision_model\.vision_model\.": "vision_model."}


class Check:
    """A classifier whose `unsafe` labels block above a probability of `threshold`, all of them together."""

    kind: ClassVar[Any]
    reader_kind: ClassVar[Any]
    option: ClassVar[str]

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
            self.model: PreTrainedModel = load_whole(self.kind, source, name=path).to(device).eval()
            self.reader = self.reader_kind.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(f"No classifier can be loaded from '{path}': {error}") from error
        labels = {int(i): str(label).lower() for i, label in self.model.config.id2label.items()}
        wanted = [label.lower() for label in unsafe or UNSAFE]
        self.places = [i for i, label in labels.items() if label in wanted]
        if not self.places:
            raise UserError(
                f"None of the labels of '{path}' ({', '.join(labels.values())}) is known to be unsafe: name those "
                f"that are with {self.option}."
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
    option = "--unsafe-prompt"

    def refused(self, prompt: str) -> str | None:
        """Why the prompt is blocked; None if it is not."""
        limit = _longest(self.reader, self.model.config)
        inputs = self.reader([prompt], return_tensors="pt", truncation=True, max_length=limit)
        found = self.unsafe(inputs)[0]
        return None if found <= self.threshold else f"'{self.path}' finds the prompt unsafe ({found:.2f})"


class ImageCheck(Check):
    """Blocks images."""

    kind = AutoModelForImageClassification
    reader_kind = AutoImageProcessor
    option = "--unsafe-image"

    def refused(self, images: Sequence[Image.Image]) -> list[str | None]:
        """For each image why it is blocked; None if it is not."""
        found = self.unsafe(self.reader(list(images), return_tensors="pt"))
        return [
            None if one <= self.threshold else f"'{self.path}' finds the image unsafe ({one:.2f})"
            for one in found
        ]


class SafetyChecker(PreTrainedModel):
    """CompVis' safety checker of Stable Diffusion: a CLIP that looks, and embeddings of what is not to be shown.

    Each of its concepts has a threshold of cosine similarity. Of the concepts that ask for care, one found lowers all
    other thresholds.
    """

    config_class = CLIPConfig
    main_input_name = "pixel_values"

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__(config)
        width = config.projection_dim
        self.vision_model = CLIPVisionModel(config.vision_config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, width, bias=False)
        self.concept_embeds = nn.Parameter(torch.ones(17, width))
        self.special_care_embeds = nn.Parameter(torch.ones(3, width))
        self.concept_embeds_weights = nn.Parameter(torch.ones(17))
        self.special_care_embeds_weights = nn.Parameter(torch.ones(3))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pixels to how far each picture is above the threshold of its worst concept (N,)."""
        seen = self.visual_projection(self.vision_model(pixel_values).pooler_output).float()
        care = self._above(seen, self.special_care_embeds, self.special_care_embeds_weights)
        found = self._above(seen, self.concept_embeds, self.concept_embeds_weights)
        return found.amax(1) + SPECIAL_CARE * (care > 0).any(1)

    def _above(self, seen: torch.Tensor, concepts: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
        similar = F.normalize(seen, dim=1) @ F.normalize(concepts.float(), dim=1).T
        # As published, to three places.
        return (similar - limits.float()).round(decimals=3)


class ConceptCheck:
    """Blocks images by a `SafetyChecker`, whose files bring its thresholds."""

    def __init__(self, path: str, device: torch.device | str = "cpu") -> None:
        self.path = path
        source = resolve_model(path)
        try:
            model = load_whole(SafetyChecker, source, name=path, key_mapping=RENAMED)
            self.reader = AutoImageProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(f"No safety checker can be loaded from '{path}': {error}") from error
        self.model = model.to(device).eval()

    @torch.no_grad()
    def refused(self, images: Sequence[Image.Image]) -> list[str | None]:
        """For each image why it is blocked; None if it is not."""
        pixels = self.reader(list(images), return_tensors="pt").pixel_values
        above = self.model(pixels.to(self.model.device)).tolist()
        return [
            None if one <= 0 else f"'{self.path}' finds the image unsafe ({one:.3f} above its limit)"
            for one in above
        ]


class ChecksImages(Protocol):
    """What blocks images."""

    def refused(self, images: Sequence[Image.Image]) -> list[str | None]: ...


def image_check(
    path: str,
    unsafe: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
    device: torch.device | str = "cpu",
) -> ChecksImages:
    """The image check of a folder or hub id: CompVis' safety checker, which has labels and thresholds of its own, or
    an image classifier. Raises `UserError` for what is neither.
    """
    if _is_safety_checker(resolve_model(path)):
        if unsafe:
            raise UserError(f"'{path}' is a safety checker without labels: leave --unsafe-image out.")
        return ConceptCheck(path, device)
    return ImageCheck(path, unsafe, threshold, device)


def _is_safety_checker(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return CONCEPTS in (config.get("architectures") or [])
    except (OSError, ValueError, AttributeError):
        return False


class Reranker:
    """A dual encoder (CLIP, Chinese-CLIP, SigLIP 2, ...) that says how well images fit a prompt."""

    def __init__(self, path: str, device: torch.device | str = "cpu") -> None:
        source = resolve_model(path)
        try:
            self.model = load_whole(AutoModel, source, name=path).to(device).eval()
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
