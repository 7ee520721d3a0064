"""Picto, the embedded world: pictograms in up to ten drawing styles, named by people in over a hundred languages."""

from pathlib import Path

MODELS = Path(__file__).parent / "packaged" / "models"
# What commands use where no other model is named.
CAPTIONER = "picto"
ENCODER = "picto-parts/vision"


def decoder_folder() -> Path:
    """The packaged model: aligned on English names to the decoder language model."""
    return MODELS / "picto"


def parts_folder() -> Path:
    """What it is made of, by name: 'picto-parts/vision', 'picto-parts/image-side', 'picto-parts/decoder'."""
    return MODELS
