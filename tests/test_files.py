import os
import stat
import threading
import unicodedata

import pytest

from polylens.errors import UserError
from polylens.files import (
    find_file,
    make_writable_folder,
    replacing_folder,
    sha256_file,
    sha256_folder,
    write_atomic,
)


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    write_atomic(tmp_path / "new" / "a.txt", "ä\r\n\u2028\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ä\r\n\u2028\n".encode()
    write_atomic(tmp_path / "new" / "a.txt", b"\x00\xff")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path / "new") == ["a.txt"]


def test_written_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomic(tmp_path / "atomic", "")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1


def test_readers_see_the_old_file_or_the_new_one(tmp_path):
    path, contents = tmp_path / "a", [b"x" * 200_000, b"y" * 100_000]
    write_atomic(path, contents[0])
    writer = threading.Thread(target=lambda: [write_atomic(path, contents[i % 2]) for i in range(30)])
    writer.start()
    while writer.is_alive():
        assert path.read_bytes() in contents
    writer.join()
    assert os.listdir(tmp_path) == ["a"]


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is in its way"):
        write_atomic(tmp_path / "file" / "a.txt", "")
    with pytest.raises(UserError, match="is a folder"):
        write_atomic(tmp_path, "")
    with pytest.raises(UserError, match="'/proc/nothing' cannot be written to"):
        make_writable_folder("/proc/nothing")
    with pytest.raises(UserError, match="file name too long"):
        write_atomic(tmp_path / ("a" * 300), "")
    assert os.listdir(tmp_path) == ["file"]


def test_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(UserError, match="no such file"):
        sha256_file(tmp_path / "b")


def test_hash_of_a_folder_is_of_its_content(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "two" / "README.md").write_text("notes")
    (tmp_path / "two" / ".cache").mkdir()
    (tmp_path / "two" / ".cache" / "lock").write_text("")
    assert sha256_folder(tmp_path / "one") == sha256_folder(tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text("{ }")
    assert sha256_folder(tmp_path / "one") != sha256_folder(tmp_path / "two")
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "one" / "other.txt")
    with pytest.raises(UserError, match="holds no weights"):
        sha256_folder(tmp_path / "one")
    with pytest.raises(UserError, match="is not a folder"):
        sha256_folder(tmp_path / "three")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD", "NFKD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD", "NFKC", "NFKD"])
def test_names_match_up_to_normalisation(tmp_path, on_disk, asked):
    name = "képek/한글-①.jpg"
    path = tmp_path / unicodedata.normalize(on_disk, name)
    path.parent.mkdir()
    path.write_bytes(b"")
    assert find_file(tmp_path, unicodedata.normalize(asked, name)) == path
    assert find_file(tmp_path, "képek/한글-②.jpg") is None
    assert find_file(tmp_path, "a\0b") is None


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    for text in ("first", "second"):
        with replacing_folder(folder, "card.json") as new:
            (new / "card.json").write_text(text)
        assert (folder / "card.json").read_text() == text
    with pytest.raises(TypeError), replacing_folder(folder, "card.json") as new:
        (new / "card.json").write_text(3)
    assert (folder / "card.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "card.json").write_text("old")
    rename = os.rename

    def failing(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(UserError, match="no space left"), replacing_folder(folder, "card.json"):
        pass
    assert (folder / "card.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"no card\.json"), replacing_folder(tmp_path, "card.json"):
        pass
    assert (tmp_path / "thesis.txt").exists()
