"""Conversations: the answers of plain generation, and nothing computed twice (counted)."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import DECODERS, NoisePicture, tiny_vlm
from tests.viscpm.tiny import ask, tiny_chat
from tokenizers import decoders

from polylens.data.layout import Layout
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.models.decoding.chat import Chat
from polylens.models.vlm import VisionLanguageModel
from polylens.viscpm.model import MAX_PROMPT

SETTINGS = {"max_new_tokens": 6}
QUESTIONS = ("what is it?", "and where?", "what else?")


def faithful_vlm(lm: str, **config: object) -> VisionLanguageModel:
    """A tiny model whose answers are read as the tokens that they were written in."""
    model = tiny_vlm(lm, **config)
    model.tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    return model


@contextmanager
def counting(model: torch.nn.Module) -> Iterator[Counter]:
    """Counts pictures looked at, and places that the language model computes."""
    counts: Counter = Counter()
    vision = model.vision if isinstance(model, VisionLanguageModel) else model.model.vpm["beit3"]
    layer = next(
        m for n, m in model.lm.named_modules() if n.endswith((".0", "block.0")) and list(m.children())
    )

    def look(_, args) -> None:
        counts["pictures"] += len(args[0])

    def read(_, args, kwargs) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        counts["places"] += states.shape[0] * states.shape[1]

    handles = [
        vision.register_forward_pre_hook(look),
        layer.register_forward_pre_hook(read, with_kwargs=True),
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def plain(model: VisionLanguageModel, chat: Chat) -> Sample:
    """The last turn of a conversation as a sample to answer from nothing."""
    *earlier, last = chat.exchanges
    pictures = tuple(picture for one in chat.exchanges for picture in one.images)
    turns = [Turn(one.prompt, one.answer) for one in earlier]
    return Sample("s", pictures, (*turns, Turn(last.prompt, "")), "de", "chat", "t")


@pytest.mark.parametrize("lm", [*DECODERS, "mt5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_conversation_answers_as_plain_generation(lm: str, beams: int) -> None:
    model = tiny_vlm(lm)
    chat = model.chat(num_beams=beams, **SETTINGS)
    for number, question in enumerate(QUESTIONS):
        images = [NoisePicture(1)] if number == 0 else []
        said = chat.say(question, images)
        assert said == chat.exchanges[-1].answer
        assert [said] == model.generate([plain(model, chat)], num_beams=beams, **SETTINGS)


@pytest.mark.parametrize("lm", DECODERS)
def test_a_causal_model_reads_only_what_is_new(lm: str) -> None:
    model = faithful_vlm(lm)
    chat = model.chat(**SETTINGS)
    collator = model.collator(with_pictures=False)
    cached = 0
    with counting(model) as counts:
        for number, question in enumerate(QUESTIONS):
            counts["places"] = 0
            chat.say(question, [NoisePicture(1), NoisePicture(2)] if number == 0 else [])
            prompt = collator([plain(model, chat)], answers=False).input_ids.shape[1]
            assert counts["places"] <= prompt - cached + SETTINGS["max_new_tokens"] - 1
            cached = prompt
        assert counts["pictures"] == 2


def test_a_later_picture_is_looked_at_alone() -> None:
    for model in (tiny_vlm("llama"), tiny_vlm("t5"), tiny_chat()):
        chat = model.chat(**SETTINGS)
        with counting(model) as counts:
            chat.say("a?", [NoisePicture(1)])
            chat.say("b?", [NoisePicture(2), NoisePicture(1)])
            chat.say("c?")
        assert counts["pictures"] == 2


def test_a_chat_template_goes_on_from_the_cache_too() -> None:
    model = faithful_vlm("llama", layout=Layout(kind="chat"))
    model.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}"
    )
    chat = model.chat(**SETTINGS)
    with counting(model) as counts:
        chat.say("what is it?", [NoisePicture(1)])
        counts["places"] = 0
        said = chat.say("and?")
    assert counts["places"] < len("u:and?a:") + 2 * SETTINGS["max_new_tokens"]
    assert [said] == model.generate([plain(model, chat)], **SETTINGS)


@pytest.mark.parametrize(
    "model", [tiny_vlm("llama"), tiny_vlm("mt5"), tiny_chat()], ids=["llama", "mt5", "cpm-bee"]
)
def test_streamed_pieces_are_the_whole_answer(model) -> None:
    whole = model.chat(**SETTINGS).say("what?", [NoisePicture(0)])
    chat = model.chat(**SETTINGS)
    pieces = list(chat.stream("what?", [NoisePicture(0)]))
    assert "".join(pieces) == whole
    assert chat.messages[-1] == {"role": "assistant", "content": whole}


@pytest.mark.parametrize("model", [tiny_vlm("llama"), tiny_chat()], ids=["llama", "cpm-bee"])
def test_a_stopped_answer_stays_as_far_as_it_went(model) -> None:
    settings = {"max_new_tokens": 12, "num_beams": 1}
    chat = model.chat(**settings)
    answer = chat.stream("what is this?", [NoisePicture(0)])
    first = next(answer)
    answer.close()
    assert chat.exchanges[-1].answer == first
    expected = model.chat(messages=[], **settings)
    expected.exchanges = list(chat.exchanges)
    assert chat.say("go on") == expected.say("go on")


def test_an_interrupt_inside_a_step_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_vlm("llama")
    chat, calls = model.chat(max_new_tokens=12), 0
    layer = model.lm.model.layers[1]
    plain_forward = layer.forward

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return plain_forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.say("what is this?", [NoisePicture(0)])
    said = chat.say("go on")
    assert [said] == model.generate([plain(model, chat)], max_new_tokens=12)


def test_history_is_data(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    NoisePicture(3).load().save(path)
    model = tiny_vlm("llama")
    chat = model.chat("de", **SETTINGS)
    chat.say("what?", [path])
    chat.say("")
    kept = json.loads(json.dumps(chat.messages))
    assert kept[0] == {
        "role": "user",
        "content": "what?",
        "prompt": "what? Answer in German.",
        "images": [str(path)],
    }
    assert kept[2]["prompt"] == "Caption in German: "
    again = model.chat("de", kept, **SETTINGS)
    assert again.messages == chat.messages
    assert again.say("more") == chat.say("more")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}],
        [{"role": "user"}, {"role": "assistant", "content": "a"}],
        ["a", "b"],
    ],
)
def test_messages_that_are_none(messages) -> None:
    with pytest.raises(UserError, match="Messages"):
        tiny_chat().chat(messages=messages)


def test_an_empty_question_needs_a_picture() -> None:
    chat = tiny_chat().chat(**SETTINGS)
    with pytest.raises(UserError, match="nothing to answer"):
        chat.say("  ")
    chat.say("", [NoisePicture(0)])
    assert chat.exchanges[0].prompt == "Describe the image in English."


def test_the_oldest_turns_of_a_long_conversation_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_vlm("gpt2")  # 128 positions
    chat = model.chat(**SETTINGS)
    for _ in range(4):
        chat.say("what is it in this picture?", [])
    assert "turns are left out" in caplog.text
    assert len(chat.messages) == 8
    with pytest.raises(UserError, match="shorten it"):
        chat.say("a" * 200)
    bee = tiny_chat().chat(**SETTINGS)
    with pytest.raises(UserError, match="shorten it"):
        bee.say("a" * MAX_PROMPT)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_number_of_pictures(count: int) -> None:
    model = tiny_chat()
    said = model.chat(**SETTINGS).say("a < b <ans> Ω?", [NoisePicture(i) for i in range(count)])
    sample = ask(("a < b <ans> Ω?", ""), pictures=tuple(range(count)))
    assert model.data(sample).get("image", "").count("<unk>") == 3 * count
    settings = {"num_beams": 3, "temperature": 0.7, "repetition_penalty": 1.1, "length_penalty": 3.0}
    assert [said] == model.generate([sample], **settings, **SETTINGS)
