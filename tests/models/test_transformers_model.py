"""Any image-text-to-text model of transformers behind the contract of all models: tiny random ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.tiny_models import sample
from tests.models.tiny_transformers import save_blip2, save_gemma3, save_llava, save_qwen3_vl
from typer.testing import CliRunner

from polylens.cli import app
from polylens.errors import UserError
from polylens.models.checkpoints.families import find_family
from polylens.models.checkpoints.load import load_any
from polylens.models.interface import Model

SAVED: dict[str, Callable[[Path], Path]] = {
    "llava": save_llava,
    "qwen3_vl": save_qwen3_vl,
    "gemma3": save_gemma3,
}
SAMPLES = [
    sample("what", pictures=(0,)),
    sample("a longer question", pictures=(1,)),
    sample("text only", pictures=()),
    sample("two", pictures=(0, 2)),
]


@pytest.fixture(scope="module", params=SAVED)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVED[request.param](tmp_path_factory.mktemp(request.param))


def test_a_folder_is_known_without_a_prefix(folder: Path) -> None:
    assert find_family(folder)[0].name == "transformers"
    assert find_family(f"transformers:{folder}")[1] == folder


def test_answers_and_scores_do_not_depend_on_the_batch(folder: Path) -> None:
    model: Model = load_any(folder)
    one, many = (model.generate(SAMPLES, max_new_tokens=5, batch_size=size) for size in (1, 4))
    assert one == many
    candidates = [["a", "b c", "dog"], ["d"], ["e", "f"], ["g"]]
    alone, together = (model.score(SAMPLES, candidates, batch_size=size) for size in (1, 3))
    for row, other in zip(alone, together, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    (elsewhere,) = model.score([sample("what", pictures=(2,))], candidates[:1])
    assert elsewhere[0] != pytest.approx(alone[0][0], rel=1e-3), "another picture, another score"
    assert model.choose(SAMPLES, candidates)[0] == max(range(3), key=alone[0].__getitem__)


def test_the_greedy_answer_is_the_likeliest_first_token(folder: Path) -> None:
    model = load_any(folder)
    (answer,) = model.generate(SAMPLES[:1], max_new_tokens=1)
    letters = [
        letter for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:?!." if letter != answer
    ]
    inputs = model.inputs(SAMPLES[:1])  # type: ignore[attr-defined]
    with torch.no_grad():
        logits = model.model(**inputs).logits[0, -1]  # type: ignore[attr-defined]
    first = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert len(first) <= 1
    ids = [model.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in letters]
    if first:
        assert logits[first[0]] >= logits[ids].max()


def test_a_conversation_goes_on(folder: Path) -> None:
    talk = load_any(folder).chat("de")
    pieces = list(talk.stream("what", images=[SAMPLES[0].images[0]]))
    assert talk.messages[-1]["content"] == "".join(pieces)
    talk.say("and")
    assert [message["role"] for message in talk.messages] == ["user", "assistant"] * 2
    assert talk.messages[0]["prompt"].endswith("Answer in German.")


def test_captions_on_the_command_line(folder: Path) -> None:
    picture = folder / "cat.png"
    SAMPLES[0].images[0].load().save(picture)
    command = ["caption", str(picture), "--model", f"transformers:{folder}", "--lang", "de,sw", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert '"de"' in result.output
    assert '"sw"' in result.output


def test_an_encoder_decoder_by_its_prefix(tmp_path: Path) -> None:
    folder = save_blip2(tmp_path)
    assert find_family(folder)[0].name == "blip2"
    model = load_any(f"transformers:{folder}")
    alone, together = (model.score(SAMPLES[:2], [["a", "bc"], ["d"]], batch_size=size) for size in (1, 2))
    assert alone[0] == pytest.approx(together[0], rel=1e-4)
    assert len(model.generate(SAMPLES[:2], max_new_tokens=4, num_beams=2)) == 2


def test_what_it_cannot_do_is_refused(folder: Path) -> None:
    model = load_any(folder)
    with pytest.raises(UserError, match="does not train"):
        model.adapt("*", rank=2, alpha=4, dropout=0)
    with pytest.raises(UserError, match="leave --cache out"):
        model.vision_identity()
    with pytest.raises(UserError, match="give one for each"):
        model.score(SAMPLES[:1], [])
