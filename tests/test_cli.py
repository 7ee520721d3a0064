"""The commands from end to end, on tiny random models in folders."""

import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.tiny_models import save_language_model, save_vision, tiny_vlm
from typer.testing import CliRunner

from polylens import __version__
from polylens.cli import app
from polylens.commands.recipes import summary
from polylens.data.images import FilePicture
from polylens.data.sample import Sample, Turn
from polylens.models.checkpoints.folder import load_model, save_model
from polylens.models.config import LanguageModelConfig
from polylens.recipe import load_recipe, packaged_recipes

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
RECIPE = """
name: tiny
model:
  vision: {path: PLACE/vision}
  resampler: {kind: perceiver, num_tokens: 2, width: 16, depth: 1, num_heads: 2}
  language_model: {path: PLACE/lm}
  layout: {caption_prompt: "{language}: "}
data: {source: elsewhere, split: train, tasks: [name], max_length: 40}
augmentation: {views: off}
stages:
  - {name: warm-up, table: {projector.*: 3e-3}, batch_size: 4, steps: 2, parts: [name]}
validation: {every: 2, metrics: [chrf], split: validation}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Own data (8 pictures in English and German, the last one in English only), a model, a recipe."""
    place = tmp_path_factory.mktemp("place")
    (place / "data" / "images").mkdir(parents=True)
    rows = []
    for number in range(8):
        Image.new("RGB", (40, 30), (30 * number, 90, 255 - 30 * number)).save(
            place / "data" / "images" / f"{number}.png"
        )
        captions = {"en": ["a colour", "some colour"]} | ({"de": ["eine Farbe"]} if number < 7 else {})
        rows.append({"image": f"{number}.png", "captions": captions, "year": number % 2})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "data" / "captions.jsonl").write_text(text)
    save_vision("vit", place / "vision")
    save_language_model("llama", place / "lm")
    (place / "tiny.yaml").write_text(RECIPE.replace("PLACE", str(place)))
    model = tiny_vlm(language_model=LanguageModelConfig(languages=["en", "iw"]))
    save_model(model, place / "model")
    return place


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty folder; checks the exit code, and that what goes wrong is one sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, exit_code=0, input=None):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        if exit_code == 2:
            errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
            assert len(errors) == 1
            assert result.stderr.splitlines()[-1] == errors[0]
            assert errors[0].endswith((".", "?"))
            assert "Traceback" not in result.output
        return result

    return run


def test_help_teaches(run):
    assert "polylens caption cat.png --lang de,sw,zh" in run("--help").stdout
    for command in (
        "demo",
        "train",
        "evaluate",
        "caption",
        "inspect",
        "languages",
        "picto info",
    ):
        assert "Examples" in run(*command.split(), "--help").stdout
    assert run("--version").stdout == f"polylens {__version__}\n"


def test_help_and_languages_start_without_torch():
    code = (
        "import sys\nfrom polylens.cli import app\n"
        "for line in (['--help'], ['languages']):\n    app(line, standalone_mode=False)\n"
        "sys.exit(f'{sorted(sys.modules)}' if {'torch', 'transformers'} & set(sys.modules) else 0)"
    )
    done = process("-c", code)
    assert done.returncode == 0, done.stderr


def process(*arguments, **settings):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, **settings
    )


def test_a_process_ends_with_one_sentence(tmp_path):
    done = process("-m", "polylens", "languages", "--known-to", tmp_path / "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No model")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_the_output():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "polylens", "languages", "--json"],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "disk is full" in done.stderr


