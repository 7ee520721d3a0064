"""Trains Picto's tiny components, each into an ordinary model folder of its own.

tokenizer -> decoder (text only, many languages), english (text only, English)
classifier (pictures, concepts and English keywords) -> image-side (Q-Former), both tuned through `english`: `vision`
is the classifier's encoder after that
picto: the image side, aligned to the decoder by the recipe `picto`
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tools.picto.corpus import texts
from tools.picto.encoder import MEAN, STD, EncoderTraining, train_encoder
from tools.picto.language_models import Pretraining, new_decoder, pretrain
from tools.picto.tokenizer import train_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.models.checkpoints.build import remember_parts
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.picto.world import LANGUAGES
from polylens.recipe import load_recipe
from polylens.training.run import train

VOCABULARY = 12288
CORE = tuple("en de fr es ru tr el ar hi sw zh ja".split())
ENGLISH = Pretraining(("en",), steps=500)
# A dozen languages first, then all: the core is learnt fast, and the others lean on it.
DECODER_CORE = Pretraining(CORE, steps=3300, source_noise=0.1)
DECODER = Pretraining(LANGUAGES, steps=9000)
# Then it learns to read what is not clear, as pictures in a new style are; last, into English from everywhere.
DECODER_MIXED = Pretraining(
    LANGUAGES,
    steps=3000,
    decay=0.95,
    first_lines=3.0,
    english_share=0.4,
    mixed_share=0.8,
    to_english_share=0.7,
)
DECODER_TO_ENGLISH = replace(DECODER_MIXED, steps=3600, english_share=0.2, to_english_share=0.8)
# At the last it reads lists, since pictures may show several things. Keyword lists would ask for one name instead.
# The packaged decoder is from before this stage, which is unfinished: docs/lab/2026-12.md.
DECODER_LISTS = Pretraining(
    LANGUAGES,
    steps=4000,
    rows=16,
    muon_rate=0.015,
    adam_rate=1.5e-3,
    decay=0.6,
    first_lines=2.0,
    english_share=0.4,
    source_noise=0.3,
    mixed_share=0.3,
    to_english_share=0.2,
    keyword_share=0.0,
    list_share=0.65,
)
CLASSIFIER = EncoderTraining(steps=10000)
# What each needs to have been trained into the same folder before.
COMPONENTS: dict[str, Sequence[str]] = {
    "tokenizer": (),
    "english": ("tokenizer",),
    "decoder": ("tokenizer",),
    "classifier": (),
    "image-side": ("classifier", "english"),
    "picto": ("image-side", "decoder"),
}


def train_component(name: str, folder: Path, *, report: Callable[[str], None] = print) -> Path:
    """Train one component into `folder/NAME`, going on from what was begun in `folder/runs/NAME`.

    Raises `UserError` for a name that is none, and when what it is made from is not in `folder` yet.
    """
    if name not in COMPONENTS:
        raise UserError(f"Picto has no component '{name}': choose from {', '.join(COMPONENTS)}.")
    for part in COMPONENTS[name]:
        if not (folder / part).is_dir():
            raise UserError(f"'{folder / part}' is missing: train the component '{part}' first.")
    if name == "tokenizer":
        train_tokenizer(texts(LANGUAGES), VOCABULARY).save_pretrained(folder / name)
    elif name == "classifier":
        _train_classifier(folder, report)
    elif name in ("english", "decoder"):
        _train_language_model(name, folder, report)
    else:
        _train_aligned(name, folder)
    return folder / name


def _train_language_model(name: str, folder: Path, report: Callable[[str], None]) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    model: PreTrainedModel
    if name == "english":
        model, settings = new_decoder(tokenizer, width=192, layers=3), ENGLISH
    else:
        model, settings = new_decoder(tokenizer), DECODER_LISTS
        pretrain(model, tokenizer, DECODER_CORE, folder / "runs" / "decoder-core", report=report)
        pretrain(model, tokenizer, DECODER, folder / "runs" / "decoder-all", report=report)
        pretrain(model, tokenizer, DECODER_MIXED, folder / "runs" / "decoder-mixed", report=report)
        pretrain(model, tokenizer, DECODER_TO_ENGLISH, folder / "runs" / "decoder-to-english", report=report)
    pretrain(model, tokenizer, settings, folder / "runs" / name, report=report)
    model.to(torch.bfloat16).save_pretrained(folder / name)
    # Read anew: the one that was used would take its last padding along.
    PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer").save_pretrained(folder / name)


def _train_classifier(folder: Path, report: Callable[[str], None]) -> None:
    model = train_encoder(CLASSIFIER, folder / "runs" / "classifier", report=report)
    _save_encoder(model, folder / "classifier")


def _save_encoder(model: PreTrainedModel, out: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(out)
    ImageProcessor(height=64, width=64, mean=(MEAN,) * 3, std=(STD,) * 3).save(out)


def _train_aligned(name: str, folder: Path) -> None:
    """By recipe, from the parts in `folder`; the trained weights are kept in bfloat16, the parts by path."""
    tuned = name == "image-side"
    language_model = "english" if tuned else COMPONENTS[name][-1]
    vision = folder / ("classifier" if tuned else "vision")
    paths = [f"model.vision.path={vision}", f"model.language_model.path={folder / language_model}"]
    if not tuned:
        paths.append(f"model.resampler.path={folder / 'image-side'}")
    recipe = load_recipe("picto-image-side" if tuned else "picto", paths)
    model = load_model(train(recipe, out=folder / "runs" / name, report=Console()))
    if tuned:
        # The encoder that the later ones stand on; beside it the Q-Former alone.
        _save_encoder(model.vision.model, folder / "vision")
        model.config.vision.path = str(folder / "vision")
        remember_parts(model)
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    save_model(model, out, {"recipe": recipe.name})
    # The language model's folder has the same tokenizer.
    shutil.rmtree(out / "tokenizer")
    weights = load_file(out / "model.safetensors")
    save_file({key: tensor.to(torch.bfloat16) for key, tensor in weights.items()}, out / "model.safetensors")
