"""Models of other makers behind the one contract of a predictor, so that every benchmark measures them alike."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polylens.evaluation.peers.chat import Prices
    from polylens.evaluation.peers.endpoint import EndpointPredictor
    from polylens.evaluation.peers.transformers_model import TransformersPredictor

TRANSFORMERS = "transformers:"
URLS = ("http://", "https://")


def is_peer(name: str) -> bool:
    """Whether a MODEL on the command line names a peer: `transformers:FOLDER` or `https://HOST/v1#MODEL`."""
    return name.startswith((TRANSFORMERS, *URLS))


def open_peer(
    name: str,
    prices: "Prices | None" = None,
    announce: Callable[[str], None] = lambda sentence: None,
    **endpoint: Any,
) -> "EndpointPredictor | TransformersPredictor":
    """The peer of that name; `endpoint` are settings of `ChatClient` (timeout, retries, concurrency), and what an
    endpoint will take is announced before the first request.

    Raises `UserError` for a peer that is not there or a name that is not complete.
    """
    if name.startswith(TRANSFORMERS):
        from polylens.evaluation.peers.transformers_model import TransformersPredictor

        return TransformersPredictor(name.removeprefix(TRANSFORMERS))
    from polylens.evaluation.peers.chat import ChatClient
    from polylens.evaluation.peers.endpoint import EndpointPredictor

    return EndpointPredictor(ChatClient.named(name, **endpoint), prices=prices, announce=announce)
