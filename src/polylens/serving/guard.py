"""What stands before the API: the key, the host, how many requests at once, and the size and time of a body."""

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

access = logging.getLogger("polylens.serving.access")

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN = frozenset({"/health", "/ready"})
RETRY_AFTER = {"Retry-After": "1"}


@dataclass(frozen=True)
class Limits:
    """Of one request, and of all at once."""

    max_body_bytes: int = 32 * 2**20
    max_pictures: int = 16
    max_requests: int = 128
    body_seconds: float = 30.0
    answer_seconds: float = 300.0


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """An error in OpenAI's form. Half characters, which JSON may hold and UTF-8 not, become question marks."""
    return JSONResponse(error_body(status, message, param, code), status, dict(headers or {}))


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": {key: _printable(text) if text is not None else None for key, text in body.items()}}


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class Guard:
    """An ASGI application before another. Without a key only requests to this machine's own name are let in."""

    def __init__(self, app: ASGIApp, key: str | None, limits: Limits) -> None:
        self.app, self.key, self.limits = app, key, limits
        self.num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await self._drain(receive)
                await refusal(scope, receive, noted)
                return
            self.num_requests += 1
            try:
                await self.app(scope, self._bounded(receive), noted)
            finally:
                self.num_requests -= 1
        finally:
            # Neither prompts nor pictures, nor the query, which may hold anything.
            seconds = round(time.monotonic() - begin, 4)
            line = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
            access.info(json.dumps(line))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.key is None and not _is_loopback(headers.get("host", "")):
            return error_response(
                403, "Without an API key this server answers to 127.0.0.1 and localhost only."
            )
        if scope["path"] in OPEN:
            return None
        if self.key is not None and not self._is_authorised(headers.get("authorization", "")):
            return error_response(
                401, "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'.",
                code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limits.max_body_bytes:
            return error_response(413, self._too_large())
        if scope["method"] == "POST" and self.num_requests >= self.limits.max_requests:
            return error_response(429, "Too many requests at once: try again.", headers=RETRY_AFTER)
        return None

    async def _drain(self, receive: Receive) -> None:
        """Read the body and forget it: many clients hear no answer before they have sent all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.body_seconds):
                while (await receive()).get("more_body", False):
                    pass

    def _is_authorised(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        right = (self.key or "").encode("utf-8")
        return hmac.compare_digest(given.strip().encode("utf-8"), right) and scheme.lower() == "bearer"

    def _too_large(self) -> str:
        return (
            f"The request takes more than {self.limits.max_body_bytes:,} bytes: send smaller or fewer images."
        )

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, until the body is whole within its limits of bytes and time."""
        deadline = asyncio.get_running_loop().time() + self.limits.body_seconds
        num_bytes, whole = 0, False

        async def bounded() -> Message:
            nonlocal num_bytes, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408, f"The body did not come within {self.limits.body_seconds:g} seconds: send it faster."
                ) from error
            num_bytes += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if num_bytes > self.limits.max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return bounded


def _is_loopback(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False
