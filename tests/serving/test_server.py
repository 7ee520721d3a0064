"""A real server process, asked by the real `openai` client."""

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.serving.processes import SECONDS, Serving, asking, data_uri, endless_model, serving

from polylens.data.sample import Sample, Turn
from polylens.models.vlm import VisionLanguageModel
from polylens.serving.pictures import read_data_uri

openai = pytest.importorskip("openai", reason="the extra 'endpoint' is not installed")
pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")


@pytest.fixture(scope="module")
def local() -> VisionLanguageModel:
    return endless_model()


@pytest.fixture
def name(model_folder: Path) -> str:
    return str(model_folder)


@pytest.fixture
def client(server: Serving) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=SECONDS)


def local_answer(
    model: VisionLanguageModel, turns: list[tuple[str, str]], urls: list[str], length: int
) -> str:
    pictures = tuple(read_data_uri(url, "image") for url in urls)
    sample = Sample("s", pictures, tuple(Turn(*turn) for turn in turns), "", "chat", "test")
    return model.generate([sample], max_new_tokens=length)[0]


def metric(server: Serving, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def wait_until_idle(server: Serving) -> None:
    end = time.monotonic() + SECONDS
    while metric(server, "polylens_running") or metric(server, "polylens_waiting"):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_answer_is_that_of_the_model(client: Any, name: str, local: VisionLanguageModel) -> None:
    url = data_uri(1)
    reply = client.chat.completions.create(model=name, messages=asking("What?", url), max_tokens=9)
    choice = reply.choices[0]
    assert choice.message.content == local_answer(local, [("What?", "")], [url], 9)
    assert (choice.finish_reason, choice.message.role, reply.model) == ("length", "assistant", name)
    assert reply.usage.completion_tokens == 9
    assert reply.usage.prompt_tokens == local.num_image_tokens + len("What?")
    again = client.chat.completions.create(model=name, messages=asking("What?", url), max_tokens=9)
    assert again.usage.prompt_tokens_details.cached_tokens == local.num_image_tokens


def test_turns_a_system_text_and_several_pictures(client: Any, name: str, local: VisionLanguageModel) -> None:
    urls = [data_uri(1), data_uri(2, "JPEG")]
    messages = [
        {"role": "system", "content": "Be short."},
        *asking("First?", urls[0]),
        {"role": "assistant", "content": "a cat"},
        *asking("Second?", urls[1]),
    ]
    reply = client.chat.completions.create(model=name, messages=messages, max_completion_tokens=7)
    turns = [("Be short.\nFirst?", "a cat"), ("Second?", "")]
    assert reply.choices[0].message.content == local_answer(local, turns, urls, 7)


def test_a_stream_is_the_answer_in_pieces(client: Any, name: str) -> None:
    asked: dict[str, Any] = {"model": name, "messages": asking("Hello", data_uri(3)), "max_tokens": 12}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert sum(bool(piece) for piece in pieces) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    plain = list(client.chat.completions.create(**asked, stream=True))
    assert all(chunk.usage is None for chunk in plain)


def test_a_stop_text_ends_the_answer(client: Any, name: str) -> None:
    asked: dict[str, Any] = {"model": name, "messages": asking("Hello", data_uri(3)), "max_tokens": 12}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    reply = client.chat.completions.create(**asked, stop=[whole[5:7], "never"])
    assert reply.choices[0].message.content == whole[: whole.index(whole[5:7])].rstrip()
    assert reply.choices[0].finish_reason == "stop"


def test_sampling_repeats_with_its_seed(client: Any, name: str) -> None:
    asked: dict[str, Any] = {"model": name, "messages": asking("Hello"), "max_tokens": 12, "temperature": 1.9}
    first, same, other = (
        [choice.message.content for choice in client.chat.completions.create(**asked, n=3, seed=seed).choices]
        for seed in (5, 5, 6)
    )
    assert first == same != other
    assert len(set(first)) == 3


def test_one_picture_in_many_languages(client: Any, name: str, local: VisionLanguageModel) -> None:
    url = data_uri(11)
    reply = client.chat.completions.create(
        model=name, messages=asking("", url), max_tokens=6, extra_body={"languages": ["de", "sw"]}
    )
    prompts = [local.config.layout.ask_caption(code) for code in ("de", "sw")]
    expected = [local_answer(local, [(prompt, "")], [url], 6) for prompt in prompts]
    assert [choice.message.content for choice in reply.choices] == expected
    assert [choice.language["asked"] for choice in reply.choices] == ["de", "sw"]
    assert set(reply.choices[0].language) == {"asked", "found", "confidence", "kept"}
    one = client.chat.completions.create(
        model=name, messages=asking("What?", url), max_tokens=6, extra_body={"language": "de"}
    )
    turn = ("What? Answer in German.", "")
    assert one.choices[0].message.content == local_answer(local, [turn], [url], 6)


def test_many_asynchronous_clients_get_their_own_answers(
    server: Serving, name: str, local: VisionLanguageModel
) -> None:
    texts = ["a", "bb", "ccc", "Hello", "What is this?", "z", "yy"]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=SECONDS) as client:

            async def ask(place: int, text: str) -> str:
                url = data_uri(place % 3)
                said = ""
                async for chunk in await client.chat.completions.create(
                    model=name, messages=asking(text, url), max_tokens=5 + place, stream=True
                ):
                    said += chunk.choices[0].delta.content or ""
                return said

            return await asyncio.gather(*(ask(place, text) for place, text in enumerate(texts)))

    expected = [
        local_answer(local, [(text, "")], [data_uri(place % 3)], 5 + place)
        for place, text in enumerate(texts)
    ]
    assert asyncio.run(ask_all()) == expected


