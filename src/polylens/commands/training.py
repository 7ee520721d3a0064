"""`polylens train` and `polylens inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from polylens.commands.common import Json, Overrides, Recipe, consoles, print_json, quiet_libraries, say


def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the run is kept; the recipe's own place, else runs/NAME.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Like seed=N.")] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Begin anew where the folder holds a run that was stopped.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train what a recipe says; a run that was stopped goes on where it was.

    The trained model is OUT/model; beside it are the log, TensorBoard curves, checkpoints and the recipe as
    it was used. Unknown keys are refused, with the nearest known one.

    \b
    Examples
      polylens train picto
      polylens train picto stages.1.steps=2000 seed=1 --out runs/longer
      polylens train picto data.path=FOLDER      captions.jsonl and pictures of your own;
                                                 90% of the pictures train (data.split=0.9)
      polylens train mine.yaml 'model.language_model.path=google/mt5-small'
    """
    from polylens.recipe import load_recipe

    quiet_libraries()
    console, _ = consoles(as_json)
    chosen = load_recipe(recipe, _with_seed(overrides, seed))
    # A wrong recipe is told before torch is imported.
    from polylens.evaluation.validation import check_metrics, validation_scores
    from polylens.training.run import train as run

    if chosen.validation:
        check_metrics(chosen.validation.metrics)
    folder = run(chosen, resume=not no_resume, out=out, report=console, evaluate=validation_scores)
    if as_json:
        results = json.loads((folder.parent / "results.json").read_text(encoding="utf-8"))
        print_json({"model": str(folder), "results": results})
    trial = chosen.section.trial(folder) if chosen.section else f"evaluate {folder} --data FOLDER"
    say(console, f"The model is {folder}. Try it: polylens {trial}")


def inspect(
    recipe: Recipe,
    overrides: Overrides = None,
    num: Annotated[int, typer.Option(min=0, help="How many samples to show.")] = 4,
    seed: Annotated[int | None, typer.Option(min=0, help="Like seed=N.")] = None,
) -> None:
    """Show what a recipe would train on: samples token by token, counts, and what each stage trains.

    Tokens that are trained on are green and begin with '+'; all others are only read. Pictures show as the
    places that their visual tokens take.

    \b
    Examples
      polylens inspect picto
      polylens inspect picto data.path=FOLDER --num 10
    """
    from polylens.recipe import load_recipe

    quiet_libraries()
    console, _ = consoles()
    chosen = load_recipe(recipe, _with_seed(overrides, seed))
    from polylens.training.preview import show

    show(chosen, console, num)


def _with_seed(overrides: list[str] | None, seed: int | None) -> list[str]:
    return [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
