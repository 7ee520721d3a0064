"""The functions behind `import polylens`. docs/library.md describes them; everything else is private."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polylens.errors import UserError
from polylens.models.checkpoints.registry import check_model
from polylens.models.config import Precision

if TYPE_CHECKING:
    from polylens.models.interface import Model
    from polylens.recipe import Recipe


def load(
    name: str | Path,
    *,
    precision: Precision = "float32",
    device: str | None = None,
    stream: Literal["cpu", "disk"] | None = None,
) -> "Model":
    """A model by its folder, its packaged name or its hub id, ready to use.

    `device` is the GPU if there is one, unless given, as in "cpu" or "cuda:1". `stream` (VisCPM and CPM-Bee) keeps the
    layers on the CPU or on disk. Raises `UserError` when there is no such model or device, or no GPU for 8 or 4 bits.

    >>> import polylens
    >>> model = polylens.load("picto")
    >>> len(model.config.language_model.languages)
    30
    """
    check_model(name)  # a wrong name is told before torch is imported
    import torch

    from polylens.models.checkpoints.load import load_any
    from polylens.models.parts.precision import check_device, split_precision

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"The device '{chosen}' cannot be used ({reason}): give cpu, or leave it out."
        ) from error
    check_device(precision)
    opened = load_any(name, *split_precision(precision), stream)
    return opened if stream is not None else opened.to(chosen)


def train(
    recipe: "Recipe | str | Path",
    overrides: Sequence[str] = (),
    *,
    out: Path | str | None = None,
    resume: bool = True,
) -> Path:
    """Train a recipe, a file's or a packaged one's, changed by `overrides`; the folder of the model is returned.

    Raises `UserError` for whatever the user can mend.

        folder = polylens.train("picto", ["data.path=my-pictures", "stages.0.steps=200"])
    """
    from polylens.recipe import Recipe, load_recipe

    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    from polylens.evaluation.validation import check_metrics, validation_scores
    from polylens.training.run import train as run

    if chosen.validation:
        check_metrics(chosen.validation.metrics)
    return run(chosen, out=out, resume=resume, evaluate=validation_scores)


def evaluate(
    model: str | Path, data: str | Path, out: str | Path, *, languages: str = "all", limit: int | None = None
) -> dict[str, Any]:
    """Score a model on one's own captions, language by language: the content of `OUT/results.json`.

    `data` is a folder with captions.jsonl and its pictures, `limit` the number of questions in each language.
    Benchmarks are scored by the command `polylens evaluate`. Raises `UserError` for whatever the user can mend.

        scores = polylens.evaluate("picto", "my-pictures", "runs/mine")["languages"]
    """
    check_model(model)
    from polylens.evaluation.evaluate import evaluate as run
    from polylens.evaluation.settings import EvaluationSettings

    settings = EvaluationSettings(model=str(model), data=Path(data), languages=languages, limit=limit)
    results = run(settings, Path(out), load)
    assert results is not None, "one process has all answers"
    return results


def translate(
    texts: Sequence[str],
    to: str,
    source: str = "en",
    *,
    model: str | Path | None = None,
    engine: str = "nllb",
) -> list[str | None]:
    """Each text in the language `to`, by an NLLB model (a folder or a hub id); None where the engine has none.

    Raises `UserError` for an engine, a model or a language that is not there.

    >>> import polylens
    >>> polylens.translate(["cat"], "de", engine="picto")
    ['Katze']
    """
    from polylens.data.translation.engine import EngineSettings
    from polylens.data.translation.engines import open_engine
    from polylens.languages import language
    from polylens.models.checkpoints.registry import resolve_model

    codes = language(source).code, language(to).code
    opened = open_engine(EngineSettings(engine=engine, model=resolve_model(model) if model else None))
    opened.check(codes[0], [codes[1]])
    return opened.translate(list(texts), *codes)