TINY = {"role": "user", "content": "hello"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "begin and end"),
    ({"messages": [{"role": "user", "content": ""}]}, "nothing to answer"),
    ({"messages": [TINY, {"role": "assistant", "content": "x"}]}, "begin and end"),
    ({"messages": asking("x", "https://example.org/a.png")}, "fetches nothing"),
    ({"messages": asking("x", "file:///etc/passwd")}, "fetches nothing"),
    ({"messages": asking("x", "data:image/png;base64,@@")}, "base64"),
    ({"messages": asking("x", "data:image/png;base64,")}, "known kind"),
    ({"messages": asking("x", data_uri(0).replace("image/png", "image/gif"))}, "is called image/gif"),
    ({"messages": asking("x", data_uri(0)[:-400])}, "damaged or cut short"),
    ({"messages": asking("x", data_uri(Image.new("1", (9000, 9000))))}, "pixels, more than"),
    ({"messages": asking("x", *[data_uri(0)] * 17)}, "more than 16 images"),
    (
        {"messages": [{"role": "system", "content": asking("x", data_uri(0))[0]["content"]}, TINY]},
        "user's may",
    ),
    ({"tools": [{"type": "function"}]}, "'tools' is not supported"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"logprobs": True}, "logprobs"),
    ({"temperature": 3}, "temperature"),
    ({"n": 0}, "'n'"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"language": "Klingonish"}, "Klingonish"),
    ({"language": "de", "languages": ["de"]}, "either"),
    ({"languages": ["de", "de"]}, "twice"),
    ({"max_tokens": 100_000}, "are the most"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_what_cannot_be_answered_is_one_sentence(
    server: Serving, name: str, change: dict[str, Any], sentence: str
) -> None:
    status, reply = post(server, {"model": name, "messages": [TINY], "max_tokens": 2} | change)
    assert status == 400
    assert sentence in reply["error"]["message"]
    assert reply["error"]["type"] == "invalid_request_error"


def post(server: Serving, body: Any, path: str = "/v1/chat/completions") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply.status, json.loads(text)


def test_the_client_knows_the_errors(client: Any, server: Serving, name: str) -> None:
    with pytest.raises(openai.BadRequestError, match="'tools' is not supported"):
        client.chat.completions.create(model=name, messages=[TINY], tools=[])
    with pytest.raises(openai.NotFoundError, match="There is no model 'other'"):
        client.chat.completions.create(model="other", messages=[TINY])
    assert post(server, b"{")[0] == 400
    assert post(server, b'{"\\ud800": 1}')[0] == 400
    assert post(server, b"[" * 100_000)[0] == 400
    assert post(server, b" " * 3_000_000)[0] == 413


def test_too_many_at_once_are_told_to_come_back(server: Serving, name: str) -> None:
    def ask(_: int) -> int:
        return post(server, {"model": name, "messages": [TINY], "max_tokens": 60})[0]

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(ask, range(24)))
    assert set(statuses) == {200, 429}
    assert ask(0) == 200


