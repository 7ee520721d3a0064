"""Whatever answers the questions of a benchmark: our model here, a transformers model, an HTTP endpoint.

    samples, all of one picture side by side -> predictor -> (place, answer), in whatever order they get ready

The runner appends every answer to disk as it comes, so a predictor yields as early as it can, and one that was killed
loses only what it had not yielded.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from polylens.data.sample import Picture, Sample
from polylens.evaluation.generation import Generation, refuse_temperature
from polylens.feature_cache import FeatureCache
from polylens.models.limits import Limits

# Samples that are looked at together: bounds the visual tokens in memory and what lengths are sorted over.
SAMPLES_AT_ONCE = 256


class Predictor(Protocol):
    """The contract of every peer. An answer depends on its own sample and the settings only: never on the
    other samples, the batch size or the padding.

    One that says more has `languages` (the codes that it knows) and `limits` (a `Limits`), for notes in results.
    """

    @property
    def name(self) -> str:
        """What reports call the model."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All about the model that moves an answer (weights' hash, dtype, versions, endpoint and model name), as JSON.

        It stands in the result file, and answers kept on disk are only gone on with under equal settings.
        """

    def ask_caption(self, code: str) -> str:
        """The prompt this model is used to for a caption in language `code`, for the protocol `raw`."""

    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        """(place in `samples`, answer to its last turn), each place once, in any order.

        A sample has 0 to n pictures; samples of one picture stand side by side, so that it can be encoded
        once. Raises `UserError` for a setting that the model cannot follow, never ignores one.
        """


@runtime_checkable
class Chooser(Predictor, Protocol):
    """A predictor that knows likelihoods too."""

    def choose(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], generation: Generation
    ) -> Iterator[tuple[int, int]]:
        """(place in `samples`, index of its likeliest candidate), each place once, in any order.

        Likelihood is the sum of log-probabilities of the answer's tokens, the end included; of equals the
        first.
        """


class LocalPredictor:
    """A model of Polylens as a `Chooser`: each picture is encoded once for all its languages and prompts.

    The model may be of any family: it is asked for `encode_pictures`, `generate`, `choose`, `config`, `lm.dtype` and,
    with a cache, `vision_identity` and `device`. With `cache_root` its visual tokens are kept in a folder there, for
    other runs and benchmarks of the same weights. `limits` are what the model does not know, for notes.
    """

    def __init__(
        self,
        model: Any,
        name: str = "",
        model_sha256: str = "",
        cache_root: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.model, self.name, self.limits = model, name, limits
        self.languages = model.config.language_model.languages
        self._cache = None if cache_root is None else FeatureCache(cache_root, model.vision_identity())
        self.settings = {"model_sha256": model_sha256, "dtype": str(model.lm.dtype).removeprefix("torch.")}

    def ask_caption(self, code: str) -> str:
        return self.model.config.layout.ask_caption(code)

    def generate(self, samples: Sequence[Sample], generation: Generation) -> Iterator[tuple[int, str]]:
        settings = {key: value for key, value in asdict(generation).items() if key != "batch_size"}
        if "temperature" not in inspect.signature(self.model.generate).parameters:
            refuse_temperature(self.name, generation)
            del settings["temperature"]
        for places, batch, visual in self._batches(samples, generation.batch_size):
            texts = self.model.generate(batch, visual=visual, batch_size=generation.batch_size, **settings)
            yield from zip(places, texts, strict=True)

    def choose(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], generation: Generation
    ) -> Iterator[tuple[int, int]]:
        for places, batch, visual in self._batches(samples, generation.batch_size):
            given = [candidates[place] for place in places]
            picks = self.model.choose(batch, given, visual=visual, batch_size=generation.batch_size)
            yield from zip(places, picks, strict=True)

    def _batches(
        self, samples: Sequence[Sample], size: int
    ) -> Iterator[tuple[list[int], list[Sample], Mapping[str, Any]]]:
        chunks = list(_chunks(range(len(samples)), SAMPLES_AT_ONCE))
        keys = [{picture.key for at in chunk for picture in samples[at].images} for chunk in chunks]
        last = {key: number for number, mine in enumerate(keys) for key in mine}
        visual: dict[str, torch.Tensor] = {}
        for number, chunk in enumerate(chunks):
            # Prompts of one length need no padding.
            chunk.sort(key=lambda at: (len(samples[at].turns[-1].prompt), samples[at].language))
            pictures = [picture for at in chunk for picture in samples[at].images]
            visual |= self._encode([picture for picture in pictures if picture.key not in visual], size)
            for places in _chunks(chunk, size):
                yield places, [samples[at] for at in places], visual
            # A picture whose languages or questions go on in a later chunk stays until the last of them.
            visual = {key: tokens for key, tokens in visual.items() if last[key] > number}

    def _encode(self, pictures: Sequence[Picture], size: int) -> Mapping[str, torch.Tensor]:
        if self._cache is None or not pictures:
            return self.model.encode_pictures(pictures, size)
        by_key = {picture.key: picture for picture in pictures}

        def encode(keys: Sequence[str]) -> torch.Tensor:
            tokens = self.model.encode_pictures([by_key[key] for key in keys], size)
            return torch.stack([tokens[key] for key in keys])

        self._cache.fill(by_key, encode, size)
        return dict(zip(by_key, self._cache.get(list(by_key)).to(self.model.device), strict=True))


def _chunks(places: Sequence[int], size: int) -> Iterator[list[int]]:
    rest = iter(places)
    while chunk := list(islice(rest, size)):
        yield chunk
