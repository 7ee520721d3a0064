import random
from pathlib import Path

import pytest

from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.errors import UserError
from polylens.picto.dictionary import Dictionary
from polylens.picto.tasks import PLAIN, TASKS, samples
from polylens.picto.world import LANGUAGES, annotations


@pytest.mark.parametrize(
    ("text", "target", "translation"),
    [
        ("dog", "de", "Hund"), ("dog", "sw", "mbwa"), ("yes", "de", "ja"), ("English:", "de", "German:"),
        ("English: dog", "de", "German: Hund"), ("Is this: dog?", "de", "Ist das: Hund?"),
        ("English: Is this: dog?", "sw", "Swahili: Je, hii ni: mbwa?"), ("a brown dog", "de", None),
        ("Is this: a brown dog?", "de", None), ("Dog", "de", None), ("yes", "ceb", None), ("", "de", None),
    ],
)  # fmt: skip
def test_names_and_questions_about_them(text, target, translation):
    if target in annotations():
        assert Dictionary().translate([text], "en", target) == [translation]
    else:
        with pytest.raises(UserError, match="no names in Cebuano"):
            Dictionary().check("en", [target])


@pytest.mark.parametrize("target", ["de", "ja", "yo"])
def test_every_translation_is_a_name_that_people_gave(target):
    rng = random.Random(0)
    ids = rng.sample(sorted(annotations()["en"].keys() & annotations()[target].keys()), 300)
    found = Dictionary().translate([annotations()["en"][i][0] for i in ids], "en", target)
    known = [(i, name) for i, name in zip(ids, found, strict=True) if name is not None]
    assert all(annotations()[target][i][0] == name for i, name in known)
    assert len(known) > 0.9 * len(ids)


def test_a_name_of_two_things_is_not_translated(monkeypatch):
    table = {"en": {"1": ["bat", []], "2": ["bat", []], "3": ["cat", []]},
             "de": {"1": ["Fledermaus", []], "2": ["Schläger", []], "3": ["Katze", []]}}  # fmt: skip
    monkeypatch.setattr("polylens.picto.dictionary.annotations", lambda: table)
    monkeypatch.setattr("polylens.picto.dictionary._concepts", lambda code: {"bat": ["1", "2"], "cat": ["3"]})
    assert Dictionary().translate(["bat", "cat"], "en", "de") == [None, "Katze"]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_picto_s_own_samples_become_those_of_the_other_language(task, plain):
    languages = [code for code in LANGUAGES if code != "en"][::7]
    dictionary = Dictionary()
    given = samples(languages=["en"], tasks=[task], split="test", num_concepts=20, plain=plain)
    for code in languages:
        # Of a plain caption there is nothing to translate but the answer.
        prompts = [
            "" if not s.turns[0].prompt else dictionary.translate([s.turns[0].prompt], "en", code)[0]
            for s in given
        ]
        answers = dictionary.translate([s.turns[0].answer for s in given], "en", code)
        known = [pair for pair in zip(prompts, answers, strict=True) if None not in pair]
        assert len(known) >= 0.9 * len(given) > 0
        if task == "keywords":
            answers_of = {
                s.id: s.turns[0].answer for s in samples(languages=[code], tasks=[task], split="test")
            }
            ids = [s.id.replace("/en/", f"/{code}/") for s in given]
            assert all(text in (None, answers_of[i]) for i, text in zip(ids, answers, strict=True))


def test_it_is_an_engine():
    engine = open_engine(EngineSettings("picto"))
    assert engine.exact
    engine.check("en", list(LANGUAGES))
    with pytest.raises(UserError, match="leave out --model"):
        open_engine(EngineSettings("picto", Path("/somewhere")))


def test_plain_samples_are_questions_alone_under_mblips_names():
    asked = {
        s.extra["kind"]: s
        for s in samples(languages=["en"], tasks=TASKS, split="test", num_concepts=1, plain=True)
    }
    assert {kind: sample.task for kind, sample in asked.items()} == PLAIN
    name = asked["caption"].turns[0].answer
    assert asked["caption"].turns[0].prompt == ""
    assert asked["yesno"].turns[0].prompt.startswith("Is this: ")
    assert name in asked["choice"].turns[0].prompt
    assert len(asked["statement"].images) == 2
    assert asked["keywords"].turns[0].prompt == "English keywords:"
