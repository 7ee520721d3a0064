"""Trains Picto's tiny components, each in an ordinary transformers folder with a model card.

tokenizer -> decoder, encoder-decoder (text only, many languages), english (text only, English)
vision (pictures, concepts and English keywords) -> image-side (Q-Former, tuned through `english`)
picto, picto-encdec: the image side, re-aligned on English names to either language model
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.files import write_atomic
from polylens.picto.corpus import texts
from polylens.picto.encoder import MEAN, STD, EncoderTraining, train_encoder
from polylens.picto.language_models import Pretraining, new_decoder, new_encoder_decoder, pretrain
from polylens.picto.tokenizer import train_tokenizer
from polylens.picto.world import LANGUAGES
from polylens.recipe import load_recipe
from polylens.training.run import train

VOCABULARY = 12288
CORE = tuple("en de fr es ru tr el ar hi sw zh ja".split())
COMPONENTS = (
    "tokenizer",
    "decoder",
    "encoder-decoder",
    "english",
    "vision",
    "image-side",
    "picto",
    "picto-encdec",
)
Report = Callable[[str], None]


def train_component(name: str, folder: Path, *, report: Report = print) -> Path:
    """Train one component into `folder/NAME`, resuming what was begun there; what it needs must lie there already.

    Raises `UserError` for a name that is none, and for a component that is still missing.
    """
    if name not in COMPONENTS:
        raise UserError(f"Picto has no component '{name}': choose from {', '.join(COMPONENTS)}.")
    out = folder / name
    if name == "tokenizer":
        train_tokenizer(texts(LANGUAGES), VOCABULARY).save_pretrained(out)
    elif name == "vision":
        _vision(out, report)
    elif name in ("image-side", "picto", "picto-encdec"):
        recipe = load_recipe("picto-image-side" if name == "image-side" else name)
        shutil.copytree(train(recipe, out=folder / "runs" / name), out, dirs_exist_ok=True)
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(_needed(folder / "tokenizer"))
        _language_model(name, tokenizer, folder, report)
    return out


def _needed(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is missing: train the component '{folder.name}' first.")
    return folder


def _language_model(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path, report: Report) -> None:
    torch.manual_seed(0)
    model: PreTrainedModel
    if name == "english":
        model, settings = new_decoder(tokenizer, width=192, layers=3), Pretraining(("en",), steps=500)
    elif name == "decoder":
        model, settings = new_decoder(tokenizer), Pretraining(CORE, steps=3300)
    else:
        model, settings = (
            new_encoder_decoder(tokenizer),
            Pretraining(CORE, steps=4000, rows=192, first_lines=6.0),
        )
        # The decoder's embeddings know the vocabulary already: learning starts from them.
        decoder = new_decoder(tokenizer).from_pretrained(_needed(folder / "decoder"), dtype=torch.float32)
        with torch.no_grad():
            model.get_input_embeddings().weight.copy_(decoder.get_input_embeddings().weight)
    pretrain(model, tokenizer, settings, folder / "runs" / name, report=report)
    model.set_attn_implementation("sdpa")
    model.to(torch.bfloat16).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    facts: dict[str, Any] = {"languages": list(settings.languages)}
    write_atomic(folder / name / "languages.json", json.dumps(facts["languages"]))


def _vision(out: Path, report: Report) -> None:
    model = train_encoder(EncoderTraining(steps=2600), out.parent / "runs" / "vision", report=report)
    model.to(torch.bfloat16).save_pretrained(out)
    processor = ImageProcessor(height=64, width=64, mean=(MEAN,) * 3, std=(STD,) * 3)
    processor.save(out)
