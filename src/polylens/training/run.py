"""From a recipe to a model folder."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from torch import nn

from polylens.data.captions import read_captions, split_by_image
from polylens.data.check import share_pictures
from polylens.data.mix import Mix, read_mix
from polylens.data.prompts import caption_prompt
from polylens.data.sample import Sample
from polylens.data.sources import opened
from polylens.data.spec import Part
from polylens.data.unreadable import Policy, Unreadable, pictures_are_there
from polylens.errors import UserError
from polylens.files import json_text, make_writable_folder, write_atomic
from polylens.languages import language
from polylens.models.checkpoints.build import build_model
from polylens.models.checkpoints.load import load_any
from polylens.models.config import ModelConfig
from polylens.models.vlm import VisionLanguageModel
from polylens.progress import progress_bar
from polylens.recipe import Recipe, load_recipe
from polylens.training.check import warn_before_training
from polylens.training.loop import Trainer, Validate
from polylens.training.outcome import outcome
from polylens.training.stages import never_trained
from polylens.training.tasks import Task
from polylens.training.trainable import check_quantization, trainable

logger = logging.getLogger(__name__)

Evaluate = Callable[[VisionLanguageModel, Sequence[Sample], Sequence[str]], dict[str, float]]


def train(
    recipe: Recipe | str | Path,
    *,
    resume: bool = True,
    out: Path | str | None = None,
    report: Console | None = None,
    evaluate: Evaluate | None = None,
) -> Path:
    """Train what a recipe says and return the folder of the model, `OUT/model`.

    Beside it, OUT holds `recipe.yaml`, `results.json`, `before.json` (the validation before step 1),
    `log.jsonl`, `tensorboard/` and `checkpoints/`. With `resume`, a run that was stopped goes on from its last
    checkpoint. `report` is where progress is shown.
    `evaluate(model, samples, metrics)` gives the scores of a validation beyond the loss, {"chrf": ..,
    "chrf/de": ..}.

    Raises `UserError` for whatever the user can mend; see `Trainer.run`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    console = report or Console(quiet=True)
    folder = make_writable_folder(Path(out or recipe.out or Path("runs") / recipe.name))
    if recipe.section is not None:
        return recipe.section.train(recipe, folder, resume=resume, console=console)
    model, samples, held_out = beginning(recipe, console)
    origin = ", ".join(part.name for part in recipe.data.parts)
    console.print(f"{len(samples)} samples to train on, {len(held_out)} to validate on, from {origin}")
    warn_before_training(model, samples, recipe.data.max_length)
    if recipe.validation and not held_out:
        recipe = recipe.model_copy(update={"validation": None})
    kind = trainable(model)
    provenance = fit(
        kind.task(model, recipe, console),
        recipe,
        samples,
        held_out,
        folder,
        kept=("model", "data", "augmentation", "validation"),
        resume=resume,
        console=console,
        validate=_validate(recipe, held_out, evaluate),
    )
    kind.save(model, folder / "model", provenance)
    reached = outcome(recipe, folder, provenance["results"], getattr(model.lm.config, "vocab_size", None))
    if reached.rows:
        console.print(reached.table())
    for sentence in reached.advice:
        logger.warning("%s", sentence)
    return folder / "model"


def fit(
    task: Task,
    recipe: Recipe,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    folder: Path,
    *,
    kept: Sequence[str],
    resume: bool,
    console: Console,
    validate: Validate | None = None,
) -> dict[str, Any]:
    """Run a recipe's stages in `folder`, which then holds `recipe.yaml` and `results.json`; both are returned.

    `kept` are the parts of the recipe that a run which goes on must share with the run that was stopped.
    """
    settings = recipe.model_dump(mode="json")
    write_atomic(folder / "recipe.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    results = Trainer(
        task,
        recipe.stages,
        samples,
        folder,
        seed=recipe.seed,
        precision=recipe.precision,
        held_out=held_out,
        validation=recipe.validation,
        validate=validate,
        checkpoints=recipe.checkpoints,
        settings={key: settings[key] for key in kept},
        resume=resume,
        console=console,
    ).run()
    write_atomic(folder / "results.json", json_text(results, indent=1))
    return {"recipe": settings, "results": results}


def prepare(recipe: Recipe, model: VisionLanguageModel, samples: Sequence[Sample]) -> None:
    """Encode the samples' pictures, where the model is, as the first stage of a run would, which then finds them in
    the cache. Several processes can do so at once, each with samples of its own. The model is left as that stage
    begins: parts of it frozen, others adapted. Raises `UserError` as `train` does.
    """
    task = trainable(model).task(model, recipe)
    Trainer(task, recipe.stages, samples, Path(), precision=recipe.precision, device=model.device).prepare()


def new_model(recipe: Recipe) -> Any:
    """The `Model` that a recipe starts from; new parts get random weights from its seed."""
    torch.manual_seed(recipe.seed)
    if recipe.model.start:
        model: Any = load_any(recipe.model.start, quantization=recipe.model.language_model.quantization)
        check_quantization(model, recipe)
    else:
        model = build_model(ModelConfig.model_validate(recipe.model.model_dump(exclude={"start"})))
    if recipe.precision != "float32":
        for parameter in trainable(model).may_halve(model, never_trained(model, recipe.stages)):
            halve(parameter, getattr(torch, recipe.precision))
    return model


def beginning(
    recipe: Recipe, console: Console | None = None, write_shards: bool = True
) -> tuple[Any, Sequence[Sample], list[Sample]]:
    """(the model a run starts from, what it trains on, what it validates on); see `new_model` and `read_samples`."""
    model = new_model(recipe)
    samples, held_out = read_samples(recipe, model.config.layout.ask_caption, console, write_shards)
    return model, samples, held_out


