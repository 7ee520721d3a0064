"""Models that are no `VisionLanguageModel`: one answer after the other, as their own chats give them."""

from typing import Any

import pytest
from tests.models.tiny_models import sample
from tests.models.tiny_transformers import save_llava
from tests.serving.engine_runs import Asked, engine_of, held, texts
from tests.viscpm.tiny import tiny_chat

from polylens.errors import UserError
from polylens.models.checkpoints.load import load_any
from polylens.serving.backends import OneByOneBackend
from polylens.serving.jobs import Settings

SAMPLES = [sample("what", pictures=(0,)), sample("a question", pictures=(1,)), sample("three", pictures=(2,))]


@pytest.fixture(scope="module", params=["viscpm", "llava"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "viscpm":
        return tiny_chat()
    return load_any(save_llava(tmp_path_factory.mktemp("llava")))


def alone(model: Any, place: int, length: int) -> str:
    one = SAMPLES[place]
    speaker = model.chat(max_new_tokens=length).speaker
    *_, whole = speaker.answer(one, model.encode_pictures(one.images))
    return whole.strip()


def test_answers_are_those_of_the_chat(model: Any) -> None:
    expected = [alone(model, place, 6) for place in range(3)]
    assert len(set(expected)) > 1
    with engine_of(model) as engine:
        assert isinstance(engine.backend, OneByOneBackend)
        assert texts([Asked(engine, one, Settings(6)) for one in SAMPLES]) == expected


def test_one_that_nobody_waits_for_is_left(model: Any) -> None:
    expected = alone(model, 1, 6)
    with engine_of(model) as engine:
        stopped, go_on = held(engine)
        gone = Asked(engine, SAMPLES[0], Settings(40))
        assert stopped.wait(60)
        gone.job.cancelled = True
        go_on.set()
        assert Asked(engine, SAMPLES[1], Settings(6)).text() == expected
        assert engine.backend.running == []


def test_sampling_is_refused(model: Any) -> None:
    with engine_of(model) as engine, pytest.raises(UserError, match="does not sample"):
        Asked(engine, SAMPLES[0], Settings(6, temperature=1.0))
