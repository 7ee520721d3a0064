"""A painter from parts that exist: a language model, a denoiser, an autoencoder or none, and a fresh bridge."""

import torch

from polylens.errors import UserError
from polylens.models.checkpoints.build import fingerprint, load_language_model
from polylens.models.checkpoints.card import card_languages
from polylens.models.checkpoints.families import Stream
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import Quantization
from polylens.models.parts.lora import plain_state
from polylens.painting.bridge import new_bridge
from polylens.painting.config import PainterConfig, TextConfig
from polylens.painting.painter import Painter
from polylens.painting.parts import context_width, load_denoiser, load_schedule, load_space
from polylens.painting.text import CpmBeeText, LanguageModelText, TextEncoder
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.files import (
    find_vocabulary,
    is_cpm_bee,
    is_released_cpm_bee,
    read_cpm_bee,
    read_released_cpm_bee,
)


def build_painter(
    config: PainterConfig,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> Painter:
    """Load the parts that `config` names and join them by a new bridge, random from torch's seed.

    `quantization` holds the language model in 8 or 4 bits; `stream` keeps CPM-Bee's layers on the CPU or on disk.

    Raises `UserError` for parts that are missing or do not fit.
    """
    config = config.model_copy(deep=True)
    config.schedule = load_schedule(config.schedule)
    if config.text.languages is None and config.text.path is not None:
        config.text.languages = card_languages(resolve_model(config.text.path))
    text = load_text(config.text, dtype, quantization, stream)
    denoiser = load_denoiser(config.denoiser, dtype)
    bridge = new_bridge(config.bridge, text.width, context_width(denoiser)).to(dtype)
    painter = Painter(text, bridge, denoiser, load_space(config.space, dtype), config.schedule, config)
    if config.denoiser.path is not None:
        remember_denoiser(painter)
    return painter.requires_grad_(False).eval()


def load_text(
    config: TextConfig,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> TextEncoder:
    """The text encoder that `config` names: a CPM-Bee folder, or any language model of transformers.

    Raises `UserError` for one that is missing, or for a pivot that it cannot have.
    """
    if config.path is not None:
        folder = resolve_model(config.path)
        own = is_cpm_bee(folder)
        if own or is_released_cpm_bee(folder):
            if config.pivot:
                raise UserError("CPM-Bee reads prompts as they are: leave painter.config.text.pivot out.")
            if not own and (quantization or stream):
                raise UserError(
                    f"'{config.path}' is CPM-Bee as it was released, which loads whole: `polylens convert --text-only` "
                    "makes a folder that loads in 8 or 4 bits and streams."
                )
            read = read_cpm_bee(folder, dtype, quantization, stream) if own else None
            model = read or read_released_cpm_bee(folder, dtype=dtype)
            return CpmBeeText(model, CpmBeeTokenizer.from_pretrained(find_vocabulary(folder)), config)
    if stream is not None:
        raise UserError("Only the layers of CPM-Bee can be streamed: use a smaller precision.")
    model, tokenizer = load_language_model(config.path, dtype, quantization)
    return LanguageModelText(model, tokenizer, config)


def denoiser_state(painter: Painter) -> dict[str, torch.Tensor]:
    """The denoiser's tensors under the names of its own class, adapters left out."""
    return plain_state(painter.denoiser)


def remember_denoiser(painter: Painter) -> None:
    """Note the denoiser's weights, fresh from their folder, so that saving finds what has changed."""
    painter.fingerprints = {
        name: {
            dtype: fingerprint(tensor.to(dtype)) for dtype in {tensor.dtype, torch.bfloat16, torch.float16}
        }
        for name, tensor in denoiser_state(painter).items()
    }