def test_a_reader_that_leaves_early():
    command = f"{sys.executable} -m polylens languages | head -1"
    done = subprocess.run(
        command,
        shell=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_languages(run, place):
    rows = json.loads(run("languages", "--json").stdout)
    assert {"code": "sw", "name": "Swahili"}.items() <= next(r for r in rows if r["code"] == "sw").items()
    assert "Kiswahili" in run("languages").stdout
    known = json.loads(run("languages", "--known-to", place / "model", "--json").stdout)
    assert [row["code"] for row in known] == ["en", "he"]
    run("languages", "--known-to", place / "vision", exit_code=2)


def test_languages_of_a_model_card(run, place):
    card = "---\nlanguage:\n- multilingual\n- no\n- iw\nlicense: mit\n---\n# A model\n"
    (place / "lm" / "README.md").write_text(card)
    known = json.loads(run("languages", "--known-to", place / "lm", "--json").stdout)
    assert [row["code"] for row in known] == ["no", "he"]


def test_training_on_own_captions(run, place):
    done = run("train", place / "tiny.yaml", f"data.path={place / 'data'}", "data.split=0.6", "--seed", 3)
    assert "chrf" in done.stdout
    folder = Path("runs/tiny")
    scores = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["validation"]
    assert {"chrf", "chrf/de", "chrf/en", "loss"} <= set(scores)
    assert scores["chrf"] == pytest.approx((scores["chrf/de"] + scores["chrf/en"]) / 2)
    assert "seed: 3" in (folder / "recipe.yaml").read_text()
    assert load_model(folder / "model").config.layout.ask_caption("de") == "German: "
    wrong = run(
        "train", place / "tiny.yaml", f"data.path={place / 'data'}", "validation.metrics=[bleu]", exit_code=2
    )
    assert "choose from loss, exact_match, chrf" in wrong.stderr


def test_own_data_is_checked_before_training(run, place):
    (place / "data" / "images" / "copy.png").write_bytes((place / "data" / "images" / "0.png").read_bytes())
    (place / "data" / "images" / "broken.png").write_bytes(b"no picture")
    folder = place / "checked"
    folder.mkdir()
    (folder / "images").symlink_to(place / "data" / "images")
    rows = [("0", "en"), ("1", "is"), ("copy", "en"), ("broken", "en")]
    lines = [json.dumps({"image": f"{name}.png", "captions": {code: ["a cat"]}}) for name, code in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines))
    done = run("check", folder, "--json", exit_code=1)
    found = json.loads(done.stdout)
    assert [(row["language"], row["samples"], row["known"]) for row in found["languages"]] == [
        ("en", 3, True),
        ("is", 1, False),
    ]
    assert (found["pictures"]["files"], found["pictures"]["distinct"]) == (4, 2)
    assert len(found["warnings"]) == 3
    for text in ("does not know Icelandic (is)", "1 pictures cannot be read", "copies of others"):
        assert text in " ".join(done.stderr.split())
    assert "Nothing to mend" in run("check", place / "data", "--lang", "en").stdout


def test_a_folder_keeps_the_recipes_languages(run, place):
    own = [f"data.path={place / 'data'}", "data.split=null", "validation=null", "stages.0.steps=1"]
    recipe = place / "english.yaml"
    recipe.write_text(
        (place / "tiny.yaml").read_text().replace("split: train,", "split: train, languages: [en],")
    )
    done = run("train", recipe, *own, "--out", "own")
    assert "7 captions in 1 other languages are left out (de 7)" in " ".join(done.stderr.split())
    assert "16 samples to train on" in done.stdout
    again = run("train", recipe, *own, "--out", "own")
    assert "finished before, after 1 steps" in again.stdout
    assert "--no-resume" in again.stdout
    other = run("train", recipe, *own, "seed=4", "--out", "own", exit_code=2)
    assert "begin anew with --no-resume" in other.stderr


def test_the_end_of_a_training_compares_with_its_beginning(run, place):
    done = run("train", place / "tiny.yaml", f"data.path={place / 'data'}", "data.split=0.6", "--out", "run")
    assert "Held out, before and after" in done.stdout
    assert json.loads(Path("run/before.json").read_text())["chrf"] >= 0


def test_inspecting(run, place):
    done = run(
        "inspect", place / "tiny.yaml", f"data.path={place / 'data'}", "data.split=null", "validation=null"
    )
    shown = done.stdout
    assert re.search(r"de\W+7\W+7\b", shown)
    assert re.search(r"en\W+16\W+16\b", shown)
    assert "[picture 1: 2 tokens]" in shown
    assert "+c +o +l" in shown
    assert "0.png, 40 x 30" in shown
    assert "E n g l i s h" in shown
    assert re.search(r"projector\.\*.*lr 0\.003", shown)
    assert run("inspect", place / "tiny.yaml", "data.pth=x", exit_code=2).stderr.endswith(
        "did you mean 'data.path'?\n"
    )


