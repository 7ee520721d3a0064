"""From a recipe to a model folder, on tiny parts and one's own captions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.models.tiny_models import save_language_model, save_vision
from tests.plugins import install
from tests.training.test_loop import ROOT, log, losses

from polylens.data.captions import read_captions
from polylens.errors import UserError
from polylens.models.checkpoints.folder import load_model, read_provenance
from polylens.recipe import load_recipe
from polylens.training import train
from polylens.training.run import beginning, new_model, prepare, read_samples

COLOURS = {"red": (250, 20, 20), "green": (20, 200, 40), "blue": (30, 40, 240), "grey": (128, 128, 128)}
GERMAN = {"red": "rot", "green": "gruen", "blue": "blau", "grey": "grau"}
RECIPE = """
name: tiny
seed: 3
model:
  vision: {path: PLACE/vision}
  resampler: {kind: perceiver, num_tokens: 2, width: 16, depth: 1, num_heads: 2}
  language_model: {path: PLACE/lm}
data: {source: captions, path: PLACE/captions, languages: [en], split: 0.8, max_length: 64}
augmentation: {flip: true, views: 2}
stages:
  - {name: warm-up, table: {projector.*: 3e-3}, batch_size: 8, steps: 12}
  - name: main
    table: {resampler.*: 1e-3, projector.*: 1e-3, language_model.*: {lora: {rank: 2}, learning_rate: 1e-3}}
    batch_size: 8
    micro_batch: 4
    steps: 14
