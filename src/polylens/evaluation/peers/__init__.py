"""Models of other makers behind the one contract of a predictor, so that every benchmark measures them alike."""

from typing import Any

from polylens.evaluation.peers.chat import ChatClient
from polylens.evaluation.peers.endpoint import EndpointPredictor
from polylens.evaluation.peers.transformers_model import TransformersPredictor

TRANSFORMERS = "transformers:"
URLS = ("http://", "https://")


def is_peer(name: str) -> bool:
    """Whether a MODEL on the command line names a peer: `transformers:FOLDER` or `https://HOST/v1#MODEL`."""
    return name.startswith((TRANSFORMERS, *URLS))


def open_peer(name: str, **endpoint: Any) -> EndpointPredictor | TransformersPredictor:
    """The peer of that name; `endpoint` are settings of `ChatClient` (timeout, retries, concurrency).

    Raises `UserError` for a peer that is not there or a name that is not complete.
    """
    if name.startswith(TRANSFORMERS):
        return TransformersPredictor(name.removeprefix(TRANSFORMERS))
    return EndpointPredictor(ChatClient.named(name, **endpoint))