def test_evaluating(run, place):
    arguments = [
        "evaluate",
        place / "model",
        "--data",
        place / "data",
        "--max-new-tokens",
        4,
        "--out",
        "results",
    ]
    done = run(*arguments, "--lang", "de,en", "--group-by", "year", "--json")
    results = json.loads(done.stdout)
    assert results == json.loads(Path("results/results.json").read_text())
    assert {code: row["n"] for code, row in results["languages"].items()} == {"de": 7, "en": 8}
    assert set(results["languages"]["de"]) >= {"exact_match", "chrf", "cider_d", "intervals"}
    assert results["unknown_languages"] == ["de"]
    assert "does not know these languages, so expect little: German (de)" in " ".join(done.stderr.split())
    assert "German (de)" in Path("results/report.html").read_text()
    assert {value: rows["en"]["n"] for value, rows in results["groups"].items()} == {"0": 4, "1": 4}
    predictions = [json.loads(line) for line in Path("results/predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == 1 + 15
    before = Path("results/predictions.jsonl").stat().st_mtime_ns
    limited = json.loads(run(*arguments, "--limit", 2, "--json").stdout)
    assert Path("results/predictions.jsonl").stat().st_mtime_ns == before
    assert limited["n"] == 2
    assert "not comparable" in " ".join(limited["notes"])
    wrong = run(*arguments[:-2], "--out", "results", "--num-beams", 2, exit_code=2)
    assert "answers of other settings" in wrong.stderr


def test_evaluating_the_upper_part(run, place):
    arguments = ["evaluate", place / "model", "--data", place / "data", "--max-new-tokens", 2, "--json"]
    upper = json.loads(run(*arguments, "--split", 0.6, "--lang", "en").stdout)
    assert 0 < upper["n"] < 8
    assert Path("runs").is_dir()
    assert "lower it" in run(*arguments, "--split", 1, exit_code=2).stderr
    assert "has nothing in sw: it has en, de" in run(*arguments, "--lang", "sw", exit_code=2).stderr
    assert "'year'" in run(*arguments, "--group-by", "yaer", exit_code=2).stderr
    assert "captions.jsonl" in run("evaluate", place / "model", "--data", place, exit_code=2).stderr
    Path("file").write_text("in the way")
    assert "a file is in its way" in run(*arguments, "--out", "file", exit_code=2).stderr


def test_captioning(run, place):
    pictures = [place / "data" / "images" / f"{number}.png" for number in (0, 1)]
    arguments = ["caption", *pictures, "--model", place / "model", "--max-new-tokens", 3]
    done = run(*arguments, "--lang", "de,iw", "--json")
    rows = json.loads(done.stdout)["images"]
    assert [row["image"] for row in rows] == [str(path) for path in pictures]
    assert list(rows[0]["captions"]) == ["de", "he"]
    assert "does not know German (de)" in done.stderr
    assert "Hebrew" in run(*arguments, "--lang", "all").stdout
    assert "did you mean" in run(*arguments, "--lang", "germ", exit_code=2).stderr


def test_pictures_of_all_kinds(run, place, tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    noise.convert("CMYK").save("cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save("rotated.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16)).save("deep.png")
    noise.save("moving.gif", save_all=True, append_images=[noise.transpose(Image.Transpose.ROTATE_180)])
    files = ["cmyk.jpg", "rotated.jpg", "deep.png", "moving.gif"]
    done = run("caption", *files, "--model", place / "model", "--max-new-tokens", 2, "--json")
    assert len(json.loads(done.stdout)["images"]) == 4
    assert "warning: 'moving.gif' has 2 frames" in done.stderr


def png_that_says(width, height):
    """A PNG of that size in its head, with little in it."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_pictures_that_cannot_be_read(run, place):
    Path("empty.png").touch()
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    Path("bomb.png").write_bytes(png_that_says(20_000, 20_000))
    for name, words in {
        "missing.png": "does not exist",
        "empty.png": "is empty",
        "broken.png": "image",
        "bomb.png": "has 400,000,000 pixels",
    }.items():
        error = run("caption", name, "--model", place / "model", exit_code=2).stderr
        assert f"'{name}'" in error
        assert words in error


@pytest.fixture
def noise_and_plain(place, monkeypatch):
    """A picture that is no pictogram and one that may be, in front of a tiny model in the packaged one's place."""
    for module in ("describe", "chat", "evaluation"):
        monkeypatch.setattr(
            f"polylens.commands.{module}.open_model", lambda *_, **__: load_model(place / "model")
        )
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save("noise.png")
    Image.new("RGB", (64, 64), "white").save("plain.png")


def test_a_packaged_model_says_what_it_knows(run, noise_and_plain):
    done = run("caption", "noise.png", "plain.png", "--max-new-tokens", 2, "--json")
    assert "note: the packaged model 'picto' knows pictograms" in done.stderr
    assert "'noise.png' does not look like a pictogram" in done.stderr
    assert "'plain.png' does not" not in done.stderr
    looks = [row["looks_like_pictogram"] for row in json.loads(done.stdout)["images"]]
    assert looks == [False, True]


def test_chat_and_evaluate_say_it_too(run, noise_and_plain):
    done = run("chat", "picto", "--image", "noise.png", "--max-new-tokens", 2, input="/image plain.png\n")
    assert "note: the packaged model 'picto' knows pictograms" in done.stderr
    assert "'noise.png' does not look like a pictogram" in done.stderr
    assert "'plain.png' does not" not in done.stderr
    rows = [{"image": f"{name}.png", "captions": {"en": [name]}} for name in ("noise", "plain")]
    Path("captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("evaluate", "picto", "--data", ".", "--max-new-tokens", 2, "--out", "out")
    told = " ".join(done.stderr.split())
    assert "note: The packaged model 'picto' knows pictograms" in told
    assert "1 of 2 pictures looked at do not look like a pictogram" in told
    assert "knows pictograms" in Path("out/report.html").read_text()


def test_captions_carry_their_probability(run, place):
    picture = place / "data" / "images" / "0.png"
    done = run(
        "caption", picture, "--model", place / "model", "--lang", "de,en", "--max-new-tokens", 3, "--json"
    )
    [row] = json.loads(done.stdout)["images"]
    assert row["doubtful"] == ["de", "en"]
    model = load_model(place / "model")
    for code, text in row["captions"].items():
        turn = Turn(model.config.layout.ask_caption(code), "")
        [[score]] = model.score(
            [Sample("s", (FilePicture(picture),), (turn,), code, "caption", "")], [[text]]
        )
        assert row["probabilities"][code] == pytest.approx(math.exp(score), abs=1e-4)
        assert row["probabilities"][code] <= row["token_probabilities"][code] < 0.5
    shown = run("caption", picture, "--model", place / "model", "--lang", "de", "--max-new-tokens", 3).stdout
    assert re.search(r"\d+%\s+doubtful", shown)


def test_packaged_recipes_are_listed_and_printed(run, tmp_path):
    listed = run("recipes").output
    assert all(name in listed for name in packaged_recipes())
    assert all(
        summary(text).endswith(".") and len(summary(text)) > 20 for text in packaged_recipes().values()
    )
    (tmp_path / "mine.yaml").write_text(run("recipes", "picto").output)
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe("picto")
    assert "did you mean 'picto'?" in run("recipes", "pikto", exit_code=2).output


def test_recipes_that_are_off(run, place):
    assert (
        "did you mean 'stages.0.steps'"
        in run("train", place / "tiny.yaml", "stages.0.stpes=1", exit_code=2).stderr
    )
    assert "neither a recipe file" in run("train", "pictoo", exit_code=2).stderr
    Path("file").write_text("in the way")
    own = f"data.path={place / 'data'}"
    assert (
        "a file is in its way" in run("train", place / "tiny.yaml", own, "--out", "file", exit_code=2).stderr
    )


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting needs root on Linux")
def test_a_full_disk_in_training(run, place, tmp_path):
    (tmp_path / "small").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "small"], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs: {mounted.stderr.decode().strip()}")
    try:
        own = [f"data.path={place / 'data'}", "data.split=0.6"]
        error = run("train", place / "tiny.yaml", *own, "--out", "small/run", exit_code=2).stderr
        assert "no space left" in error.lower() or "disk is full" in error
    finally:
        subprocess.run(["umount", "small"], check=True)


def test_picto_info(run):
    facts = json.loads(run("picto", "info", "--json").stdout)
    assert facts["concepts"] > 1500
    assert facts["languages"] > 100
    assert "twemoji" in run("picto", "info").stdout


def test_an_interrupted_training_says_how_to_go_on(place, tmp_path):
    command = [
        sys.executable,
        "-m",
        "polylens",
        "train",
        str(place / "tiny.yaml"),
        f"data.path={place / 'data'}",
    ]
    command += ["data.split=0.6", "stages.0.steps=100000", "validation=null", f"out={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "POLYLENS_CACHE": str(tmp_path / "cache")}
    training = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Suites that run in the background ignore the signal, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size):
        time.sleep(0.2)
    training.send_signal(signal.SIGINT)
    _, errors = training.communicate(timeout=200)
    assert training.returncode == 130
    assert errors.endswith("stopped: Interrupted. Run the same command again to go on.\n")


def test_lists_for_machines(run):
    listed = json.loads(run("recipes", "--json").stdout)
    assert [row["name"] for row in listed] == list(packaged_recipes())
    assert json.loads(run("recipes", "picto", "--json").stdout)["name"] == "picto"


def test_a_folder_of_pictures_is_captioned(run, place):
    (place / "pictures").mkdir()
    for name in ("b", "a"):
        Image.new("RGB", (40, 30)).save(place / "pictures" / f"{name}.png")
    (place / "pictures" / "notes.txt").write_text("no picture")
    done = run("caption", place / "pictures", "--model", place / "model", "--json", "--device", "cpu")
    named = [Path(row["image"]).name for row in json.loads(done.stdout)["images"]]
    assert named == ["a.png", "b.png"]
    assert "1 files of" in done.stderr
    (place / "pictures" / "none").mkdir()
    assert "holds no pictures" in run("caption", place / "pictures" / "none", exit_code=2).stderr
