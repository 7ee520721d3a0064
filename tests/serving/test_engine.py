"""The engine: answers are those of the model alone, whatever runs beside them; jobs join, leave, end and fail."""

import functools
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.decoding.test_search import SAMPLES, ending_vlm
from tests.models.tiny_models import LANGUAGE_MODELS, NoisePicture, sample
from tests.serving.engine_runs import Asked, engine_of, held, texts

from polylens.errors import UserError
from polylens.models.vlm import VisionLanguageModel
from polylens.serving.backends import VisualCache
from polylens.serving.choose import Drawing
from polylens.serving.engine import Full
from polylens.serving.jobs import Settings, Settled, TooLate

MORE = [
    *SAMPLES,
    sample("Two pictures?", pictures=(1, 2)),
    sample("No picture at all, but a long question.", pictures=()),
]


@functools.cache
def model_of(lm: str) -> VisionLanguageModel:
    return ending_vlm(lm)


@functools.cache
def alone(lm: str, place: int, length: int) -> str:
    return model_of(lm).generate([MORE[place]], max_new_tokens=length)[0]


def long_answer(lm: str) -> int:
    """The place of a sample whose answer takes a while."""
    return max(range(len(MORE)), key=lambda place: len(alone(lm, place, 12)))


@pytest.mark.parametrize("lm", LANGUAGE_MODELS)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_an_answer_does_not_depend_on_what_it_was_batched_with(lm: str, data: st.DataObject) -> None:
    orders = st.lists(
        st.tuples(
            st.integers(0, len(MORE) - 1), st.integers(1, 14), st.booleans(), st.sampled_from([0, 0.002])
        ),
        min_size=2,
        max_size=9,
    )
    wanted = data.draw(orders)
    # A model serves one thread at a time.
    expected = [alone(lm, place, length) for place, length, _, _ in wanted]
    with engine_of(model_of(lm), max_batch=data.draw(st.integers(1, 4))) as engine:
        asked = []
        for place, length, beside, pause in wanted:
            asked.append(Asked(engine, MORE[place], Settings(length)))
            if beside:  # its random numbers and its rows are its own
                Asked(engine, MORE[-1 - place], Settings(5, temperature=1.3, seed=place))
            time.sleep(pause)
        assert texts(asked) == expected


@pytest.mark.parametrize("lm", ["llama", "mt5"])
def test_jobs_join_between_steps_and_free_their_room(lm: str) -> None:
    place = long_answer(lm)
    expected = [alone(lm, place, 12), alone(lm, 5, 3), alone(lm, 6, 3)]
    with engine_of(model_of(lm)) as engine:
        stopped, go_on = held(engine)
        first = Asked(engine, MORE[place], Settings(12))
        assert stopped.wait(60)
        later = [Asked(engine, MORE[other], Settings(3)) for other in (5, 6)]
        go_on.set()
        assert texts([first, *later]) == expected
        assert engine.counts.rows > engine.counts.steps, "rows were read together"
        assert engine.backend.running == []
        assert engine.backend._rows.cache is None


def test_caches_that_cannot_be_padded_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_of(model_of("llama"), max_batch=2) as engine:
        rows = engine.backend._rows
        monkeypatch.setattr(rows, "can_join", lambda: rows.cache is None)
        joined = []
        join = rows.join
        monkeypatch.setattr(rows, "join", lambda prompts: joined.append(rows.cache) or join(prompts))
        asked = [Asked(engine, one, Settings(6)) for one in MORE[:5]]
        assert texts(asked) == [alone("llama", place, 6) for place in range(5)]
        assert joined == [None] * len(joined)


@pytest.mark.parametrize("lm", ["gpt2", "t5"])
def test_sampling_repeats_with_the_seed_alone(lm: str) -> None:
    chosen = Settings(10, temperature=1.5, top_p=0.9, seed=7)
    with engine_of(model_of(lm)) as engine:
        once = Asked(engine, MORE[0], chosen).text()
        crowd = [Asked(engine, MORE[place], Settings(10, temperature=2, seed=place)) for place in range(6)]
        assert Asked(engine, MORE[0], chosen).text() == once
        assert len(set(texts(crowd))) > 1


