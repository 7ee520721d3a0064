"""Icon sets as npm packs them: by which of its names an emoji is found, and what is left out."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from tools.picto.build import OTHER_THINGS
from tools.picto.drawers import icon_set_drawer

from polylens.errors import UserError
from polylens.picto.world import concepts


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    def square(colour: str) -> dict:
        return {"body": f'<path fill="{colour}" d="M0 0h16v16H0z"/>'}

    icons = {
        "icons": {
            "cat-face": square("#f00"),
            "couple-kiss": square("#0f0"),
            "blackdiamondsuit": square("#00f"),
        },
        "aliases": {"feline": {"parent": "cat-face"}, "turned": {"parent": "cat-face", "rotate": 1}},
    }
    path = tmp_path / "icons.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("icons", icons), ("chars", {"1f48f": "couple-kiss"})):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("emoji", "english", "colour"),
    [
        ("\U0001f48f", "kiss", (0, 255, 0)),  # by code point
        ("\U0001f431", "cat face", (255, 0, 0)),  # by English name
        ("\u2666", "diamond suit", (0, 0, 255)),  # by Unicode's name
        ("\U0001f408", "feline", (255, 0, 0)),  # by an alias
    ],
)
def test_an_icon_is_found_by_code_point_or_name(
    archive: Path, emoji: str, english: str, colour: tuple[int, int, int]
) -> None:
    picture = icon_set_drawer(archive)(emoji, english)
    assert picture is not None
    assert picture.getpixel((32, 32)) == (*colour, 255)


def test_what_is_not_there_or_is_turned_is_left_out(archive: Path) -> None:
    draw = icon_set_drawer(archive)
    assert draw("\U0001f436", "dog face") is None
    assert draw("\U0001f436", "turned") is None


def test_drawings_of_something_else_are_not_packaged() -> None:
    by_id = {concept.id: concept for concept in concepts()}
    for style, ids in OTHER_THINGS.items():
        for name in ids:
            assert style not in by_id[name].more_styles
            with pytest.raises(UserError, match=name):
                by_id[name].picture(style).load()
