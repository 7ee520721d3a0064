"""The same work on a cluster, through Ray Data: every worker has an engine, and the driver alone has the cache.

Batches are those of a run without a cluster, so the translations are too. Model folders must be at the same
path on every machine.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.data.translation.run import Batch
from polylens.errors import UserError


class Worker:
    """One engine, opened once in each worker process."""

    def __init__(self, settings: EngineSettings):
        self._engine = open_engine(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        results = self._engine.translate(list(row["texts"]), row["source"], row["target"])
        # Columns hold texts only: what the engine refused is told apart by `given`.
        return {
            "number": row["number"],
            "results": [text or "" for text in results],
            "given": [text is not None for text in results],
        }


def on_cluster(
    settings: EngineSettings, workers: int, address: str | None = None
) -> Callable[[Iterable[Batch]], Iterator[tuple[Batch, list[str | None]]]]:
    """What runs batches for `translate_samples` in `workers` processes of a Ray cluster.

    `address` is the cluster's; None starts one on this machine, where workers share its cores, unless
    RAY_ADDRESS names one. Raises `UserError` when Ray is missing or cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed: pip install 'polylens[ray]', or leave out --ray.") from error
    import ray.data

    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"No Ray cluster can be reached at '{address}' ({error}): start it first.") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    cores = int(ray.cluster_resources().get("CPU", 1))
    gpus = int(ray.cluster_resources().get("GPU", 0))
    per_worker = max(1, cores // workers)
    settings = replace(settings, threads=settings.threads or per_worker)

    def run(batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[str | None]]]:
        waiting = list(batches)
        if not waiting:
            return
        rows = [
            {"number": number, "source": batch.source, "target": batch.target, "texts": batch.texts}
            for number, batch in enumerate(waiting)
        ]
        done = ray.data.from_items(rows, override_num_blocks=min(len(rows), 8 * workers)).map(
            Worker,  # type: ignore[arg-type]  # Ray opens the class once in each actor.
            fn_constructor_args=(settings,),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=per_worker if cores >= workers else cores / workers,
            num_gpus=gpus / workers if gpus else None,
        )
        for row in done.iter_rows():
            pairs = zip(row["results"], row["given"], strict=True)
            yield waiting[row["number"]], [text if given else None for text, given in pairs]

    return run