def test_what_a_server_is_watched_by(client: Any, server: Serving, name: str) -> None:
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).id == name
    for path in ("/health", "/ready"):
        assert urllib.request.urlopen(f"{server.url}{path}").status == 200
    assert metric(server, "polylens_steps_total") > 0
    assert "/v1/chat/completions" in json.load(urllib.request.urlopen(f"{server.url}/openapi.json"))["paths"]
    status, reply = post(server, {"prompt": "abc"}, "/tokenize")
    assert (status, reply["count"], len(reply["tokens"])) == (200, 3, 3)
    assert post(server, {}, "/tokenize")[0] == 400


def test_other_hosts_and_pages_are_refused(server: Serving) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/v1/models", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 403
    connection.close()
    request = urllib.request.Request(f"{server.url}/v1/models", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in urllib.request.urlopen(request).headers


def test_a_client_that_leaves_frees_its_row(client: Any, server: Serving, name: str) -> None:
    before = metric(server, "polylens_cancelled_total")
    long: dict[str, Any] = {"model": name, "messages": [TINY], "max_tokens": 1900}
    stream = client.chat.completions.create(**long, stream=True)
    next(iter(stream))
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(**long)
    wait_until_idle(server)
    assert metric(server, "polylens_cancelled_total") == before + 2


def test_a_body_that_does_not_go_on_is_no_hang_for_others(client: Any, server: Serving) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert list(client.models.list())


def test_neither_prompts_nor_pictures_are_logged(client: Any, server: Serving, name: str) -> None:
    client.chat.completions.create(model=name, messages=asking("SecretWord", data_uri(1)), max_tokens=2)
    log = "".join(server.log)
    assert "/v1/chat/completions" in log
    assert "SecretWord" not in log
    assert "base64" not in log


def test_a_key_is_asked_for_and_sigterm_finishes_what_runs(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("right\n")
    with serving(model_folder, "--api-key-file", str(tmp_path / "key")) as running:
        wrong = openai.OpenAI(base_url=f"{running.url}/v1", api_key="wrong", max_retries=0)
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            wrong.models.list()
        assert urllib.request.urlopen(f"{running.url}/health").status == 200
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="right", max_retries=0, timeout=SECONDS)
        name = client.models.list().data[0].id
        stream = client.chat.completions.create(
            model=name, messages=[TINY], max_tokens=400, stream=True, stream_options={"include_usage": True}
        )
        chunks = iter(stream)
        next(chunks)
        running.process.send_signal(signal.SIGTERM)
        last = list(chunks)[-1]
        assert last.usage.completion_tokens == 400
        assert running.process.wait(SECONDS) == 0


def test_a_second_signal_ends_at_once(model_folder: Path) -> None:
    with serving(model_folder) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=SECONDS)
        stream = client.chat.completions.create(
            model=str(model_folder), messages=[TINY], max_tokens=2000, n=16, stream=True
        )
        next(iter(stream))
        for _ in range(2):
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert running.process.wait(SECONDS) == 1


def test_an_open_host_needs_a_key(model_folder: Path) -> None:
    command = [sys.executable, "-m", "polylens", "serve", str(model_folder), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "Without an API key only this machine may ask" in done.stderr


def test_a_port_in_use_is_one_sentence(model_folder: Path, server: Serving) -> None:
    command = [sys.executable, "-m", "polylens", "serve", str(model_folder), "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr
    assert "Traceback" not in done.stderr
