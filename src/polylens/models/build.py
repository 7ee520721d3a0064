"""A new model from parts that exist: an image encoder, a language model, and a fresh (or taken) resampler."""

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.models.registry import resolve_model
from polylens.models.resamplers import new_resampler
from polylens.models.vision import VisionTower, load_vision
from polylens.models.vlm import ModelConfig, VisionLanguageModel


def compose(
    config: ModelConfig,
    vision: VisionTower,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    processor: ImageProcessor,
) -> VisionLanguageModel:
    """Join loaded parts by a new resampler and projector of random weights (from torch's seed)."""
    lm_width = language_model.get_input_embeddings().weight.shape[1]
    height, width = processor([Image.new("RGB", (8, 8))]).shape[-2:]
    num_patches = vision.num_patches(height, width) if config.resampler.kind == "mlp" else 0
    resampler = new_resampler(config.resampler, vision.width, num_patches, lm_width)
    return VisionLanguageModel(
        vision,
        resampler,
        new_projector(config, resampler.width, lm_width),
        language_model,
        tokenizer,
        processor,
        config,
    )


def build_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> VisionLanguageModel:
    """Load the parts that `config` names and join them; the pictures are prepared as the encoder's folder
    says.

    Raises `UserError` for parts that are missing or do not fit.
    """
    vision = load_vision(config.vision, dtype)
    processor = ImageProcessor.from_folder(resolve_model(config.vision.path))
    language_model, tokenizer = load_language_model(config.language_model.path, dtype)
    return compose(config, vision, language_model, tokenizer, processor).to(dtype)


def new_projector(config: ModelConfig, width: int, lm_width: int) -> nn.Module:
    """From the resampler's width to the language model's; the MLP's tokens are as wide already."""
    return nn.Identity() if config.resampler.kind == "mlp" else nn.Linear(width, lm_width)


def load_language_model(
    path: str | None, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model and tokenizer of a folder, packaged name or hub id.

    An output head that differs from the input embeddings in the folder stays untied, whatever the config
    says. Raises `UserError` when nothing can be loaded, or the tokenizer knows no end of sequence.
    """
    if path is None:
        raise UserError(
            "The language model has no path: set language_model.path to a folder, a name or a hub id."
        )
    source = resolve_model(path)
    try:
        config = AutoConfig.from_pretrained(source)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"No language model can be loaded from '{path}': {error}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"The tokenizer of '{path}' has no end-of-sequence token: set eos_token in its folder."
        )
    keep_untied(model)
    return model, tokenizer


def keep_untied(model: PreTrainedModel) -> None:
    """Make the config, and the list of tied weights, say what is: a head apart from the embeddings stays
    apart.

    transformers 5 makes T5 and MT5 configs say "tied", and a later `tie_weights()` would overwrite a
    trained head.
    """
    head, inputs = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is inputs.weight:
        return
    model.config.tie_word_embeddings = False
    name = next(name for name, module in model.named_modules() if module is head)
    model._tied_weights_keys = {
        target: source
        for target, source in (model._tied_weights_keys or {}).items()
        if target != f"{name}.weight"
    }
    model.all_tied_weights_keys = {
        target: source for target, source in model.all_tied_weights_keys.items() if target != f"{name}.weight"
    }
