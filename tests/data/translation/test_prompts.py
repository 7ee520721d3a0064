"""Prompts of the task builders in other languages."""

import json

import pytest
from tests.data.translation.backwards import Backwards

from polylens.data.build import build
from polylens.data.prompts import DEFAULT, fields_of, read_templates
from polylens.data.rows import json_lines
from polylens.data.sample import Sample, Turn
from polylens.data.spec import Build
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.data.translation.prompts import TASKS, TEXTS, collect_templates, prompt_samples
from polylens.data.translation.run import Plan, translate_samples
from polylens.errors import UserError


def translated(folder, languages, engine, tasks=TASKS):
    samples = list(prompt_samples(tasks))
    with TranslationCache(folder / "cache", engine.fingerprint) as cache:
        translate_samples(lambda: samples, Plan(languages, tasks=TEXTS), engine, cache, folder / "out")
    return collect_templates(folder / "out")


def test_builders_ask_with_what_was_translated(tmp_path):
    engine = Backwards()
    path = translated(tmp_path, ["ceb", "wo"], engine)
    content = json.loads(path.read_text())
    assert set(content) == set(TASKS)
    assert content["caption"]["ceb"][0] == "noitpaC ni {own_language}: "
    assert not [text for text in engine.shown if "{" in text]
    for task, by_language in content.items():
        for texts in by_language.values():
            assert len(texts) == len(DEFAULT.english[task])
            for ours, theirs in zip(DEFAULT.english[task], texts, strict=True):
                assert [name.removeprefix("own_") for name in fields_of(theirs)] == fields_of(ours)
    sample = Sample("1", (), (Turn("Unsa kini?", "iring"),), "ceb", "vqa", "made-up")
    spec = Build(task="vqa", templates=path, translated=1.0)
    (asked,) = build(spec, lambda: [sample], 0)
    assert "Unsa kini?" in asked.turns[0].prompt
    assert "Cebuano" in asked.turns[0].prompt or "Sinugboanon" in asked.turns[0].prompt
    assert asked.turns[0].answer == "iring"


def test_nothing_is_translated_twice(tmp_path):
    translated(tmp_path, ["ceb"], Backwards())
    again = Backwards()
    assert read_templates(translated(tmp_path, ["ceb"], again)).translated["vqa"]["ceb"]
    assert again.shown == []


def test_a_model_of_nllbs_architecture_and_its_gate(tiny_nllb, tmp_path):
    engine = open_engine(EngineSettings("transformers", tiny_nllb, beams=1))
    samples = list(prompt_samples())
    with TranslationCache(tmp_path / "cache", engine.fingerprint) as cache:
        plan = Plan(["de", "sw"], tasks=TEXTS)
        counts = translate_samples(lambda: samples, plan, engine, cache, tmp_path / "out")
    for code in ("de", "sw"):
        assert counts[code].accepted + counts[code].rejected == len(samples)
    for _, row in json_lines(tmp_path / "out" / "samples.jsonl"):
        english = row["extra"]["original"]["turns"][0][0]
        assert fields_of(row["turns"][0][0]) == fields_of(english)


def test_what_an_engine_does_not_know_stays_english(tmp_path):
    with pytest.raises(UserError, match="No prompt was translated"):
        translated(tmp_path, ["de"], open_engine(EngineSettings("picto")))
    with pytest.raises(UserError, match="no prompts of 'instruction' to translate: choose from caption"):
        list(prompt_samples(["instruction"]))
