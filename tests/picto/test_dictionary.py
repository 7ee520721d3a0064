import random
from pathlib import Path

import pytest

from polylens.data.translation.engines import EngineSettings, open_engine
from polylens.errors import UserError
from polylens.picto.dictionary import Dictionary
from polylens.picto.tasks import samples
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


@pytest.mark.parametrize("task", ["caption", "yesno", "choice", "statement"])
def test_picto_s_own_samples_become_those_of_the_other_language(task):
    languages = [code for code in LANGUAGES if code != "en"][::7]
    dictionary = Dictionary()
    given = samples(languages=["en"], tasks=[task], split="test", num_concepts=20)
    for code in languages:
        prompts = dictionary.translate([s.turns[0].prompt for s in given], "en", code)
        answers = dictionary.translate([s.turns[0].answer for s in given], "en", code)
        known = [pair for pair in zip(prompts, answers, strict=True) if None not in pair]
        assert len(known) >= 0.9 * len(given) > 0


def test_it_is_an_engine():
    engine = open_engine(EngineSettings("picto"))
    assert engine.exact
    engine.check("en", list(LANGUAGES))
    with pytest.raises(UserError, match="leave out --model"):
        open_engine(EngineSettings("picto", Path("/somewhere")))
