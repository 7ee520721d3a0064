"""Made-up bodies: the server answers or says what is wrong, and never fails."""

import base64
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.processes import SECONDS, Serving, data_uri

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

URI = data_uri(0)
HEAD, CODED = URI.split(",")
PNG = base64.b64decode(CODED)

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "</s>", "<pad>", "\ue000", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def broken_pictures(draw: st.DrawFn) -> str:
    """A PNG that is cut, or has other bytes in places."""
    content = bytearray(PNG[: draw(st.integers(0, len(PNG)))])
    for place in draw(st.lists(st.integers(0, 200), max_size=4)):
        if place < len(content):
            content[place] = draw(st.integers(0, 255))
    return f"{HEAD},{base64.b64encode(bytes(content)).decode()}"


urls = st.sampled_from([URI, CODED, "data:", "https://localhost/a.png", "\ud800"]) | broken_pictures()
parts = (
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9) | junk})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": urls})})
    | junk
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "user", "user", "assistant", "system", "tool"]),
        "content": st.text(max_size=9) | st.lists(parts, max_size=3) | junk,
    }
)
small = st.integers(1, 4)
bodies = st.fixed_dictionaries(
    {
        "model": st.just("MODEL"),
        "messages": st.lists(messages, min_size=1, max_size=3) | junk,
        "max_tokens": small,
    },
    optional={
        "n": small | junk,
        "temperature": st.floats(0, 2) | st.just(5e-324) | junk,
        "top_p": st.floats(0, 1) | junk,
        "seed": st.integers() | junk,
        "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=5) | junk,
        "stream": st.booleans() | junk,
        "stream_options": junk,
        "language": st.sampled_from(["de", "zz", ""]) | junk,
        "languages": st.lists(st.sampled_from(["de", "sw", "zh"]), max_size=3) | junk,
        "tools": junk,
        "response_format": junk,
        "extra": junk,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies, cut=st.none() | st.integers(0, 300))
def test_no_body_makes_the_server_fail(
    server: Serving, model_folder: Path, body: dict[str, Any], cut: int | None
) -> None:
    content = json.dumps(body | {"model": str(model_folder)}).encode()[:cut]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    text = reply.read().decode("utf-8")
    connection.close()
    assert reply.status in (200, 400), (body, text)
    if reply.status == 400:
        assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
    elif reply.headers["content-type"].startswith("text/event-stream"):
        assert text.endswith("data: [DONE]\n\n"), text
