"""What Prometheus reads at `/metrics`."""

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from polylens.serving.backends import BatchedBackend
from polylens.serving.engine import Engine

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
MEANING = {
    "steps": "Steps of the model.",
    "rows": "Rows of all steps: divided by the steps, the mean batch.",
    "joined": "Jobs that began.",
    "failed": "Jobs that the model failed on.",
    "cancelled": "Jobs whose client went away.",
    "late": "Jobs whose time was up.",
}


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Engine(engine))
        self.first = Histogram(
            "polylens_first_token_seconds", "Until the first token.", buckets=SECONDS, registry=self.registry
        )
        self.whole = Histogram(
            "polylens_answer_seconds", "Until the whole answer.", buckets=SECONDS, registry=self.registry
        )
        self.tokens = Counter("polylens_tokens", "Tokens read and written.", ["kind"], registry=self.registry)


class _Engine(Collector):
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("polylens_waiting", "Jobs in the queue.", self.engine.num_waiting)
        yield GaugeMetricFamily("polylens_running", "Jobs that are written now.", self.engine.num_running)
        for name, value in asdict(self.engine.counts).items():
            yield CounterMetricFamily(f"polylens_{name}", MEANING[name], value)
        if isinstance(self.engine.backend, BatchedBackend):
            cache = self.engine.backend.cache
            yield GaugeMetricFamily("polylens_picture_cache_bytes", "Visual tokens kept.", cache.num_bytes)
            yield CounterMetricFamily("polylens_picture_cache_hits", "Pictures found.", cache.hits)
            yield CounterMetricFamily("polylens_picture_cache_misses", "Pictures not found.", cache.misses)
