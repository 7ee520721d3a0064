"""`polylens serve`."""

import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polylens.commands.common import Precision, complain, consoles, open_model, quiet_libraries, say
from polylens.errors import UserError

KEY = "POLYLENS_API_KEY"
MEGABYTE = 2**20


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A model folder, a packaged name, or a hub id; default: the packaged one."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine only with a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Holds the API key; else {KEY} of the environment.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Answers written at once.")] = 32,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Answers that may wait; more are refused (429).")
    ] = 256,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of a prompt and its answer.")] = 4096,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB of one request, pictures included.")] = 32,
    max_images: Annotated[int, typer.Option(min=0, help="Pictures of one request.")] = 16,
    cache_mb: Annotated[
        int, typer.Option(min=0, help="MiB of visual tokens kept for pictures that come again.")
    ] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until an answer is given up.")] = 300.0,
    precision: Precision = "float32",
) -> None:
    """Serve a model to every client that speaks OpenAI's chat completions.

    Requests are written together, and join and leave between two tokens. Pictures come inside requests; nothing is
    fetched and nothing is stored. SIGTERM (or Ctrl-C) finishes what runs, a second one ends at once.

    \b
    Examples
      polylens serve
      polylens serve runs/mine/model --port 9000 --max-batch 64
      polylens serve viscpm-chat --host 0.0.0.0 --api-key-file key.txt --precision bfloat16
    """
    try:
        from polylens.serving.api import Service, create_app
        from polylens.serving.server import serve as run
    except ImportError as error:
        raise UserError(
            f"Serving needs the package '{error.name}': pip install 'polylens[serve]' installs it."
        ) from error
    key = _read_key(api_key_file)
    if key is None and not _is_loopback(host):
        raise UserError(
            f"Without an API key only this machine may ask, and '{host}' is open to others: give --api-key-file, "
            f"set {KEY}, or leave --host out."
        )
    quiet_libraries()
    from polylens.models.defaults import default_model
    from polylens.models.limits import limits_of
    from polylens.serving.backends import backend_for
    from polylens.serving.engine import Engine
    from polylens.serving.guard import Limits

    _log_requests()
    console, _ = consoles()
    name = model or default_model("captioner")
    opened = open_model(name, precision)
    known = limits_of(name)
    if known is not None:
        complain(known.note(name), "note")
    backend = backend_for(opened, max_batch=max_batch, cache_bytes=cache_mb * MEGABYTE, max_length=max_length)
    limits = Limits(max_body_mb * MEGABYTE, max_images, max_queue + max_batch, answer_seconds=timeout)
    service = Service(name, Engine(backend, max_queue), opened.config.layout, limits)
    if not run(create_app(service, key), host, port, lambda url: _announce(console, name, url)):
        complain("The server was ended before all requests were answered.")
        # Threads of a model that still runs would hold the process.
        sys.stdout.flush()
        os._exit(1)


def _announce(console: Console, name: str, url: str) -> None:
    say(console, f"{name} is served at {url}/v1 (Ctrl-C ends).")
    console.file.flush()


def _read_key(path: Path | None) -> str | None:
    """The API key, from a file or the environment. Raises `UserError` for an unreadable or empty one."""
    if path is None:
        return os.environ.get(KEY, "").strip() or None
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The API key cannot be read from '{path}': check the file.") from error
    if not key:
        raise UserError(f"'{path}' holds no API key: write one into it.")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_requests() -> None:
    """One line of JSON on stderr for each request: neither prompts nor pictures."""
    logger = logging.getLogger("polylens.serving.access")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