validation: {every: 5, samples: 4}
checkpoints: {every: 3}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with tiny parts, captions and the recipe; the cache beside them."""
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    save_vision("vit", tmp_path / "vision")
    save_language_model("llama", tmp_path / "lm")
    (tmp_path / "captions" / "images").mkdir(parents=True)
    rows = []
    for number in range(24):
        name = list(COLOURS)[number % 4]
        colour = tuple(channel // (1 + number // 4) for channel in COLOURS[name])
        Image.new("RGB", (40, 30), colour).save(tmp_path / "captions" / "images" / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": {"en": [f"It is {name}."], "de": [GERMAN[name]]}})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "captions" / "captions.jsonl").write_text(text)
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("PLACE", str(tmp_path)))
    return tmp_path


def recipe(place, *overrides):
    return load_recipe(place / "tiny.yaml", overrides)


def test_the_folder_of_a_run(place):
    model_folder = train(recipe(place), out=place / "run")
    assert model_folder == place / "run" / "model"
    made = {path.name for path in (place / "run").iterdir()}
    wanted = {
        "model",
        "before.json",
        "recipe.yaml",
        "results.json",
        "log.jsonl",
        "run.json",
        "tensorboard",
        "checkpoints",
    }
    assert made == wanted
    assert load_recipe(place / "run" / "recipe.yaml") == recipe(place)
    results = json.loads((place / "run" / "results.json").read_text())
    assert results["steps"] == 26
    validations = [line["validation"]["loss"] for line in log(place / "run")[12:] if "validation" in line]
    assert results["loss"] == min(validations)
    provenance = read_provenance(model_folder)
    assert provenance["results"] == results
    assert provenance["recipe"]["seed"] == 3


def test_the_saved_model_has_the_loss_that_was_validated(place):
    model = load_model(train(recipe(place), out=place / "run"))
    _, held_out = read_samples(recipe(place))
    results = json.loads((place / "run" / "results.json").read_text())
    with torch.no_grad():
        assert model.loss(model.collator(64)(held_out)).item() == pytest.approx(results["loss"], rel=1e-5)


def test_a_killed_run_goes_on_as_if_it_had_not_been(place):
    train(recipe(place), out=place / "whole")
    code = "import sys; from polylens.training import train; train(sys.argv[1], out=sys.argv[2])"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(place / "tiny.yaml"), str(place / "killed")], env=environment
    )
    path = place / "killed" / "log.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 16):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(log(place / "killed")) < 26
    train(recipe(place), out=place / "killed")
    assert losses(place / "killed") == losses(place / "whole")
    assert [line["step"] for line in log(place / "killed")] == list(range(1, 27))
    files = [place / run / "model" / "model.safetensors" for run in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_second_run_repeats_the_first_and_reads_its_features(place):
    train(recipe(place), out=place / "a")
    folders = {path: path.stat().st_mtime_ns for path in (place / "cache").rglob("*.bin")}
    train(recipe(place), out=place / "b")
    assert losses(place / "a") == losses(place / "b")
    assert {path: path.stat().st_mtime_ns for path in (place / "cache").rglob("*.bin")} == folders
    assert len({path.parent for path in folders}) == 2  # queries for the first stage, patches for the second


def test_what_is_encoded_before_a_run_is_what_the_run_encodes(place):
    """In pieces, and by whoever has the time: the run finds the features of its first stage."""
    train(recipe(place), out=place / "a")
    wanted = rows_of_the_cache(place)
    shutil.rmtree(place / "cache")
    model, samples, _ = beginning(recipe(place))
    for piece in (samples[:7], samples[7:]):
        prepare(recipe(place), model, piece)
    prepared = rows_of_the_cache(place)
    assert set() < prepared < wanted  # those of the first stage
    train(recipe(place), out=place / "b")
    assert losses(place / "a") == losses(place / "b")
    assert rows_of_the_cache(place) == wanted


def rows_of_the_cache(place) -> set[tuple[str, str]]:
    """(folder, key) of every row, each written once."""
    headers = [path for path in (place / "cache").rglob("*.json") if path.name != "origin.json"]
    rows = [(path.parent.name, key) for path in headers for key in json.loads(path.read_text())["keys"]]
    assert len(rows) == len(set(rows))
    return set(rows)


def test_going_on_from_a_trained_model(place):
    start = train(recipe(place), out=place / "a")
    more = recipe(place, f"model={{start: {start}}}", "name=more", "validation.every=1")
    train(more, out=place / "b")
    best = min(line["validation"]["loss"] for line in log(place / "a") if "validation" in line)
    assert log(place / "b")[0]["validation"]["loss"] == pytest.approx(best, rel=0.2)


def test_frozen_parts_in_bfloat16_are_not_saved(place):
    folder = train(recipe(place, "precision=bfloat16"), out=place / "half")
    exact = train(recipe(place), out=place / "exact")
    names = [json.loads((path / "polylens.json").read_text())["tensors"] for path in (folder, exact)]
    assert names[0] == names[1]
    model = load_model(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    first, second = (log(place / name)[-1]["loss"] for name in ("half", "exact"))
    assert first == pytest.approx(second, rel=0.1)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="/proc tells what is mapped")
def test_frozen_parts_in_bfloat16_leave_nothing_of_their_float32_files_mapped(place):
    model = new_model(recipe(place, "precision=bfloat16"))
    with open("/proc/self/maps") as maps:
        assert str(place / "lm") not in maps.read()
    assert model.language_model.dtype is torch.bfloat16


def test_scores_come_from_the_evaluation_that_is_given(place):
    chosen = recipe(place, "validation.metrics=[chrf]", "validation.languages=[en]", "stages.1.steps=5")
    seen = []

    def evaluate(model, samples, metrics):
        seen.append((len(samples), metrics))
        said = model.generate(samples, max_new_tokens=3)
        return {"chrf": float(len(said)), "chrf/en": 1.0}

    train(chosen, out=place / "run", evaluate=evaluate)
    _, held_out = read_samples(chosen)
    assert seen == [(len(held_out), ["chrf"])] * len(seen)
    assert log(place / "run")[4]["validation"]["chrf/en"] == 1.0
    with pytest.raises(UserError, match="need an evaluation"):
        train(chosen, out=place / "other")


def test_the_split_of_captions_is_by_image_and_bounded_by_language(place):
    both = recipe(place, "data.languages=null", "validation.samples=2")
    samples, held_out = read_samples(both)
    assert not {s.images[0].key for s in samples} & {s.images[0].key for s in held_out}
    assert len(samples) + 2 * 2 <= len(read_captions(place / "captions"))
    assert [sample.language for sample in held_out].count("de") == 2
    assert read_samples(both) == (samples, held_out)


SOURCE = """
from polylens.data.sample import Sample, Turn

def samples(*, languages=None, split="train", count=3):
    return [Sample(f"{split}{i}", (), (Turn(f"say {i} in {code}:", str(i)),), code, "count", "numbers")
            for code in languages or ["en", "de"] for i in range(count)]
