"""One evaluation from its settings: the model and the translator are opened, and the benchmark is run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens.errors import UserError
from polylens.evaluation.benchmarks.baselines import Translate
from polylens.evaluation.benchmarks.interface import find_benchmark
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.peers import is_peer, open_peer
from polylens.evaluation.predictor import LocalPredictor, Predictor
from polylens.evaluation.processes import is_main, result_folder, share
from polylens.evaluation.settings import ITSELF, EvaluationSettings
from polylens.files import sha256_folder
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.limits import limits_of

# (name, precision=...) -> model, on its device.
OpenModel = Callable[..., Any]


def evaluate(
    settings: EvaluationSettings,
    out: Path,
    open_model: OpenModel,
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Evaluate the model that the settings name, and write results and report into `out`.

    `open_model` gives the model of a name in a precision, on its device. Under `accelerate launch` all processes
    answer, the first one writes, and the others return None. Raises `UserError` as `evaluate_benchmark` does, and for a
    model or translator that cannot be opened.
    """
    console = console or Console(quiet=True)
    find_benchmark(settings.benchmark)
    translate, translator = open_translator(settings.translator)
    with result_folder(out) as folder:
        results = evaluate_benchmark(
            share(open_predictor(settings, open_model, console)),
            settings,
            folder,
            translate=translate,
            translator=translator,
            console=console,
        )
    return results if is_main() else None


def open_predictor(settings: EvaluationSettings, open_model: OpenModel, console: Console) -> Predictor:
    """The model that the settings name: one of Polylens, of transformers, or behind an endpoint.

    Raises `UserError` for one that cannot be opened, and for settings that are not of its kind.
    """
    if is_peer(settings.model):
        if settings.cache is not None or settings.precision != "float32":
            option = "--cache" if settings.cache is not None else "--precision"
            raise UserError(f"{option} is an option of models of Polylens.")
        from polylens.evaluation.peers.chat import Prices

        return open_peer(
            settings.model,
            Prices(*settings.price) if settings.price else None,
            lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False),
            concurrency=settings.concurrency,
            timeout=settings.timeout,
            retries=settings.retries,
        )
    return LocalPredictor(
        open_model(settings.model, precision=settings.precision),
        settings.told_model,
        sha256_folder(resolve_model(settings.model)),
        settings.cache,
        limits_of(settings.model),
    )


def open_translator(name: str | None) -> tuple[Translate | None, str]:
    """The engine of that name as a function, and what results call it; the model itself needs none."""
    if name is None or name == ITSELF:
        return None, ""
    from polylens.data.translation.engine import EngineSettings
    from polylens.data.translation.engines import open_engine

    engine_name, _, folder = name.partition(":")
    engine = open_engine(EngineSettings(engine=engine_name, model=Path(folder) if folder else None))

    def translate(texts: Sequence[str], source: str, target: str) -> list[str]:
        engine.check(source, [target])
        # What an engine has no translation of is an empty text, which scores nothing.
        return [text or "" for text in engine.translate(texts, source, target)]

    return translate, f"{name} ({engine.fingerprint})"