def halve(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """A matrix in `dtype`; a vector as it is, but copied: a view of a checkpoint keeps all of its file mapped.

    Weights in 8 or 4 bits stay as they are: their numbers are codes.
    """
    data = parameter.data
    if not data.is_floating_point():
        return
    parameter.data = data.to(dtype) if data.ndim > 1 else data.clone()


def read_samples(
    recipe: Recipe,
    prompt: Callable[[str], str] = caption_prompt,
    console: Console | None = None,
    write_shards: bool = True,
) -> tuple[Sequence[Sample], list[Sample]]:
    """(samples to train on, samples to validate on); `prompt` asks for the captions of one's own folder.

    A mix's shards are written if need be, with progress on `console`, unless `write_shards` is false: then the mix is
    read into memory. Raises `UserError` for a source that is not there, options that it does not know, and an
    empty set.
    """
    data, validation = recipe.data, recipe.validation
    samples: Sequence[Sample]
    rest: list[Sample] = []
    if data.mix:
        samples = _read_mix(recipe, console or Console(quiet=True), write_shards)
        if validation and validation.mix:
            rest = list(read_mix(validation.mix, recipe.seed, data.unreadable))
    elif isinstance(data.split, float):
        samples, rest = split_by_image(_read(recipe, None, data.languages, prompt), data.split)
    else:
        samples = _read(recipe, data.split, data.languages, prompt)
        if validation and validation.split:
            rest = _read(recipe, validation.split, validation.languages or data.languages, prompt)
    if not samples:
        raise UserError(
            f"The source '{data.source}' has no samples to train on: widen data.languages or data.split."
        )
    if not validation:
        return samples, []
    held_out = _bounded(rest, validation.languages, validation.samples, recipe.seed)
    if not held_out and data.source == "captions":
        logger.warning("No picture of '%s' is held out, so nothing is validated: it has few.", data.path)
    elif not held_out:
        raise UserError("There are no samples to validate on: widen validation.languages or the split.")
    return samples, held_out


def _read_mix(recipe: Recipe, console: Console, write_shards: bool) -> Mix:
    data = recipe.data
    assert data.mix is not None
    folder = data.shards
    if folder is None or not (
        write_shards or all((folder / p.name / "part.json").exists() for p in data.mix)
    ):
        return read_mix(data.mix, recipe.seed, data.unreadable)
    with progress_bar(console) as progress:
        bars = {part.name: progress.add_task(f"shards of {part.name}", total=None) for part in data.mix}

        def advance(name: str, count: int) -> None:
            progress.update(bars[name], completed=count)

        return read_mix(data.mix, recipe.seed, data.unreadable, folder, advance, data.shard_format)


def _read(
    recipe: Recipe, split: str | None, languages: list[str] | None, prompt: Callable[[str], str]
) -> list[Sample]:
    data = recipe.data
    assert data.source is not None
    if data.source == "captions":
        assert data.path is not None
        return share_pictures(_own_captions(data.path, languages, prompt, data.unreadable))
    unreadable = Unreadable(data.unreadable)
    part = Part(
        source=data.source,
        path=data.path,
        split=split,
        languages=languages,
        tasks=data.tasks,
        options=data.options,
    )
    samples = [sample for sample in opened(part)(unreadable) if unreadable.keep(sample, pictures_are_there)]
    unreadable.report(data.source)
    return samples


def _own_captions(
    path: Path, languages: list[str] | None, prompt: Callable[[str], str], policy: Policy
) -> list[Sample]:
    """The captions of one's own folder in `languages`, with a note on those in others."""
    if languages is None:
        return read_captions(path, None, prompt, policy)
    wanted = {language(code).code for code in languages}
    samples = read_captions(path, None, prompt, policy, unknown="skip")
    kept = [sample for sample in samples if sample.language in wanted]
    if not kept:
        return read_captions(path, languages, prompt, policy)  # raises
    others = Counter(sample.language for sample in samples if sample.language not in wanted)
    if others:
        shown = ", ".join(f"{code} {count:,}" for code, count in others.most_common(8))
        logger.warning(
            "The recipe trains on %s: %s captions in %d other languages are left out (%s%s). To train on them, name "
            "them in data.languages.",
            ", ".join(sorted(wanted)),
            f"{others.total():,}",
            len(others),
            shown,
            ", ..." if len(others) > 8 else "",
        )
    return kept


def _bounded(
    samples: list[Sample], languages: list[str] | None, count: int | None, seed: int
) -> list[Sample]:
    """At most `count` samples of each language, drawn by the seed, in their order."""
    drawn = []
    for code in dict.fromkeys(sample.language for sample in samples):
        if languages is None or code in languages:
            mine = [sample for sample in samples if sample.language == code]
            size = min(count or len(mine), len(mine))
            drawn += [mine[number] for number, _ in sorted(Mix.of(mine).order(size, seed).batch(0))]
    return drawn


def _validate(
    recipe: Recipe, held_out: Sequence[Sample], evaluate: Evaluate | None
) -> Callable[[nn.Module, int], dict[str, float]] | None:
    metrics = [name for name in recipe.validation.metrics if name != "loss"] if recipe.validation else []
    if not metrics:
        return None
    if evaluate is None:
        raise UserError(f"The metrics {metrics} of validation.metrics need an evaluation: keep only 'loss'.")

    def validate(model: Any, step: int) -> dict[str, float]:
        return evaluate(model, held_out, metrics)

    return validate
