"""Running the API with uvicorn: slow clients are let go, SIGTERM finishes what runs, a second one ends at once."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from polylens.errors import UserError

HEADER_SECONDS = 10.0
HEADER_BYTES = 16 * 2**10


class Protocol(H11Protocol):
    """Closes a connection whose header does not come within `HEADER_SECONDS`."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._late)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Says where it listens once it does; `announce` hears the address."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own: it would end the process by the signal after all is finished.
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: FastAPI, host: str, port: int, announce: Callable[[str], None]) -> bool:
    """Serves until a signal. False where it was made to end before all was finished.

    Raises `UserError` where it cannot listen there.
    """
    settings: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "lifespan": "on",
    }
    config = uvicorn.Config(
        app, host, port, http=Protocol, h11_max_incomplete_event_size=HEADER_BYTES, **settings
    )
    server = Server(config, announce)
    try:
        server.run()
    except SystemExit as error:  # uvicorn has logged why
        raise UserError(f"'{host}' and port {port} cannot be listened on: choose another --port.") from error
    return not server.force_exit
