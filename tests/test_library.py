"""What `import polylens` gives."""

import doctest
import logging

import pytest
from PIL import Image

import polylens
from polylens import library
from polylens.data.images import FilePicture
from polylens.models.asking import as_picture


@pytest.fixture(scope="module")
def model():
    return polylens.load("picto", device="cpu")


@pytest.fixture(scope="module")
def cat(tmp_path_factory):
    from polylens.picto.tasks import samples

    path = tmp_path_factory.mktemp("cat") / "cat.png"
    found = next(sample for sample in samples(languages=["en"]) if sample.turns[-1].answer == "cat")
    found.images[0].load().save(path)
    return path


def test_all_that_is_listed_is_there():
    assert set(polylens.__all__) <= set(dir(polylens))
    for name in polylens.__all__:
        assert getattr(polylens, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = polylens.nosuch


def test_the_docstrings_examples_hold():
    found = doctest.testmod(library)
    assert found.attempted >= 4
    assert found.failed == 0


def test_a_picture_is_captioned_from_a_path_bytes_or_an_image(model, cat):
    image = Image.open(cat)
    said = [model.caption(picture, lang="sw") for picture in (cat, str(cat), cat.read_bytes(), image)]
    assert said[0]
    assert said == said[:1] * 4
    assert model.caption(cat, lang="iw") == model.caption(cat, lang="he")


def test_an_answer_is_that_of_a_conversation(model, cat):
    assert model.ask(cat, "Swahili:") == model.chat().say("Swahili:", [cat])


def test_a_language_that_the_model_does_not_know_is_warned_of(model, cat, caplog):
    with caplog.at_level(logging.WARNING, "polylens"):
        logging.getLogger("polylens").propagate = True
        model.caption(cat, lang="is")
    assert "does not know Icelandic (is)" in caplog.text


def test_what_cannot_be_used_is_refused_in_one_sentence(model):
    with pytest.raises(polylens.UserError, match="No model 'nosuch'"):
        polylens.load("nosuch")
    with pytest.raises(polylens.UserError, match="device 'cuda:99' cannot be used"):
        polylens.load("picto", device="cuda:99")
    with pytest.raises(polylens.UserError, match="known kind"):
        model.caption(b"no picture")
    with pytest.raises(TypeError, match="not int"):
        as_picture(3)


def test_pictures_of_the_program_stay_as_they_are(cat):
    picture = FilePicture(cat)
    assert as_picture(picture) is picture


def test_own_captions_are_scored(cat, tmp_path):
    (cat.parent / "captions.jsonl").write_text('{"image": "cat.png", "captions": {"sw": ["paka"]}}\n')
    scores = polylens.evaluate("picto", cat.parent, tmp_path / "out")
    assert list(scores["languages"]) == ["sw"]
    assert (tmp_path / "out" / "results.json").is_file()
