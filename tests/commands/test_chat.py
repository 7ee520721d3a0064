"""`polylens chat` and `polylens convert`, as a person or a pipe uses them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.models.tiny_models import NoisePicture
from tests.viscpm.tiny import tiny_chat
from typer.testing import CliRunner

from polylens.cli import app
from polylens.viscpm.files import save_folder
from polylens.viscpm.model import VisCpmChat

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_chat()
    return save_folder(model.model, model.tokenizer, tmp_path_factory.mktemp("viscpm") / "model")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    NoisePicture(1).load().save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(*arguments: object, text: str = "") -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments], input=text)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_questions_from_a_pipe(folder: Path, image: Path) -> None:
    out = run("chat", folder, "--image", image, "--max-new-tokens", 5, text="what?\nand where?\n")
    talk = VisCpmChat.from_pretrained(folder).chat(max_new_tokens=5)
    assert out.splitlines() == [talk.say("what?", [image]), talk.say("and where?")]


def test_commands_inside(folder: Path, image: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    lines = [
        f"/image {image} {image}",
        "/lang zh",
        "what?",
        "/lang",
        "",
        f"/save {kept}",
        "/help",
        "/quit",
        "not read",
    ]
    out = run("chat", folder, "--max-new-tokens", 4, text="\n".join(lines) + "\n")
    assert "2 images with the next question" in out
    assert "answers in Chinese" in out
    assert "/save FILE" in out
    messages = json.loads(kept.read_text(encoding="utf-8"))
    assert len(messages) == 4
    assert messages[0]["prompt"] == "what? Answer in Chinese."
    assert messages[0]["images"] == [str(image)] * 2
    assert messages[2]["prompt"] == "Describe the image in English."
    again = run("chat", folder, "--history", kept, "--max-new-tokens", 4, text="more\n")
    talk = VisCpmChat.from_pretrained(folder).chat(messages=messages, max_new_tokens=4)
    assert again.splitlines() == [talk.say("more")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/nothing", "There is no /nothing"),
        ("/image", "needs a file"),
        ("/image none.png", "does not exist"),
        ("/lang xx", "xx"),
        ("", "nothing to answer"),
    ],
)
def test_mistakes_inside_end_a_pipe_with_one_sentence(folder: Path, line: str, said: str) -> None:
    result = RUNNER.invoke(app, ["chat", str(folder)], input=f"{line}\n")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_model_of_the_other_family_chats_too(image: Path) -> None:
    out = run("chat", "picto", "--image", image, "--lang", "de", "--max-new-tokens", 4, text="\n")
    assert out.strip()
    result = RUNNER.invoke(app, ["chat", "picto", "--stream", "disk"])
    assert result.exit_code == 2
    assert "streamed for VisCPM-Chat or CPM-Bee only" in result.stderr


def test_ctrl_c_stops_the_answer_only(folder: Path, tmp_path: Path) -> None:
    settings = ["--max-new-tokens", "4000", "--num-beams", "1"]
    command = [sys.executable, "-m", "polylens", "chat", str(folder), *settings]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        # Suites that run in the background ignore the signal, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("tell me all about it\n")
        process.stdin.flush()
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        kept = tmp_path / "kept.json"
        process.stdin.write(f"/save {kept}\n")
        process.stdin.close()
        out, complaints = process.stdout.read(), process.stderr.read() if process.stderr else ""
        assert process.wait(60) == 0, complaints
    assert "(stopped)" in complaints
    assert "1 turns are in" in out
    assert json.loads(kept.read_text())[1]["content"]


def test_convert_a_released_file(folder: Path, tmp_path: Path) -> None:
    model = tiny_chat()
    torch.save(model.model.state_dict() | {"vpm.mim_head.weight": torch.zeros(9)}, tmp_path / "vlu.pt")
    model.tokenizer.save_pretrained(tmp_path)
    config = model.model.config
    sizes = {
        "llm": {
            "vocab_size": config.llm.vocab_size,
            "dim_model": 32,
            "dim_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "dim_head": 8,
            "position_bias_num_buckets": 32,
            "position_bias_max_distance": 64,
        },
        "vision": {
            "img_size": 32,
            "patch_size": 8,
            "vocab_size": 20,
            "encoder_embed_dim": 16,
            "encoder_attention_heads": 2,
            "encoder_ffn_embed_dim": 24,
            "encoder_layers": 2,
        },
        "query_num": 3,
    }
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    given = ("--vocab", tmp_path / "vocab.txt", "--sizes", tmp_path / "sizes.json")
    run("convert", tmp_path / "vlu.pt", *given, "--out", tmp_path / "whole")
    again = VisCpmChat.from_pretrained(tmp_path / "whole")
    for one, other in zip(model.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "language: [en, zh]" in (tmp_path / "whole" / "README.md").read_text()
    run(
        "convert",
        tmp_path / "vlu.pt",
        *given,
        "--out",
        tmp_path / "text",
        "--text-only",
        "--precision",
        "float16",
    )
    text = VisCpmChat.from_pretrained(tmp_path / "text")
    assert text.fill([{"input": "a", "<ans>": ""}])
    with safe_open(tmp_path / "text" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    run("convert", tmp_path / "vlu.pt", *given, "--out", tmp_path / "large", "--image-size", 64)
    large = VisCpmChat.from_pretrained(tmp_path / "large")
    assert large.encode_pictures([NoisePicture(0)])["noise-0"].shape == (3, 32)
    assert large.processor is not None
    assert large.processor.height == 64
    for arguments, said in (
        (("--out", tmp_path / "x", *given[:2]), "give its own config"),
        (("--out", tmp_path / "x", *given, "--image-size", 30), "multiple"),
        (("--out", tmp_path / "x", *given, "--image-size", 64, "--text-only"), "sees no images"),
    ):
        result = RUNNER.invoke(app, ["convert", str(tmp_path / "vlu.pt"), *map(str, arguments)])
        assert result.exit_code == 2
        assert said in result.stderr


def test_a_language_that_the_model_does_not_know_is_warned_of(folder: Path, image: Path) -> None:
    arguments = ["chat", str(folder), "--image", str(image), "--lang", "is", "--max-new-tokens", "2"]
    result = RUNNER.invoke(app, arguments, input="/lang sw\nwhat?\n")
    assert result.exit_code == 0
    for name in ("Icelandic (is)", "Swahili (sw)"):
        assert f"does not know {name}" in result.stderr


def test_prompts_are_asked_in_place_of_a_dialogue_and_answers_can_be_drawn(folder: Path, image: Path) -> None:
    asked = ("chat", folder, "--image", image, "--prompt", "cat?", "--max-new-tokens", 6)
    drawn = [run(*asked, "--seed", seed, "--top-k", 20, "--temperature", 1.5) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    likeliest = run(*asked, "--top-k", 1, "--repetition-penalty", 1.1)
    assert likeliest == run(*asked, "--num-beams", 1)
    assert len(run(*asked, "--prompt", "and?").splitlines()) == 2
    for options, said in (
        (("--num-beams", 2, "--seed", 1), "Sampling goes with one beam"),
        (("--top-p", 0), "top_p is 0.0"),
        (("--temperature", 0), "temperature is 0"),
    ):
        result = RUNNER.invoke(app, [*map(str, asked), *map(str, options)])
        assert result.exit_code == 2
        assert said in result.stderr
    result = RUNNER.invoke(app, ["chat", "picto", "--prompt", "x", "--seed", "1"])
    assert result.exit_code == 2
    assert "'picto' has no" in result.stderr


def test_an_image_is_checked_before_it_is_seen(folder: Path, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: the extra 'paint'")
    from tests.painting.test_guards import save_classifier, save_safety_checker

    unsafe = save_classifier(tmp_path / "a", {0: "normal", 1: "nsfw"}, favoured=1)
    strict = save_safety_checker(tmp_path / "b", -1.0)
    for checker in (unsafe, strict):
        words = ["chat", folder, "--image", image, "--prompt", "cat?", "--check-image", checker]
        result = RUNNER.invoke(app, [*map(str, words)])
        assert result.exit_code == 2
        assert "is refused" in result.stderr
    typed = RUNNER.invoke(
        app, ["chat", str(folder), "--check-image", str(strict)], input=f"/image {image}\n/quit\n"
    )
    assert "is refused" in typed.stderr
    kind = ("--check-image", unsafe, "--threshold", 0.999, "--max-new-tokens", 3)
    assert run("chat", folder, "--image", image, "--prompt", "cat?", *kind)


def test_a_caption_can_be_asked_for_in_other_words(folder: Path, image: Path) -> None:
    given = ("caption", image, "--model", folder, "--max-new-tokens", 8, "--json")
    plain, other = run(*given), run(*given, "--prompt", "cat in {language}", "--seed", 3, "--top-p", 0.9)
    assert json.loads(plain)["images"][0]["captions"]["en"] is not None
    assert plain != other
