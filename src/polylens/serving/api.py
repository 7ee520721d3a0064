"""The API: OpenAI's chat completions over an engine, and what a server is watched by."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from polylens import __version__
from polylens.data.layout import Layout
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.serving.answers import Answers, Chunk, Failed, events
from polylens.serving.conversation import language_codes, read_messages
from polylens.serving.engine import Engine, Full
from polylens.serving.guard import RETRY_AFTER, Guard, Limits, error_response
from polylens.serving.jobs import Settings
from polylens.serving.metrics import Metrics
from polylens.serving.protocol import ChatRequest, TokenizeRequest

CLIENT_GONE = 499
Made = TypeVar("Made")


@dataclass
class Service:
    """One model behind the API. `layout` says how it is asked for captions."""

    name: str
    engine: Engine
    layout: Layout
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.engine)
        self.created = int(time.time())
        self.ready = True

    async def in_pool(self, work: Callable[[], Made]) -> Made:
        """Done by the engine's pool, so that requests and steps go on."""
        return await asyncio.get_running_loop().run_in_executor(self.engine.pool, work)

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self.name:
            raise HTTPException(404, f"There is no model '{name}' here, only '{self.name}'.")

    async def answers(self, asked: ChatRequest) -> Answers:
        """The jobs of a request, waiting. Raises `UserError` and `Full`."""
        self.engine.check_room()
        if asked.language is not None and asked.languages is not None:
            raise UserError("Give either 'language' or 'languages'.")
        if asked.languages is not None and asked.n != 1:
            raise UserError(f"n is {asked.n}, but 'languages' has one answer for each: leave n out.")
        given = asked.languages or ([] if asked.language is None else [asked.language])
        codes: list[str | None] = [*language_codes(given)] or [None]
        answers = Answers(self.name, one_prompt=asked.n > 1)
        deadline = time.monotonic() + self.limits.answer_seconds
        seed = secrets.randbits(62) if asked.seed is None else asked.seed

        def prepare() -> None:
            talk = read_messages(asked.messages, self.limits.max_pictures)
            for code in codes:
                for number in range(asked.n):
                    settings = Settings(
                        asked.max_new_tokens,
                        asked.temperature,
                        asked.top_p,
                        _seed(seed + number),
                        asked.stops,
                    )
                    answers.add(talk.sample(self.layout, code), settings, code, deadline)
            self.engine.backend.prepare(answers.jobs)

        await self.in_pool(prepare)
        self.engine.submit(answers.jobs)
        return answers

    def tokens(self, asked: TokenizeRequest) -> list[int]:
        """Raises `UserError` unless there is either a prompt or messages."""
        if (asked.prompt is None) == (asked.messages is None):
            raise UserError("Give either 'prompt' or 'messages'.")
        if asked.messages is not None:
            sample = read_messages(asked.messages, self.limits.max_pictures).sample(self.layout, None)
        else:
            sample = Sample("tokens", (), (Turn(asked.prompt or "", ""),), "", "chat", "request")
        return self.engine.backend.tokens(sample)


def create_app(service: Service, key: str | None = None) -> FastAPI:
    """The application; when it ends, the engine finishes what it has accepted."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.ready = False
        await asyncio.to_thread(service.engine.close)

    # The pages of Swagger and ReDoc load scripts from elsewhere: the description alone is served.
    app = FastAPI(title="Polylens", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, key=key, limits=service.limits)
    _add_errors(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """Whether requests are taken."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model that is served."""
        return {"object": "list", "data": [_model(service)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        service.check_model(name)
        return _model(service)

    @app.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> dict[str, Any]:
        """The tokens of a prompt as the model reads it; places of pictures are padding."""
        service.check_model(asked.model)
        tokens = await service.in_pool(lambda: service.tokens(asked))
        return {"count": len(tokens), "max_model_len": service.engine.backend.limit, "tokens": tokens}

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        """The answer to a conversation, whole or as server-sent events."""
        service.check_model(asked.model)
        begin = time.monotonic()
        answers = await service.answers(asked)
        if not asked.stream:
            reply = await _while_connected(request, answers)
            if reply is None:
                return Response(status_code=CLIENT_GONE)
            _count(service, answers, begin)
            return JSONResponse(reply)
        chunks = answers.chunks(asked.stream_options.include_usage)
        try:
            # What goes wrong before the first token is an error with its own status.
            first = await anext(chunks)
        except BaseException:
            answers.cancel()
            raise
        service.metrics.first.observe(time.monotonic() - begin)
        stream = _counted(service, answers, begin, chunks)
        return StreamingResponse(events(answers, first, stream), media_type="text/event-stream")

    return app


async def _counted(
    service: Service, answers: Answers, begin: float, chunks: AsyncIterator[Chunk]
) -> AsyncIterator[Chunk]:
    async for chunk in chunks:
        yield chunk
    _count(service, answers, begin)


def _count(service: Service, answers: Answers, begin: float) -> None:
    service.metrics.whole.observe(time.monotonic() - begin)
    usage = answers.usage()
    if usage is not None:
        service.metrics.tokens.labels("prompt").inc(usage["prompt_tokens"])
        service.metrics.tokens.labels("completion").inc(usage["completion_tokens"])


async def _while_connected(request: Request, answers: Answers) -> dict[str, Any] | None:
    """The whole reply; None where the client went away before, and the jobs then end."""
    reply = asyncio.create_task(answers.whole())
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({reply, gone}, return_when=asyncio.FIRST_COMPLETED)
        return reply.result() if reply.done() else None
    finally:
        reply.cancel()
        gone.cancel()
        answers.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_errors(app: FastAPI) -> None:
    """Every error leaves in OpenAI's form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        param, sentence = _sentence(error.errors()[0])
        return error_response(400, sentence, param=param)

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> Response:
        return error_response(400, str(error))

    @app.exception_handler(Full)
    async def full(_: Request, error: Full) -> Response:
        return error_response(429, "The queue is full: try again.", headers=RETRY_AFTER)

    @app.exception_handler(Failed)
    async def failed(_: Request, error: Failed) -> Response:
        return error_response(error.status, str(error))

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        code = "model_not_found" if error.status_code == 404 and "model" in str(error.detail) else None
        return error_response(error.status_code, str(error.detail), code=code, headers=error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return error_response(500, "The server failed on this request; its log says why.")


def _sentence(error: Any) -> tuple[str, str]:
    """The parameter that is wrong, and what is wrong with it."""
    place = ".".join(str(one) for one in error["loc"] if one != "body")
    if error["type"] == "extra_forbidden":
        return place, f"'{place}' is not supported by this server: leave it out."
    if error["type"] == "json_invalid":
        return place, "The body is not valid JSON."
    return place, f"'{place}' is wrong: {error['msg']}." if place else f"The body is wrong: {error['msg']}."


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.name, "object": "model", "created": service.created, "owned_by": "polylens"}


def _seed(number: int) -> int:
    """Any whole number as one that random generators take."""
    return number % 2**63
