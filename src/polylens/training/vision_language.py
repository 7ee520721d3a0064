"""How a `VisionLanguageModel` is trained, saved, shown and planned.

Shapes: m samples of a micro-batch, one picture each, Q visual tokens, L language model width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import DynamicCache, PreTrainedTokenizerBase

from polylens.data.collate import IGNORED
from polylens.data.sample import Sample
from polylens.models.checkpoints.build import fingerprint, part_state
from polylens.models.checkpoints.folder import PARTS, save_model
from polylens.models.vlm import VisionLanguageModel
from polylens.recipe import Recipe
from polylens.training.objectives import find_objective
from polylens.training.stages import Plan
from polylens.training.tasks import VisionLanguageTask
from polylens.training.trainable import DryRun, Length, Shown, Token, Trainable

WORD_STARTS = "▁Ġ"
REPLACEMENT = "\ufffd"


class VisionLanguageTraining(Trainable):
    quantizes = True

    def task(
        self, model: VisionLanguageModel, recipe: Recipe, console: Console | None = None
    ) -> VisionLanguageTask:
        return VisionLanguageTask(model, recipe.augmentation, recipe.data.max_length, console=console)

    def save(self, model: VisionLanguageModel, folder: Path, provenance: Mapping[str, Any]) -> None:
        save_model(model, folder, provenance)

    def may_halve(
        self, model: VisionLanguageModel, parameters: Mapping[str, nn.Parameter]
    ) -> list[nn.Parameter]:
        # A checkpoint names the part's own folder, which holds these weights exactly.
        in_folders = {
            tensor.data_ptr()
            for part in PARTS
            for name, tensor in part_state(model, part).items()
            if model.fingerprints.get(f"{part}.{name}", {}).get(tensor.dtype) == fingerprint(tensor)
        }
        return [parameter for parameter in parameters.values() if parameter.data_ptr() in in_folders]

    def show(self, model: VisionLanguageModel, sample: Sample, max_length: int | None) -> list[Shown]:
        batch = model.collator(max_length, with_pictures=False)([sample])
        assert batch.labels is not None
        ids, images, labels = (row[0].tolist() for row in (batch.input_ids, batch.image_mask, batch.labels))
        both = model.is_encoder_decoder
        targets = [False] * len(ids) if both else [label != IGNORED for label in labels]
        read, seen = [], 0
        for token, image, trained in zip(ids, images, targets, strict=True):
            seen += image
            picture = (seen - 1) // model.num_image_tokens + 1 if image else 0
            read.append(Token("" if image else _text(model.tokenizer, token), trained, picture))
        answered = [Token(_text(model.tokenizer, label), True) for label in labels] if both else []
        return [Shown(sample, read, answered)]

    def dry_run(
        self,
        model: VisionLanguageModel,
        plan: Plan,
        m: int,
        length: Length,
        cached: bool,
        dtype: torch.dtype,
    ) -> DryRun:
        def forward() -> tuple[torch.Tensor, int]:
            tokens = _see(model, plan, m, cached, dtype)
            if not find_objective(plan.stage.objective).runs_language_model:
                return tokens, 0
            return _read(model, tokens, m, length)

        return DryRun(forward)

    def cached_bytes(self, model: VisionLanguageModel, plan: Plan, each: int) -> int:
        if plan.boundary == "queries":
            return each * model.num_image_tokens * model.resampler.width
        if plan.boundary == "patches":
            patches = model.vision.num_patches(model.processor.height, model.processor.width)
            return each * patches * model.vision.width
        return 0


def _see(model: VisionLanguageModel, plan: Plan, m: int, cached: bool, dtype: torch.dtype) -> torch.Tensor:
    """(m, Q, L) visual tokens, from the deepest states that the stage has cached."""
    height, width = model.processor.height, model.processor.width
    if cached and plan.boundary == "queries":
        return model.project(torch.empty(m, model.num_image_tokens, model.resampler.width, dtype=dtype))
    if cached and plan.boundary == "patches":
        patches = model.vision.num_patches(height, width)
        return model.visual_tokens(torch.empty(m, patches, model.vision.width, dtype=dtype))
    return model.visual_tokens(model.encode(torch.empty(m, 3, height, width, dtype=dtype)))


def _read(
    model: VisionLanguageModel, tokens: torch.Tensor, m: int, length: Length
) -> tuple[torch.Tensor, int]:
    """(logits of the answers' tokens, how many numbers they are)."""
    num_text = length.prompt if model.is_encoder_decoder else length.prompt + length.answer
    text = model.lm.get_input_embeddings()(torch.empty(m, num_text, dtype=torch.long))
    inputs: dict[str, Any] = {"inputs_embeds": torch.cat([tokens.to(text.dtype), text], 1)}
    if model.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.empty(m, length.answer, dtype=torch.long)
    else:
        # Without a cache, transformers reads the positions for packed samples, and these have no values.
        inputs["past_key_values"] = DynamicCache(config=model.lm.config)
    head = model.lm.get_output_embeddings()
    handle = head.register_forward_pre_hook(
        lambda _, args: (args[0][:, -length.answer :].flatten(0, 1), *args[1:])
    )
    try:
        logits = model.lm(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits, logits.numel()


def _text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The token as text with '▁' for a space before it, or its raw form where it is no whole character."""
    raw = str(tokenizer.convert_ids_to_tokens(token))
    text = tokenizer.decode([token])
    if not text.strip() or REPLACEMENT in text:
        return raw
    return ("▁" if raw[:1] in WORD_STARTS else "") + text.strip()


TRAINABLE = VisionLanguageTraining()