def test_sampling_draws_from_the_likeliest_that_make_up_top_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for top_p, expected in ((0.0, {0}), (0.5, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        drawing = Drawing(Settings(1, temperature=1.0, top_p=top_p, seed=3))
        assert {drawing.draw(logits) for _ in range(300)} == expected
    drawing = Drawing(Settings(1, temperature=1.0, seed=3))
    drawn = [drawing.draw(logits) for _ in range(4000)]
    assert [drawn.count(token) / 4000 for token in range(4)] == pytest.approx(
        [0.5, 0.3, 0.15, 0.05], abs=0.03
    )
    assert Drawing(Settings(1, temperature=1e-320)).draw(logits) == 0


def test_each_picture_is_encoded_once_and_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoded = model_of("llama"), []
    encode = VisionLanguageModel.encode
    monkeypatch.setattr(
        VisionLanguageModel,
        "encode",
        lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels),
    )
    with engine_of(model) as engine:
        wanted = [sample("ab", pictures=(1,)), sample("cd", pictures=(1,)), sample("ef", pictures=(1, 1))]
        texts([Asked(engine, one, Settings(2)) for one in wanted])
        assert sum(encoded) == 1
        again = Asked(engine, wanted[2], Settings(2))
        again.all()
        assert again.job.num_cached_tokens == 2 * model.num_image_tokens
        assert sum(encoded) == 1


def test_the_cache_gives_up_what_was_unused_longest() -> None:
    cache = VisualCache(max_bytes=100)
    for key in "abc":
        cache.put(key, torch.zeros(10))
        assert cache.get("a") is not None
    assert [key for key in "abc" if cache.get(key) is not None] == ["a", "c"]
    cache.put("large", torch.zeros(100))
    assert cache.get("large") is None
    assert cache.num_bytes == 80


def test_jobs_that_nobody_waits_for_leave() -> None:
    with engine_of(model_of("llama"), max_batch=1) as engine:
        stopped, go_on = held(engine)
        running = Asked(engine, MORE[0], Settings(12))
        assert stopped.wait(60)
        late = Asked(engine, MORE[1], Settings(12), deadline=time.monotonic())
        gone, other = Asked(engine, MORE[2], Settings(12)), Asked(engine, MORE[3], Settings(12))
        running.job.cancelled = gone.job.cancelled = True
        go_on.set()
        assert other.text() == alone("llama", 3, 12)
        assert isinstance(late.all()[-1].error, TooLate)
        assert not any(update.is_last for update in (*running.updates.queue, *gone.updates.queue))
        assert (engine.counts.cancelled, engine.counts.late) == (2, 1)


def test_the_queue_is_bounded() -> None:
    with engine_of(model_of("llama"), max_batch=1, max_waiting=2) as engine:
        stopped, go_on = held(engine)
        first = Asked(engine, MORE[0], Settings(3))
        assert stopped.wait(60)
        waiting = [Asked(engine, one, Settings(3)) for one in MORE[:2]]
        with pytest.raises(Full):
            Asked(engine, MORE[2], Settings(3))
        with pytest.raises(Full):
            engine.check_room()
        go_on.set()
        texts([first, *waiting])


def test_a_failure_ends_its_own_jobs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    place = long_answer("mt5")
    with engine_of(model_of("mt5")) as engine:
        with monkeypatch.context() as broken:
            broken.setattr(engine.backend, "step", lambda: 1 / 0)
            failed = Asked(engine, MORE[place], Settings(12)).all()[-1]
        assert isinstance(failed.error, ZeroDivisionError)
        assert Asked(engine, MORE[place], Settings(12)).text() == alone("mt5", place, 12)


def test_too_long_a_prompt_is_refused() -> None:
    with engine_of(model_of("gpt2")) as engine, pytest.raises(UserError, match="128 are the most"):
        Asked(engine, sample("a" * 100), Settings(60))
    with (
        engine_of(model_of("t5"), max_length=50) as engine,
        pytest.raises(UserError, match="50 are the most"),
    ):
        Asked(engine, sample("a" * 40), Settings(10))


def test_closing_finishes_what_was_accepted() -> None:
    with engine_of(model_of("t5"), max_batch=2) as engine:
        asked = [Asked(engine, one, Settings(8)) for one in MORE]
    assert texts(asked) == [alone("t5", place, 8) for place in range(len(MORE))]
    with pytest.raises(RuntimeError):
        Asked(engine, MORE[0], Settings(8))


@settings(deadline=None)
@given(st.text("ab \ufffd", max_size=12), st.lists(st.text("ab ", min_size=1, max_size=3), max_size=2))
def test_pieces_add_up_to_the_answer_before_its_stop(text: str, stops: list[str]) -> None:
    settled, said = Settled(stops), ""
    for length in range(1, len(text) + 1):
        said += settled.grow(text[:length], length == len(text))
        if settled.stopped:
            break
    whole = text.lstrip()
    found = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    assert said == whole[: min(found, default=(0, len(whole)))[1]].rstrip()
    assert settled.stopped == bool(found)
    assert Settled(stops).grow(text, last=True) == said, "also where all of it comes at once"


def test_a_picture_is_decoded_before_the_steps() -> None:
    with engine_of(model_of("llama")) as engine:
        asked = Asked(engine, sample("x", pictures=(9,)), Settings(1))
        assert set(asked.job.pixels) == {NoisePicture(9).key}
