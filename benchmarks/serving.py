"""Serving: `polylens.serving` against one request at a time through transformers' `generate`, over HTTP.

One model with random weights in the widths of a BLIP-2 with mT5 answers in both servers, each a process of its own; a
third process is the clients, in a closed loop: each sends its next request when it has the answer to the one before.
Every request brings a picture of its own, so that no cache of pictures helps; `--pictures` has them come again. The
peer is what a user would write: FastAPI, and a lock around `Blip2ForConditionalGeneration.generate`. Both are greedy;
texts must be equal before any time counts.

    python benchmarks/serving.py                                   8 and 32 clients, minutes on two cores
    python benchmarks/serving.py --layers 24 12 12 --requests 8    a ViT-L/14, a Q-Former and an mT5-base
    python benchmarks/serving.py --tiny                            only shows that the program works
"""

import argparse
import asyncio
import base64
import http.client
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import uvicorn
from _machine import print_machine
from _pictures import Noise
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from evaluation import LANGUAGES, NUM_QUERIES, PROMPT, as_polylens, random_blip2
from polylens.data.images import decode_image
from polylens.languages import language
from polylens.serving.api import Service, create_app
from polylens.serving.backends import backend_for
from polylens.serving.engine import Engine
from polylens.serving.guard import Limits
from polylens.serving.server import Server

NAME, OURS, PEER = "benchmark", "Polylens", "peer"
PATH = "/v1/chat/completions"
TIMEOUT = 600


def main() -> None:
    """Both servers, asked in turns with each number of clients."""
    options = _options()
    if options.serve:
        serve(options)
        return
    with started(options, OURS) as ours, started(options, PEER) as peer:
        print_machine(
            layers="+".join(map(str, options.layers)), vocabulary=options.vocabulary, tokens=options.tokens,
            max_batch=options.max_batch, requests_of_each_client=options.requests, pictures=options.pictures or "all",
            seed=0,
        )  # fmt: skip
        ports = {OURS: ours, PEER: peer}
        check_equal(options, ports)
        for clients in options.clients:
            compare(options, ports, clients)


@dataclass
class Load:
    """Requests per second, and the seconds of each request."""

    rate: float
    seconds: list[float]

    def quantile(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def compare(options: argparse.Namespace, ports: dict[str, int], clients: int) -> None:
    loads: dict[str, list[Load]] = {name: [] for name in ports}
    for turn in range(options.turns):
        for name, port in ports.items():
            loads[name].append(load(options, port, clients, 1000 * (turn + 1)))
    medians = {}
    for name, runs in loads.items():
        rates = [run.rate for run in runs]
        medians[name] = statistics.median(rates)
        middle = min(runs, key=lambda run: abs(run.rate - medians[name]))
        spread = f" ({min(rates):.2f} to {max(rates):.2f} in {len(rates)} turns)" if len(rates) > 1 else ""
        print(
            f"{clients} clients, {name}: {medians[name]:.2f} requests/s{spread}, "
            f"p50 {middle.quantile(0.5):.2f} s, p99 {middle.quantile(0.99):.2f} s",
            flush=True,
        )
    print(f"{clients} clients: Polylens answers {medians[OURS] / medians[PEER]:.2f} times as many requests")


def load(options: argparse.Namespace, port: int, clients: int, seed: int) -> Load:
    """Closed-loop clients, each with so many requests."""
    bodies = [body(options, seed + number) for number in range(clients * options.requests)]

    def client(place: int) -> list[float]:
        seconds = []
        for content in bodies[place::clients]:
            begin = time.perf_counter()
            ask(port, content)
            seconds.append(time.perf_counter() - begin)
        return seconds

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = [one for each in pool.map(client, range(clients)) for one in each]
    return Load(len(bodies) / (time.perf_counter() - begin), seconds)


def check_equal(options: argparse.Namespace, ports: dict[str, int]) -> None:
    """Both give the same texts, one by one and at once; it also warms them up."""
    bodies = [body(options, number) for number in range(8)]
    theirs = [ask(ports[PEER], one) for one in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        ours = list(pool.map(lambda one: ask(ports[OURS], one), bodies))
    print(f"texts: {sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)} equal, "
          f"{len(set(ours))} distinct", flush=True)  # fmt: skip
    if ours != theirs:
        raise SystemExit(f"The texts differ, so no time counts: {ours} and {theirs}")


def body(options: argparse.Namespace, number: int) -> bytes:
    buffer = io.BytesIO()
    Noise(number % options.pictures if options.pictures else number).load().save(buffer, format="PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    text = PROMPT.format(language(LANGUAGES[number % len(LANGUAGES)]).name)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    asked = {"model": NAME, "messages": [{"role": "user", "content": content}], "max_tokens": options.tokens}
    return json.dumps(asked).encode()


def ask(port: int, content: bytes) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("POST", PATH, content, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    found = json.loads(reply.read())
    connection.close()
    if reply.status != 200:
        raise SystemExit(f"A request failed: {found}")
    return found["choices"][0]["message"]["content"]


@contextmanager
def started(options: argparse.Namespace, side: str) -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    command = [sys.executable, __file__, "--serve", side, *sys.argv[1:]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def serve(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    model = random_blip2(*options.layers, options.vocabulary).eval()
    app = ours(model, options) if options.serve == OURS else peer(model)
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="warning", access_log=False)
    Server(config, lambda url: print(url, flush=True)).run()


def ours(model: Any, options: argparse.Namespace) -> FastAPI:
    own = as_polylens(model)
    backend = backend_for(own, max_batch=options.max_batch, cache_bytes=2**28, max_length=4096)
    return create_app(Service(NAME, Engine(backend), own.config.layout, Limits()))


def peer(model: Any) -> FastAPI:
    """A request at a time: decode, resize, `generate`, decode the tokens."""
    app, lock, own = FastAPI(), asyncio.Lock(), as_polylens(model)

    @torch.no_grad()
    def answer(asked: dict[str, Any]) -> str:
        image, text = asked["messages"][0]["content"]
        picture = decode_image(base64.b64decode(image["image_url"]["url"].split(",")[1]), "image")
        prompt = own.tokenizer(text["text"])["input_ids"]
        ids = torch.tensor([[model.config.image_token_index] * NUM_QUERIES + prompt])
        answers = model.generate(
            pixel_values=own.processor([picture]), input_ids=ids, attention_mask=torch.ones_like(ids),
            max_new_tokens=asked["max_tokens"], do_sample=False, use_cache=True,
        )  # fmt: skip
        return own.tokenizer.decode(answers[0], skip_special_tokens=True).strip()

    @app.post(PATH)
    async def chat(request: Request) -> JSONResponse:
        asked = await request.json()
        async with lock:
            text = await asyncio.to_thread(answer, asked)
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": text}}]})

    return app


def _options(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--requests", type=int, default=3, help="of each client")
    parser.add_argument(
        "--pictures", type=int, default=0, help="that are asked about; 0: each request has its own"
    )
    parser.add_argument("--turns", type=int, default=1, help="how often both sides run")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument(
        "--layers",
        type=int,
        nargs=3,
        default=[4, 2, 8],
        help="of the image encoder, the Q-Former, the text model",
    )
    parser.add_argument("--vocabulary", type=int, default=50_000)
    parser.add_argument("--tiny", action="store_true", help="few layers: no times that count")
    parser.add_argument("--serve", choices=[OURS, PEER], help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.tiny:
        options.layers, options.vocabulary, options.requests = [2, 2, 2], 4_000, 1
    return options


if __name__ == "__main__":
    main()
