"""Draws pictograms from the packages that hold them: fonts of bitmaps or outlines, SVG files, icon sets."""

import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw, ImageFont

PICTURE_SIZE = 64
FONT_STRIKE = 109
GLYPH_WIDTH = 136
# Of outlines, which are drawn large and made small; pixels.
GLYPH_SIZE = 256
GLYPH_MARGIN = 12

Drawer = Callable[[str], Image.Image | None]


def svg_drawer(archive: Path, folder: str) -> Drawer:
    """Draws by emoji from the SVG files of a tar's folder, named by code points."""
    svgs: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith(folder) and member.name.endswith(".svg"):
                code_points = member.name.removeprefix(folder).removesuffix(".svg").upper()
                svgs[code_points] = _open(tar, member.name).read().decode()

    def draw(emoji: str) -> Image.Image | None:
        for text in (emoji, emoji.replace("\ufe0f", "")):
            svg = svgs.get("-".join(f"{ord(char):X}" for char in text))
            if svg is not None:
                return _draw_svg(svg)
        return None

    return draw


def icon_set_drawer(archive: Path) -> Callable[[str, str], Image.Image | None]:
    """Draws from an icon set in Iconify's JSON format: by code point where it has them, else by English name, else by
    Unicode's.
    """
    with tarfile.open(archive) as tar:
        icons = json.load(_open(tar, "package/icons.json"))
        characters = json.load(_open(tar, "package/chars.json"))
    by_code = {code.replace("-fe0f", ""): name for code, name in characters.items()}
    by_name = {_squeezed(name): name for name in (*icons.get("aliases", {}), *icons["icons"])}

    def draw(emoji: str, english: str) -> Image.Image | None:
        unicode_name = unicodedata.name(emoji, "") if len(emoji) == 1 else ""
        name = (
            by_code.get("-".join(f"{ord(char):x}" for char in emoji))
            or by_name.get(_squeezed(english))
            or by_name.get(_squeezed(unicode_name))
        )
        alias = icons.get("aliases", {}).get(name, {})
        icon = icons["icons"].get(alias.get("parent", name))
        # Aliases that also turn or mirror their parent are left out.
        if icon is None or alias.keys() - {"parent"}:
            return None
        left, top, width, height = (
            icon.get(key, icons.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        return _draw_svg(
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
        )

    return draw


def font_drawer(package: Path, folder: Path) -> Drawer:
    """Draws by emoji from Noto Color Emoji's bitmaps, out of its Debian package unpacked into `folder`."""
    unpacked = folder / "noto"
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    path = next(unpacked.rglob("NotoColorEmoji.ttf"))
    font = ImageFont.truetype(str(path), FONT_STRIKE, layout_engine=ImageFont.Layout.RAQM)
    missing = font.getmask("\U0010fffd").getbbox()

    def draw(emoji: str) -> Image.Image | None:
        if font.getlength(emoji) > 1.2 * GLYPH_WIDTH or font.getmask(emoji).getbbox() in (None, missing):
            return None
        canvas = Image.new("RGBA", (GLYPH_WIDTH, GLYPH_WIDTH))
        left, top, right, bottom = font.getbbox(emoji)
        corner = ((GLYPH_WIDTH - right - left) // 2, (GLYPH_WIDTH - bottom - top) // 2)
        ImageDraw.Draw(canvas).text(corner, emoji, font=font, embedded_color=True)
        return _square(canvas) if canvas.getbbox() else None

    return draw


def glyph_drawer(package: Path, folder: Path) -> Drawer:
    """Draws single code points in black from Symbola's outlines, out of its Debian package unpacked into `folder`."""
    unpacked = folder / "symbola"
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    path = next(unpacked.rglob("Symbola_hint.ttf"))
    font = ImageFont.truetype(str(path), GLYPH_SIZE)
    missing = bytes(font.getmask("\U0010fffd"))

    def draw(emoji: str) -> Image.Image | None:
        if len(emoji) > 1 or bytes(font.getmask(emoji)) in (b"", missing):
            return None
        left, top, right, bottom = font.getbbox(emoji)
        width, height = int(right - left), int(bottom - top)
        side = max(width, height) + 2 * GLYPH_MARGIN
        canvas = Image.new("RGBA", (side, side))
        corner = ((side - width) // 2 - left, (side - height) // 2 - top)
        ImageDraw.Draw(canvas).text(corner, emoji, font=font, fill="black")
        return _square(canvas)

    return draw


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is a folder"
    return file


def _squeezed(name: str) -> str:
    """'O button (blood type)' -> 'obuttonbloodtype': icon sets differ in where they put hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]", "", plain)


def _draw_svg(svg: str) -> Image.Image:
    import resvg_py

    # Drawn at four times the size: resvg's own antialiasing is coarser than Pillow's area filter.
    png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * PICTURE_SIZE, skip_system_fonts=True)
    return _square(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def _square(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
