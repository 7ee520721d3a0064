import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from tests.data.translation import killed_run
from tests.data.translation.backwards import Backwards

from polylens.data.build import build
from polylens.data.images import FilePicture
from polylens.data.language_plan import allocate, shares
from polylens.data.readers.jsonl import read_jsonl, write_jsonl
from polylens.data.sample import Sample, Turn
from polylens.data.spec import Build
from polylens.data.translation import run as run_module
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.data.translation.run import Plan, translate_samples
from polylens.data.translation.texts import parse_tasks
from polylens.errors import UserError


def sample(name, *turns, task="caption", language="en", source="made-up", images=(), extra=None):
    return Sample(
        name, tuple(images), tuple(Turn(*turn) for turn in turns), language, task, source, extra or {}
    )


def translate(samples, out, plan, engine=None, cache=None, **options):
    engine = engine or Backwards()
    with TranslationCache(cache or out.parent / "cache", engine.fingerprint) as translations:
        counts = translate_samples(lambda: samples, plan, engine, translations, out, **options)
    rejects = [
        json.loads(line) for line in (out / "rejects" / "rejects.jsonl").read_bytes().split(b"\n")[:-1]
    ]
    return list(read_jsonl(out)), rejects, counts


def test_samples_become_samples(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    first = sample("1", ("", "a brown dog"), images=[FilePicture(tmp_path / "a.png")], extra={"image": "a"})
    accepted, rejects, counts = translate(
        [first, sample("2", ("", "two cats"))], tmp_path / "out", Plan(["ceb", "wo"])
    )
    assert [(s.id, s.language, s.turns) for s in accepted] == [
        ("1:ceb", "ceb", (Turn("", "a nworb god"),)),
        ("1:wo", "wo", (Turn("", "a nworb god"),)),
        ("2:ceb", "ceb", (Turn("", "owt stac"),)),
        ("2:wo", "wo", (Turn("", "owt stac"),)),
    ]
    assert accepted[0].images[0].load().size == (4, 4)
    assert accepted[0].extra == {"image": "a", "original": {"language": "en", "turns": [["", "a brown dog"]]}}
    assert rejects == []
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["engine"] == "backwards"
    assert summary["languages"]["ceb"] == counts["ceb"].row()
    assert counts["ceb"].row() == {
        "accepted": 2, "rejected": 0, "unchanged": 0, "unidentified": 2, "reasons": {}
    }  # fmt: skip


def test_what_is_translated_depends_on_the_task(tmp_path):
    samples = [
        sample("vqa", ("How many BMWs?", "12"), task="vqa"),
        sample("label", ("What brand?", "Coca Cola"), task="vqa"),
        sample("word", ("What is it?", "red car"), task="vqa"),
        sample("talk", ("What is it?", "A dog. It runs!"), ("Why?", "No <idea>."), task="instruction"),
        sample("pair", ("a dog", "yes"), task="matching"),
        sample("class", ("", "tabby cat"), task="classification"),
        sample("ours", ("Caption in English: ", "a dog")),
        sample("reason", ("Why?", "because"), task="explanation"),
    ]
    accepted, _, counts = translate(samples, tmp_path / "out", Plan(["ceb"]))
    assert {s.id: s.turns for s in accepted} == {
        "vqa:ceb": (Turn("woH ynam ?sWMB", "12"),),
        "label:ceb": (Turn("tahW ?dnarb", "Coca Cola"),),
        "word:ceb": (Turn("tahW si ?ti", "der rac"),),
        "talk:ceb": (Turn("tahW si ?ti", "A .god tI !snur"), Turn("?yhW", "oN <idea>.")),
        "pair:ceb": (Turn("a god", "yes"),),
        "class:ceb": (Turn("", "ybbat tac"),),
        "ours:ceb": (Turn("Caption in Cebuano: ", "a god"),),
        "reason": (Turn("Why?", "because"),),
    }
    assert counts["en"].unchanged == 1
    assert {s.language for s in accepted} == {"ceb", "en"}


def test_tasks_of_ones_own(tmp_path):
    odd = [sample("1", ("a question", "Big Ben"), task="odd")]
    with pytest.raises(UserError, match=r"of task 'odd'.*--texts odd=prompt"):
        translate(odd, tmp_path / "a", Plan(["ceb"]))
    plan = Plan(["ceb"], tasks=parse_tasks(["odd=prompt+label"]))
    assert translate(odd, tmp_path / "b", plan)[0][0].turns == (Turn("a noitseuq", "Big Ben"),)
    plan = Plan(["ceb"], tasks=parse_tasks(["odd=answer"]))
    assert translate(odd, tmp_path / "c", plan)[0][0].turns == (Turn("a question", "giB neB"),)
    for option in ("odd", "odd=", "=answer", "odd=both"):
        with pytest.raises(UserError, match="does not say what of a task"):
            parse_tasks([option])


def test_every_text_is_translated_once_and_for_good(tmp_path):
    samples = [sample(str(i), ("", ["a dog. a cat", "a dog", "A dog.  A bird."][i % 3])) for i in range(9)]
    engine = Backwards()
    first, *_ = translate(samples, tmp_path / "out", Plan(["ceb", "wo"]), engine)
    assert sorted(engine.shown) == sorted(
        f"{code} {text}" for code in ("ceb", "wo") for text in ("a dog. a cat", "a dog", "A dog.", "A bird.")
    )
    again = Backwards()
    assert translate(samples, tmp_path / "out", Plan(["ceb", "wo"]), again)[0] == first
    assert again.shown == []
    changed = Backwards(fingerprint="with other weights")
    translate(samples, tmp_path / "out", Plan(["ceb", "wo"]), changed)
    assert sorted(changed.shown) == sorted(engine.shown)


def test_batches_have_texts_of_about_one_length_and_change_nothing(tmp_path, monkeypatch):
    rng = random.Random(0)
    samples = [sample(str(i), ("", "word " * rng.randint(1, 30) + "abcdefghij"[i % 10])) for i in range(60)]
    seen = []

    class Noting(Backwards):
        def translate(self, texts, source, target):
            seen.append([len(text) for text in texts])
            return super().translate(texts, source, target)

    whole = translate(samples, tmp_path / "a", Plan(["ceb"]), Noting(), batch_size=8)
    assert [length for batch in seen for length in batch] == sorted(
        (length for batch in seen for length in batch), reverse=True
    )
    monkeypatch.setattr(run_module, "PORTION", 7)
    for batch_size in (1, 100):
        apart = translate(samples, tmp_path / f"b{batch_size}", Plan(["ceb"]), cache=tmp_path / f"c{batch_size}",
                          batch_size=batch_size)  # fmt: skip
        assert apart == whole


def test_rejects_are_kept_apart_with_their_reasons(tmp_path):
    samples = [
        sample("fine", ("", "a brown dog")),
        sample("refused", ("", "untranslatable words")),
        sample("both", ("untranslatable?", "2 dogs in 1999"), task="vqa"),
        sample("turned", ("", "in 1999")),
    ]
    accepted, rejects, counts = translate(samples, tmp_path / "out", Plan(["ceb"]))
    assert [s.id for s in accepted] == ["fine:ceb"]
    assert [
        (row["id"], row["language"], [(f["turn"], f["role"], f["reasons"]) for f in row["faults"]])
        for row in rejects
    ] == [
        ("refused", "ceb", [(1, "answer", ["unknown"])]),
        ("both", "ceb", [(1, "prompt", ["unknown"]), (1, "answer", ["number"])]),
        ("turned", "ceb", [(1, "answer", ["number"])]),
    ]
    assert rejects[2]["faults"][0]["text"] == "in 1999"
    assert rejects[2]["faults"][0]["translation"] == "ni 9991"
    assert counts["ceb"].row() == {
        "accepted": 1, "rejected": 3, "unchanged": 0, "unidentified": 1, "reasons": {"unknown": 2, "number": 2}
    }  # fmt: skip


def test_a_plan_gives_each_sample_one_language(tmp_path):
    samples = [sample(str(i), ("", f"picture {'abcdefghij'[i % 10]}")) for i in range(50)]
    samples += [sample(f"q{i}", ("what?", "red"), task="vqa") for i in range(30)]
    samples += [sample("x", ("why?", "because"), task="explanation")]
    parts = shares("mc4", ["en", "sw", "ceb"], temperature=5)
    plan = Plan(list(parts), parts, seed=3)
    accepted, rejects, counts = translate(samples, tmp_path / "out", plan)
    assert len(accepted) + len(rejects) == 81
    per_task = Counter((s.task, s.language) for s in accepted)
    per_task.update((row["task"], row["language"]) for row in rejects)
    for task, number in (("caption", 50), ("vqa", 30)):
        assert {code: per_task[task, code] for code in parts} == allocate(parts, number)
    assert per_task["explanation", "en"] == 1
    assert {s.turns for s in accepted if s.language == "en" and s.task == "vqa"} == {(Turn("what?", "red"),)}
    assert plan.prepare(samples) == {
        code: row.accepted + row.rejected + row.unchanged for code, row in counts.items()
    }


def test_words_that_are_kept(tmp_path):
    samples = [sample("1", ("a nike shoe?", "nike"), task="vqa"), sample("2", ("", "a nike shoe"))]
    accepted, *_ = translate(samples, tmp_path / "out", Plan(["ceb"]), kept=["nike"])
    assert [s.turns for s in accepted] == [(Turn("a nike ?eohs", "nike"),), (Turn("", "a nike eohs"),)]


def test_text_of_every_kind_goes_through_files(tmp_path):
    text = "שלום לך\u2028می\u200cخواهم e\u0301 \u202b\U0001f469\U0001f3fd\u200d\U0001f692"
    path = tmp_path / "in.jsonl"
    write_jsonl([sample("1", ("", text))], path)
    accepted, *_ = translate(list(read_jsonl(path)), tmp_path / "out", Plan(["ceb"]))
    assert accepted[0].extra["original"]["turns"] == [["", text]]
    assert accepted[0].turns[0].answer.count("\u2028") == 1
    assert accepted[0].turns[0].answer.endswith("\U0001f469\U0001f3fd\u200d\U0001f692")


def test_nothing_is_lost_when_killed(tmp_path):
    log, cache, out = tmp_path / "log", tmp_path / "cache", tmp_path / "out"
    command = [sys.executable, "-m", "tests.data.translation.killed_run", log, cache, out, "0.05"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*map(str, command)], cwd=Path(__file__).parents[3], env=environment)
    while not log.exists() or len(log.read_text().splitlines()) < 100:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "samples.jsonl").exists()
    killed_run.run(log, cache, out, 0)
    shown = Counter(log.read_text().splitlines())
    assert len(shown) == 400
    # A kill loses at most the batch of 5 that was at work.
    assert sum(shown.values()) <= 400 + 5
    killed_run.run(tmp_path / "log2", tmp_path / "cache2", tmp_path / "out2", 0)
    for name in ("samples.jsonl", "rejects/rejects.jsonl", "summary.json"):
        assert (out / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["rejects", "samples.jsonl", "summary.json"]


def test_places_and_data_that_are_off(tmp_path):
    with pytest.raises(UserError, match="nothing to translate"):
        translate([], tmp_path / "out", Plan(["ceb"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is in its way"):
        translate([sample("1", ("", "a"))], tmp_path / "file", Plan(["ceb"]), cache=tmp_path / "cache")


@pytest.mark.skipif(importlib.util.find_spec("ctranslate2") is None, reason="CTranslate2 is not installed")
def test_nllb_end_to_end_in_int8(tiny_nllb, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "root"))
    engine = open_engine(EngineSettings("nllb", tiny_nllb, beams=1))
    texts = [
        "A brown dog runs.",
        "What is this?",
        "Two cats sleep on a red chair.",
        "a man, a woman, a child",
    ]
    samples = [sample(str(i), ("", text)) for i, text in enumerate(texts)]
    accepted, rejects, counts = translate(samples, tmp_path / "out", Plan(["de", "sw"]), engine)
    assert len(accepted) + len(rejects) == 8
    expected = dict(zip(texts, engine.translate(texts, "en", "de"), strict=True))
    for s in accepted:
        if s.language == "de":
            assert s.turns[0].answer == expected[s.extra["original"]["turns"][0][1]]
    assert all(fault["reasons"] for row in rejects for fault in row["faults"])
    assert counts["de"].accepted + counts["de"].rejected == 4
    with pytest.raises(UserError, match="does not know Cebuano"):
        translate(samples, tmp_path / "out", Plan(["ceb"]), engine)


class Forgetful(Backwards):
    """Cannot find its way back from one word."""

    def translate(self, texts, source, target):
        found = super().translate(texts, source, target)
        return [
            "puppy" if text == "god" and target == "en" else back
            for text, back in zip(texts, found, strict=True)
        ]


def test_labels_that_do_not_come_back_stay_english(tmp_path):
    asked = [
        sample(str(i), ("what is it", label), task="vqa") for i, label in enumerate(["dog", "cat", "12"])
    ]
    engine = Forgetful()
    accepted, _, counts = translate(asked, tmp_path / "out", Plan(["ceb"]), engine, check_labels=True)
    assert [s.extra.get("unconfirmed", False) for s in accepted] == [True, False, False]
    assert counts["ceb"].row()["unconfirmed"] == 1
    # Only labels go back, and each once.
    assert sorted(text for text in engine.shown if text.startswith("en ")) == ["en god", "en tac"]
    spec = Build.model_validate({"task": "vqa", "english_answers": 0})
    built = {s.id: (s.language, s.turns[0].answer) for s in build(spec, lambda: accepted, 0)}
    assert built == {"0:ceb": ("en", "dog"), "1:ceb": ("ceb", "tac"), "2:ceb": ("ceb", "12")}
    # Nothing is checked unless it is asked for.
    accepted, _, counts = translate(asked, tmp_path / "plain", Plan(["ceb"]))
    assert not any("unconfirmed" in s.extra for s in accepted)


def test_statements_keep_their_english_answer(tmp_path):
    asked = [
        sample("1", ("two dogs", "maybe"), task="entailment"),
        sample("2", ("a cat", "no"), task="reasoning"),
    ]
    accepted, _, _ = translate(asked, tmp_path / "out", Plan(["ceb"]))
    assert [s.turns for s in accepted] == [(Turn("owt sgod", "maybe"),), (Turn("a tac", "no"),)]
    (said,) = build(Build(task="entailment"), lambda: accepted[:1], 0)
    assert (said.language, said.turns[0].answer) == ("en", "maybe")
    assert "English" in said.turns[0].prompt
