"""Slow and greedy clients, against a real server on loopback."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.serving.engine_runs import engine_of
from tests.serving.processes import SECONDS, endless_model

uvicorn = pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
server = pytest.importorskip("polylens.serving.server", reason="the extra 'serve' is not installed")
api = pytest.importorskip("polylens.serving.api", reason="the extra 'serve' is not installed")
guards = pytest.importorskip("polylens.serving.guard", reason="the extra 'serve' is not installed")

POST = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LIMITS = guards.Limits(max_body_bytes=1000, max_requests=2, body_seconds=0.3)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    found: list[str] = []
    listening = threading.Event()
    patch = pytest.MonkeyPatch()
    patch.setattr(server, "HEADER_SECONDS", 0.3)
    with engine_of(endless_model()) as engine:
        app = api.create_app(api.Service("tiny", engine, engine.backend.model.config.layout, LIMITS))
        config = uvicorn.Config(app, "127.0.0.1", 0, http=server.Protocol, log_config=None)
        running = server.Server(config, lambda url: found.append(url) or listening.set())
        thread = threading.Thread(target=running.run)
        thread.start()
        assert listening.wait(SECONDS)
        yield int(found[0].rsplit(":", 1)[1])
        running.should_exit = True
        thread.join(SECONDS)
    patch.undo()


def exchange(port: int, content: bytes) -> bytes:
    """What comes back until the server closes the connection, or answers as asked to."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        connection.sendall(content)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def body_of(reply: bytes) -> str:
    return str(json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"])


def test_a_header_that_does_not_come_closes_the_connection(port: int) -> None:
    begin = time.monotonic()
    assert exchange(port, b"POST /tokenize HTTP/1.1\r\nHost: local") == b""
    assert exchange(port, b"") == b""
    assert time.monotonic() - begin >= 0.6


def test_a_body_that_does_not_come_is_given_up(port: int) -> None:
    reply = exchange(port, POST + b"Connection: close\r\nContent-Length: 10\r\n\r\n{")
    assert b" 408 " in reply.splitlines()[0]
    assert "within 0.3 seconds" in body_of(reply)


def test_a_body_is_counted_whatever_its_header_says(port: int) -> None:
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    reply = exchange(
        port, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    )
    assert b" 413 " in reply.splitlines()[0]
    assert "more than 1,000 bytes" in body_of(reply)


def test_requests_at_once_are_bounded(port: int) -> None:
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    for connection in waiting:
        connection.sendall(POST + b"Content-Length: 10\r\n\r\n{")
    time.sleep(0.1)
    reply = exchange(port, POST + b'Connection: close\r\nContent-Length: 17\r\n\r\n{"prompt": "abc"}')
    assert b" 429 " in reply.splitlines()[0]
    assert b"retry-after: 1" in reply.lower()
    for connection in waiting:
        connection.close()


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("Bearer key", True),
        ("bearer key", True),
        ("Bearer wrong", False),
        ("key", False),
        ("", False),
        ("Basic key", False),
    ],
)
def test_a_key_is_a_bearer(given: str, right: bool) -> None:
    guard = guards.Guard(None, "key", LIMITS)
    assert guard._is_authorised(given) is right
