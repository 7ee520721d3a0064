"""A real HTTP server that speaks the OpenAI chat protocol and has the faults of real ones."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What happens to one request instead of an answer: an HTTP status, or one of these words.
OK, DROP, SLOW, GARBAGE, NO_CHOICES = "", "drop", "slow", "garbage", "no choices"
SLOW_SECONDS = 1.5


@dataclass
class ChatServer:
    """`reply` makes the text from the request; `faults` befall the first requests in turn."""

    reply: Callable[[dict[str, Any]], str]
    faults: list[int | str] = field(default_factory=list)
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.requests.append(body)
            self.keys.append(handler.headers["Authorization"])
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = self.faults.pop(0) if self.faults else None
        try:
            self._answer(handler, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has given up waiting, as it was made to
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], fault: int | str | None) -> None:
        if fault == DROP:
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == SLOW:
            time.sleep(SLOW_SECONDS)
        if fault == GARBAGE:
            _send(handler, 200, b'{"choices": [{"mess')
        elif fault == NO_CHOICES:
            _send(handler, 200, json.dumps({"choices": []}).encode())
        elif isinstance(fault, int):
            _send(handler, fault, json.dumps({"error": {"message": f"fault {fault}"}}).encode())
        else:
            text = self.reply(body)
            message = {"role": "assistant", "content": text}
            completion = {
                "id": "chat-1",
                "object": "chat.completion",
                "created": 0,
                "model": f"{body['model']}-2026",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
            }
            _send(handler, 200, json.dumps(completion).encode())


def _send(handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    if status == 429:
        handler.send_header("Retry-After", "1")
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def chat_server(
    reply: Callable[[dict[str, Any]], str], faults: Sequence[int | str] = ()
) -> Iterator[ChatServer]:
    server = ChatServer(reply, list(faults))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server.handle(self)

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
