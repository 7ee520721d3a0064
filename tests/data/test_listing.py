"""Which files of a folder are read: those in linked folders too, hidden ones never."""

import logging

import pytest

from polylens.data.listing import files_below, pictures_below


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    folder, disk = tmp_path / "folder", tmp_path / "disk"
    for place in (folder, folder / "below", disk):
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(b"x")
    (folder / "linked").symlink_to(disk)
    (folder / "b.png").symlink_to(disk / "a.png")
    (folder / "gone.png").symlink_to(disk / "gone.png")
    (folder / "below" / "up").symlink_to(folder)
    (disk / "itself").symlink_to(disk)
    names = [file.relative_to(folder).as_posix() for file in files_below(folder)]
    assert names == ["a.png", "b.png", "below/a.png", "linked/a.png"]


@pytest.mark.parametrize("ending", ["png", "JPG", "gif", "tiff", "webp", "jp2"])
def test_pictures_of_every_kind_are_found_and_hidden_ones_counted(tmp_path, caplog, ending):
    for name in (f"a.{ending}", f"._a.{ending}", "a.txt", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert pictures_below(tmp_path) == [tmp_path / f"a.{ending}"]
    assert "passed over 2 hidden or system files" in caplog.text
