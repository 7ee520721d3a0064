"""What is said of samples before they are trained on."""

import os
import shutil

import pytest
from PIL import Image

from polylens.data.check import check_pictures, check_texts, share_pictures, text_warnings
from polylens.data.images import FilePicture
from polylens.data.sample import Sample, Turn


def sample(answer, code="de", *paths):
    pictures = tuple(FilePicture(path) for path in paths)
    return Sample(f"{answer}:{code}", pictures, (Turn("", answer),), code, "caption", "own")


@pytest.fixture
def files(tmp_path):
    """A picture, a copy, a hard link and another picture, each under its name."""
    for name, colour in (("one", "red"), ("other", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "one.png", tmp_path / "copy.png")
    os.link(tmp_path / "one.png", tmp_path / "link.png")
    return {name: tmp_path / f"{name}.png" for name in ("one", "copy", "link", "other")}


def test_texts_are_measured_by_language():
    samples = [sample("ab"), sample("abcd"), sample("x", "en")]

    def tokenize(texts):
        return [[0 if letter == "x" else 1 for letter in text] for text in texts]

    german, english = check_texts(samples, tokenize, 0, {"de"}, 3)
    assert (german.samples, german.known, german.sayable, german.fitting) == (2, True, 1.0, 0.5)
    assert (german.tokens, german.longest) == (3, 4)
    assert (english.known, english.sayable) == (False, 0.0)
    warned = " ".join(text_warnings([german, english]))
    for told in (
        "does not know English (en)",
        "write 0% of the captions in English",
        "50% of the captions in",
    ):
        assert told in warned


def test_several_unknown_languages_are_one_sentence():
    found = check_texts([sample("a", "is"), sample("b", "sw")], None, None, {"en"}, None)
    assert text_warnings(found) == [
        "the language model does not know Icelandic (is), Swahili (sw): leave them out of data.languages."
    ]


def test_pictures_are_told_apart_by_content(files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    samples = [sample("a", "de", path) for path in [*files.values(), tmp_path / "broken.png"]]
    found = check_pictures(samples)
    assert (found.files, found.distinct, len(found.broken)) == (5, 2, 1)
    assert len(found.repeated[0]) == 3
    assert len(found.warnings()) == 2


def test_files_of_one_content_become_one_picture(files, tmp_path):
    samples = [sample(name, "de", path) for name, path in files.items()]
    one, copy, link, other = (each.images[0] for each in share_pictures(samples))
    assert copy is one
    assert link is one
    assert other is not one
    assert [each.id for each in share_pictures(samples)] == [each.id for each in samples]
    missing = sample("gone", "de", tmp_path / "gone.png")
    assert share_pictures([missing])[0] is missing
