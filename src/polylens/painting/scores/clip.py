"""CLIP score: how well pictures fit the prompts that they were painted from (Hessel et al., 2021).

100 x the cosine of CLIP's embeddings of both, 0 where it is negative; the mean over pairs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor
from transformers import __version__ as transformers_version

from polylens.errors import UserError
from polylens.pretrained import load_whole


class ClipScorer:
    """A CLIP of transformers, from a folder or the hub. Raises `UserError` for what is no CLIP."""

    def __init__(self, model: str | Path, device: str | torch.device = "cpu") -> None:
        try:
            self.model = load_whole(AutoModel, model).eval().to(device)
            self.processor = AutoProcessor.from_pretrained(model)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"'{model}' cannot be loaded as a CLIP model: {reason}") from error
        if not (hasattr(self.model, "get_text_features") and hasattr(self.model, "get_image_features")):
            raise UserError(
                f"'{model}' has no embeddings of texts and pictures in one space: give a CLIP model."
            )
        self.device = device
        self.settings = {
            "clip_model": str(model),
            "transformers": transformers_version,
            "text": "cut at its limit",
        }

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """The score of each pair, 0 to 100. Raises `UserError` for lists of different lengths."""
        if len(pictures) != len(prompts):
            raise UserError(f"{len(pictures)} pictures and {len(prompts)} prompts: give one for each.")
        inputs = self.processor(
            text=list(prompts), images=list(pictures), return_tensors="pt", padding=True, truncation=True
        ).to(self.device)
        outputs = self.model(**inputs)
        cosines = torch.nn.functional.cosine_similarity(outputs.image_embeds, outputs.text_embeds)
        return (100 * cosines.clamp(min=0)).tolist()