"""


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """An installed package with a source, as pip would leave it."""
    install(
        tmp_path,
        monkeypatch,
        "numbers_source",
        SOURCE,
        "polylens.sources",
        "numbers = numbers_source:samples",
    )


def from_numbers(place, *overrides):
    data = "{source: numbers, languages: [en], split: train}"
    return recipe(place, f"data={data}", "validation.split=test", *overrides)


@pytest.mark.usefixtures("numbers")
def test_an_installed_source(place):
    samples, held_out = read_samples(from_numbers(place, "data.options.count=5", "validation.languages=[de]"))
    assert [sample.id for sample in samples] == [f"train{i}" for i in range(5)]
    ids = [sample.id for sample in held_out]
    assert len(ids) == 4
    assert ids == sorted(set(ids) & {f"test{i}" for i in range(5)})
    assert {sample.language for sample in held_out} == {"de"}
    with pytest.raises(UserError, match="'warm-up' trains only what images pass through, but no sample"):
        train(from_numbers(place, "augmentation={}"), out=place / "run")
    lora = "{language_model.*: {lora: {rank: 2}, learning_rate: 1e-3}}"
    stages = f"stages=[{{name: text, table: {lora}, batch_size: 3, steps: 5}}]"
    train(from_numbers(place, "augmentation={}", stages), out=place / "run")
    assert len(log(place / "run")) == 5


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.source=nombers"], "no source 'nombers': the nearest is 'numbers'"),
        (["data.options.cuont=2"], "'numbers' cannot be read: .*'cuont'"),
        (["data.options.count=0"], "no samples to train on"),
        (["validation.languages=[]"], "no samples to validate on"),
    ],
)
def test_sources_that_cannot_be_read(place, overrides, message):
    with pytest.raises(UserError, match=message):
        read_samples(from_numbers(place, *overrides))


def test_what_is_shown(place, monkeypatch):
    monkeypatch.setattr("polylens.progress.LINE_SECONDS", 0)  # of a stage in a pipe, every advance
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    train(recipe(place), out=place / "run", report=console)
    text = console.export_text()
    assert "caching queries" in text
    assert "caching patches" in text
    assert "LoRA rank 2, lr 0.001" in text
    assert "step 26  validation  loss" in text
    assert "Held out, before and after" in text


MIX = """
  max_length: 160
  mix:
    - {name: captions, source: jsonl, path: PLACE/mix.jsonl, tasks: [caption], build: caption, weight: 2}
    - {name: questions, source: jsonl, path: PLACE/mix.jsonl, tasks: [vqa], build: vqa, weight: 1}
    - {name: matching, source: jsonl, path: PLACE/mix.jsonl, tasks: [caption], build: matching, weight: 1}
"""


@pytest.fixture
def mixed(place):
    """The recipe on a mix of three tasks, streamed from shards, with its validation."""
    with open(place / "mix.jsonl", "w", encoding="utf-8") as file:
        for number in range(24):
            colour = list(COLOURS)[number % 4]
            row = {"id": f"{number}", "images": [f"captions/images/{number}.png"], "source": "own"}
            turns = {"caption": [["", f"It is {colour}."]], "vqa": [["What colour?", colour]]}
            for task, texts in turns.items():
                extra = {"image": str(number)}
                line = row | {"id": f"{number}-{task}", "turns": texts, "task": task, "language": "en"}
                file.write(json.dumps(line | {"extra": extra}) + "\n")
    text = (place / "tiny.yaml").read_text()
    start, end = text.index("data: {"), text.index("augmentation:")
    text = (
        text[:start] + "data:" + MIX.replace("PLACE", str(place)) + f"  shards: {place}/shards\n" + text[end:]
    )
    held_out = f"{{source: jsonl, path: {place}/mix.jsonl, tasks: [vqa]}}"
    validation = f"validation: {{every: 5, samples: 4, mix: [{held_out}]}}"
    (place / "tiny.yaml").write_text(text.replace("validation: {every: 5, samples: 4}", validation))
    return place


def test_a_killed_run_on_a_streamed_mix_goes_on_as_if_it_had_not_been(mixed):
    train(recipe(mixed), out=mixed / "whole")
    in_memory = recipe(mixed, "data.shards=null")
    samples, held_out = read_samples(in_memory)
    assert len(samples) == 72
    assert {sample.task for sample in held_out} == {"vqa"}
    code = "import sys; from polylens.training import train; train(sys.argv[1], out=sys.argv[2])"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(mixed / "tiny.yaml"), str(mixed / "killed")], env=environment
    )
    path = mixed / "killed" / "log.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 16):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    train(recipe(mixed), out=mixed / "killed")
    assert losses(mixed / "killed") == losses(mixed / "whole")
    files = [mixed / run / "model" / "model.safetensors" for run in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_inspected_of_a_mix(mixed):
    from polylens.training.preview import show

    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(recipe(mixed), console, 3)
    text = " ".join(console.export_text().split())
    assert "72 samples to train on" in text
    for part, times in (("captions", "36 │ 50.0% │ 1.50"), ("questions", "18 │ 25.0% │ 0.75")):
        assert f"{part} │ 24 │ {times}" in text
    assert not (mixed / "shards").exists()
