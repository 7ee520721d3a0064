"""From a recipe to a painter's folder."""

from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from polylens.errors import UserError
from polylens.painting.build import build_painter
from polylens.painting.config import PaintingSettings
from polylens.painting.folder import load_painter, save_painter
from polylens.painting.painter import Painter
from polylens.painting.task import PaintTask
from polylens.recipe import Recipe
from polylens.training.preview import counts_table, heading
from polylens.training.run import fit, halve, read_samples
from polylens.training.stages import apply_stage


def train_painter(
    recipe: Recipe, section: PaintingSettings, folder: Path, *, resume: bool, console: Console
) -> Path:
    """Train the painter of a recipe in `folder`; see `run.train`. Returns `folder / "model"`."""
    if recipe.validation and recipe.validation.metrics != ["loss"]:
        raise UserError(f"A painter is validated by its loss alone, not by {recipe.validation.metrics}.")
    painter = new_painter(recipe, section)
    samples, held_out = read_samples(recipe)
    console.print(f"{len(samples)} pictures with captions to train on, {len(held_out)} to validate on")
    task = PaintTask(painter, section, recipe.augmentation, seed=recipe.seed, console=console)
    kept = ("painter", "data", "augmentation", "validation")
    provenance = fit(task, recipe, samples, held_out, folder, kept=kept, resume=resume, console=console)
    save_painter(painter, folder / "model", provenance)
    return folder / "model"


def new_painter(recipe: Recipe, section: PaintingSettings) -> Painter:
    """The painter a recipe starts from; new parts get random weights from its seed."""
    torch.manual_seed(recipe.seed)
    if section.start:
        painter = load_painter(section.start)
    else:
        painter = build_painter(section.config)
    if recipe.precision != "float32":
        for parameter in painter.text.parameters():
            halve(parameter, getattr(torch, recipe.precision))
    return painter


def show_painter(recipe: Recipe, section: PaintingSettings, console: Console, num: int) -> None:
    """Print counts, the stages with parameter counts, and the captions of the first `num` pictures."""
    painter = new_painter(recipe, section)
    samples, held_out = read_samples(recipe)
    for title, part in (("to train on", samples), ("to validate on", held_out)):
        if part:
            console.print(counts_table(part, f"{len(part):,} samples {title}"))
    for stage in recipe.stages:
        console.print(apply_stage(painter, stage).table)
    for sample in samples[:num]:
        console.print(heading(sample))
        caption = sample.turns[-1].answer
        console.print(Text(f"{caption}  ({painter.text.num_states(caption)} states)"))
