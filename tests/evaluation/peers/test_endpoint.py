"""Endpoints: real HTTP with the faults of real servers, pictures as they are, nothing asked twice."""

import base64
import io
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from tests.evaluation.chat_server import DROP, GARBAGE, NO_CHOICES, OK, SLOW, chat_server
from tests.models.tiny_models import NoisePicture, sample

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.evaluation.generation import Generation
from polylens.evaluation.peers import open_peer
from polylens.evaluation.peers.chat import ChatClient, Prices, image_tokens, map_concurrently
from polylens.evaluation.peers.endpoint import EndpointPredictor
from polylens.evaluation.predictor import Predictor
from polylens.evaluation.runner import Item, answer

pytest.importorskip("openai", reason="the extra 'endpoint' is not installed")


def echo(body: dict[str, Any]) -> str:
    return f" said {body['messages'][-1]['content'][-1]['text']}\n"


def predictor(url: str, **settings: Any) -> EndpointPredictor:
    return EndpointPredictor(ChatClient(url, "tiny", **{"timeout": 20.0, "retries": 3, **settings}))


def test_answers_are_put_in_their_places_with_many_requests_at_once() -> None:
    samples = [sample(f"question {i}", pictures=(i % 3,)) for i in range(24)]

    def slow_echo(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return echo(body)

    with chat_server(slow_echo) as server:
        peer: Predictor = predictor(server.url, concurrency=6)
        found = dict(peer.generate(samples, Generation()))
        assert found == {i: f"said question {i}" for i in range(24)}
        assert 1 < server.most_at_once <= 6
        assert server.requests[0]["max_tokens"] == 32
        assert server.requests[0]["temperature"] == 0
        assert peer.client.served == {"tiny-2026": 24}
        assert peer.client.tokens == {"prompt": 24 * 11, "completion": 24 * 3}


@pytest.mark.parametrize("fault", [429, 500, 503, DROP, GARBAGE, NO_CHOICES, SLOW])
def test_faults_are_waited_out(fault: int | str) -> None:
    with chat_server(echo, [fault]) as server:
        peer = predictor(server.url, timeout=0.7 if fault == SLOW else 20.0)
        assert list(peer.generate([sample("a")], Generation())) == [(0, "said a")]
        assert len(server.requests) == 2
        waited = server.times[1] - server.times[0]
        assert waited >= (1.0 if fault == 429 else 0.0)  # as Retry-After says


@pytest.mark.parametrize(
    ("faults", "requests", "message"),
    [
        ([503] * 9, 2, "HTTP 503.*after 2 tries"),
        ([429] * 9, 2, "HTTP 429.*fewer requests at once"),
        ([401] * 9, 1, "HTTP 401.*fault 401.*POLYLENS_API_KEY"),
        ([404] * 9, 1, "HTTP 404.*'tiny'.*/v1"),
        ([400] * 9, 1, "HTTP 400.*fault 400"),
        ([DROP] * 9, 2, "cannot be reached after 2 tries"),
        ([NO_CHOICES] * 9, 2, "without a chat completion"),
    ],
)
def test_what_stays_wrong_is_one_sentence(faults: list[int | str], requests: int, message: str) -> None:
    with chat_server(echo, faults) as server:
        with pytest.raises(UserError, match=message):
            list(predictor(server.url, retries=1).generate([sample("a")], Generation()))
        assert len(server.requests) == requests


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        list(predictor("http://127.0.0.1:9/v1", retries=0).generate([sample("a")], Generation()))


def test_a_run_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    items = [Item(sample(f"q{i}", name=f"s{i}"), ("x",)) for i in range(6)]

    def run() -> list[str]:
        peer = predictor(server.url, retries=0, concurrency=1)
        return answer(peer, items, Generation(), folder=tmp_path, fingerprint=peer.settings)

    with chat_server(echo) as server:
        server.faults = [OK, OK, OK, 500]
        with pytest.raises(UserError, match="HTTP 500"):
            run()
        asked = len(server.requests)
        assert run() == [f"said q{i}" for i in range(6)]
        assert len(server.requests) == asked + 3


def test_pictures_arrive_as_they_are() -> None:
    with chat_server(echo) as server:
        two = sample("what?", pictures=(3, 4))
        list(predictor(server.url).generate([two], Generation()))
        content = server.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    for part, seed in zip(content[:2], (3, 4), strict=True):
        kind, _, data = part["image_url"]["url"].partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
            assert ImageChops.difference(sent, NoisePicture(seed).load()).getbbox() is None


def test_large_pictures_are_scaled_down() -> None:
    with chat_server(echo) as server:
        peer = EndpointPredictor(ChatClient(server.url, "tiny"), max_side=25)
        list(peer.generate([sample("a")], Generation()))
        url = server.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as sent:
        assert sent.size == (25, 20)
    assert peer.settings["picture_max_side"] == 25


def test_conversations_keep_their_order() -> None:
    turns = (Turn("first?", "one"), Turn("second?", "unseen"))
    talk = Sample("s", (NoisePicture(0),), turns, "en", "chat", "test")
    messages = predictor("http://localhost/v1").messages(talk)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "one"
    assert [part["type"] for part in messages[2]["content"]] == ["text"]
    assert "unseen" not in str(messages)


def test_the_key_is_sent_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYLENS_API_KEY", "secret-1")
    with chat_server(echo) as server:
        peer = predictor(server.url)
        list(peer.generate([sample("a")], Generation()))
        assert server.keys == ["Bearer secret-1"]
    assert "secret" not in str(peer.settings) + peer.name + repr(peer.client)


def test_settings_that_cannot_be_asked_for_are_refused() -> None:
    peer = predictor("http://localhost/v1")
    for generation in (Generation(num_beams=5), Generation(repetition_penalty=1.5)):
        with pytest.raises(UserError, match="cannot be asked"):
            peer.generate([sample("a")], generation)
    with pytest.raises(UserError, match="takes no temperature"):
        list(peer.generate([sample("a")], Generation(temperature=0.7)))
    with pytest.raises(UserError, match=r"URL|HOST"):
        open_peer("http://localhost/v1")
    with pytest.raises(UserError, match="concurrency=0"):
        ChatClient("http://localhost/v1", "m", concurrency=0)


def test_costs_before_the_start() -> None:
    assert image_tokens(512, 512) == 85 + 170  # nothing is scaled up
    assert image_tokens(2048, 4096) == 85 + 170 * 6  # OpenAI's own example
    samples = [sample("a" * 30, pictures=(i,)) for i in range(4)]
    peer = EndpointPredictor(ChatClient("http://localhost/v1", "tiny"), prices=Prices(2.0, 8.0))
    guess = peer.estimate(samples, Generation(max_new_tokens=10))
    each = 10 + image_tokens(50, 40)
    assert (guess.requests, guess.prompt_tokens, guess.completion_tokens) == (4, 4 * each, 40)
    assert guess.dollars == pytest.approx((4 * each * 2 + 40 * 8) / 1e6)
    assert "prices unknown" in str(predictor("http://localhost/v1").estimate(samples, Generation()))
    said: list[str] = []
    with chat_server(echo) as server:
        peer = open_peer(f"{server.url}#tiny", Prices(2.0, 8.0), said.append, retries=0)
        answers = peer.generate(samples, Generation(max_new_tokens=10))
        assert server.requests == []
        assert len(list(answers)) == 4
    assert len(said) == 1
    assert f"4 requests, about {4 * each:,} tokens in and at most 40 out: about $" in said[0]


def test_an_error_leaves_what_has_not_begun() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise UserError("three")
        return item

    with pytest.raises(UserError, match="three"):
        list(map_concurrently(work, range(1000), 1))
    assert len(begun) < 1000
