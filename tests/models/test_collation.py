"""Collation: where tokens, pictures and targets stand, for both kinds of language model and for chats."""

from dataclasses import replace

import pytest
import torch
from tests.models.tiny_models import PROCESSOR, NoisePicture, sample, tiny_tokenizer

from polylens.data.collate import IGNORED, Collator
from polylens.data.layout import Layout
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.role == 'assistant' %}</s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TALK = Sample(
    "talk",
    (NoisePicture(0), NoisePicture(1)),
    (Turn("Who?", "Cat"), Turn("Where?", "Sofa")),
    "en",
    "chat",
    "test",
)


def collator(encoder_decoder: bool = False, **settings: object) -> Collator:
    layout = Layout.model_validate(settings.pop("layout", {}))
    tokenizer = tiny_tokenizer(encoder_decoder)
    tokenizer.chat_template = CHAT
    return Collator(tokenizer, 2, layout, encoder_decoder, **settings)


def shown(collate: Collator, ids: torch.Tensor, image: torch.Tensor | None = None) -> str:
    """The row as text: `#` for a picture's place, `.` for no target."""
    words = collate.tokenizer.convert_ids_to_tokens([max(i, 0) for i in ids.tolist()])
    words = ["." if i == IGNORED else word for i, word in zip(ids.tolist(), words, strict=True)]
    places = image.tolist() if image is not None else [False] * len(words)
    return "".join("#" if place else word for word, place in zip(words, places, strict=True))


def row(collate: Collator, one: Sample, answers: bool = True) -> tuple[str, str]:
    batch = collate([one], answers=answers)
    text = shown(collate, batch.input_ids[0], batch.image_mask[0])
    return text, "" if batch.labels is None else shown(collate, batch.labels[0])


def test_a_decoders_row_holds_pictures_prompt_answer_and_end() -> None:
    assert row(collator(), sample("Hi", " K", (0, 1))) == ("####Hi K</s>", "...... K</s>")
    assert row(collator(), sample("Hi", " K", (0, 1)), answers=False) == ("####Hi", "")
    prefixed = collator(layout={"answer_prefix": " ", "bos": "first"})
    assert row(prefixed, sample("Hi", "K")) == ("<s>##Hi K</s>", "..... K</s>")


def test_an_encoders_row_ends_with_its_end_and_the_answer_stands_apart() -> None:
    assert row(collator(True), sample("Hi", "K")) == ("##Hi</s>", "K</s>")
    assert row(collator(True, layout={"turn_separator": " "}), TALK) == ("####Who?Cat Where?</s>", "Sofa</s>")


def test_earlier_turns_are_context() -> None:
    everything = collator(layout={"turn_separator": " "})
    text, labels = row(everything, TALK)
    assert text == "####Who?Cat</s> Where?Sofa</s>"
    assert labels.replace(".", "") == "Cat</s>Sofa</s>"
    last = collator(layout={"turn_separator": " ", "train_turns": "last"})
    assert row(last, TALK)[1].replace(".", "") == "Sofa</s>"
    assert row(last, TALK, answers=False)[0] == "####Who?Cat</s> Where?"


@pytest.mark.parametrize("layout", [{}, {"answer_prefix": " "}, {"kind": "chat"}])
def test_answers_tokenized_together_are_those_tokenized_alone(layout: dict[str, str]) -> None:
    together = collator(layout=layout).all_answer_ids(["Cat", "", "Katze und Hund"])
    assert together == {text: collator(layout=layout).answer_ids(text) for text in together}
    assert together["Cat"] != together["Katze und Hund"]
    assert collator(layout=layout).all_answer_ids([]) == {}


def test_a_chat_template_places_pictures_and_targets() -> None:
    chat = collator(layout={"kind": "chat"})
    text, labels = row(chat, TALK)
    text = text.replace("<unk>", "|")  # brackets are unknown to the tiny tokenizer
    assert text == "<s>|user|####Who?|assistant|Cat</s> |user|Where?|assistant|Sofa</s>"
    assert labels.replace(".", "") == "Cat</s>Sofa</s>"
    prompt = row(chat, TALK, answers=False)[0].replace("<unk>", "|")
    assert prompt == text.removesuffix("Sofa</s>")
    assert chat.tokenizer.decode(chat.answer_ids("Cat"), skip_special_tokens=True).replace(" ", "") == "Cat"


def test_training_pads_right_and_answering_pads_decoders_left() -> None:
    samples = [sample("Hi", "K"), sample("Hello", "Katze", ())]
    batch = collator()(samples)
    assert batch.attention_mask.tolist() == [[1] * 6 + [0] * 5, [1] * 11]
    assert batch.num_targets == 2 + 6
    prompts = collator()(samples, answers=False)
    assert prompts.attention_mask.tolist() == [[0] + [1] * 4, [1] * 5]
    assert prompts.image_mask.sum(1).tolist() == [2, 0]
    assert collator(True)(samples, answers=False).attention_mask[0, -1] == 0


def test_pictures_are_loaded_in_order() -> None:
    batch = collator(processor=PROCESSOR)(
        [sample("a", "b", (3,)), sample("c", "d", ()), sample("e", "f", (1, 3))]
    )
    wanted = PROCESSOR([NoisePicture(i).load() for i in (3, 1, 3)])
    assert torch.equal(batch.visual, wanted)
    assert batch.level == "pixels"
    assert collator(processor=PROCESSOR)([sample("c", "d", ())]).visual is None


def test_long_texts_lose_their_end() -> None:
    assert row(collator(max_length=4), sample("Hi", "Katze")) == ("##HiKa", "....Ka")
    assert row(collator(True, max_length=3), sample("Hello", "Katze")) == ("##He</s>", "Kat")


def test_samples_without_a_target_are_shown() -> None:
    for one, settings in (
        (sample("Hi", ""), {}),
        (sample("Hello", "K"), {"max_length": 3}),
        (replace(sample("Hi", "K"), turns=()), {}),
    ):
        for encoder_decoder in (False, True):
            if encoder_decoder and settings:
                continue  # an encoder's prompt leaves its answer room
            with pytest.raises(UserError, match="Sample 's' of test"):
                collator(encoder_decoder, **settings)([one])
    with pytest.raises(UserError, match="no image and an empty prompt"):
        collator()([sample("", "", ())], answers=False)
