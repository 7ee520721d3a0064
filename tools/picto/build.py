"""Builds Picto's packaged data from the packages that people published it in.

    cldr-annotations-full (npm)        names and keywords per language    -> annotations.json.xz
    openmoji (npm)                     groups and order, colour and line drawings \\
    fonts-noto-color-emoji (Debian)    colour bitmaps, 136 x 128                   > concepts.json, STYLE.zip
    fonts-symbola (Debian)             black outlines: the final style            |
    @twemoji/svg, @iconify-json (npm)  colour drawings                            /

The same sources give the same bytes; `CHECKSUMS.json` in the packaged folder holds their SHA-256.
"""

import hashlib
import io
import json
import lzma
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tools.picto.drawers import font_drawer, glyph_drawer, icon_set_drawer, svg_drawer

from polylens.errors import UserError
from polylens.picto.world import FINAL_STYLE, MIN_NAMES_PER_LANGUAGE, MORE_STYLES

NUM_COLOURS = 64
# Of drawings that nobody looks at but training.
FEWER_COLOURS = 32
HELDOUT_SHARE = 0.10
VALIDATION_SHARE = 0.10
SCORED_GROUPS = (
    "smileys-emotion",
    "people-body",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
)
# What icon sets call by the same name and draw as something else: a flag for the turkey, a bat for the cricket.
OTHER_THINGS = {
    "fluent": {"1f63a"},
    "emojitwo": {"1f997", "1f199"},
    "blob": {"1f997", "1f199"},
    "fxemoji": {"1f576", "1f48f", "1f415", "1f408", "1f416", "1f405", "1f401", "1f68b", "1fa9f"},
    "emojione": {"1fa9f", "1f199"},
    "streamline": {"1f983"},
}
CLOCK_FACES = {f"{code:x}" for code in range(0x1F550, 0x1F568)}


@dataclass(frozen=True)
class Source:
    file: str
    sha256: str
    fetch: tuple[str, ...]


def _from_npm(package: str, sha256: str) -> Source:
    """'@scope/name@1.0', in the file that `npm pack` calls scope-name-1.0.tgz."""
    file = package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
    return Source(file, sha256, ("npm", "pack", package))


SOURCES = {
    "cldr": _from_npm(
        "cldr-annotations-full@48.2.0", "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"
    ),
    "openmoji": _from_npm(
        "openmoji@17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"
    ),
    "twemoji": _from_npm(
        "@twemoji/svg@15.0.0", "1d2907557a422c7c4e3feca50ef915c39da1db3d76b4a4d7e73fb59bce4403c3"
    ),
    "noto": Source(
        "fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
        "a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751",
        ("apt-get", "download", "fonts-noto-color-emoji=2.042-0+deb12u1"),
    ),
    "symbola": Source(
        "fonts-symbola_2.60-1.1_all.deb",
        "408244997437d4103e9cdc9dd75db29d0e5fbee6e6874536173995204033a6df",
        ("apt-get", "download", "fonts-symbola=2.60-1.1"),
    ),
    "fluent": _from_npm(
        "@iconify-json/fluent-emoji-flat@1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "emojitwo": _from_npm(
        "@iconify-json/emojione@1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"
    ),
    "blob": _from_npm(
        "@iconify-json/noto-v1@1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"
    ),
    "fxemoji": _from_npm(
        "@iconify-json/fxemoji@1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"
    ),
    "emojione": _from_npm(
        "@iconify-json/emojione-v1@1.2.3", "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3"
    ),
    "streamline": _from_npm(
        "@iconify-json/streamline-emojis@1.2.4",
        "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
    ),
}


def build(sources: Path, out: Path, *, report: Callable[[str], None] = print) -> dict[str, str]:
    """Build the packaged data from the archives in `sources` (fetched there where absent) into `out`.

    Returns the SHA-256 of every file written. Raises `UserError` when a source is missing or is not the pinned one.
    """
    sources.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    archives = {name: _archive(source, sources, report) for name, source in SOURCES.items()}

    report("reading annotations")
    annotations = _read_annotations(archives["cldr"])
    drawers = {
        "noto": font_drawer(archives["noto"], sources),
        "openmoji": svg_drawer(archives["openmoji"], "package/color/svg/"),
        "openmoji-line": svg_drawer(archives["openmoji"], "package/black/svg/"),
        "twemoji": svg_drawer(archives["twemoji"], "package/"),
    }
    # Styles that lack some of the pictograms: they are trained on where they have them.
    partial = {style: icon_set_drawer(archives[style]) for style in MORE_STYLES}
    final = glyph_drawer(archives["symbola"], sources)
    pictures: dict[str, dict[str, bytes]] = {style: {} for style in (*drawers, *partial, FINAL_STYLE)}
    concepts = []
    for row in _openmoji_rows(archives["openmoji"]):
        emoji = row["emoji"].replace("\ufe0f", "")
        if emoji not in annotations["en"]:
            continue
        tried = {style: draw(row["emoji"]) for style, draw in drawers.items()}
        if None in tried.values():
            continue
        tried |= {style: draw(emoji, annotations["en"][emoji][0]) for style, draw in partial.items()}
        concept = _concept(emoji, row)
        drawn = {
            style: picture
            for style, picture in tried.items()
            if picture is not None and concept["id"] not in OTHER_THINGS.get(style, ())
        }
        concept["more_styles"] = [style for style in partial if style in drawn]
        concepts.append(concept)
        for style, picture in drawn.items():
            colours = FEWER_COLOURS if style in partial else NUM_COLOURS
            pictures[style][concept["id"]] = _encode(picture, colours)
        if (glyph := final(emoji)) is not None:
            pictures[FINAL_STYLE][concept["id"]] = _encode(glyph, FEWER_COLOURS)
    report(f"{len(concepts)} pictograms drawn in {len(drawers)} styles, some in up to {len(pictures)}")

    named = {
        language: {concept["id"]: rows[concept["emoji"]] for concept in concepts if concept["emoji"] in rows}
        for language, rows in annotations.items()
    }
    named = {language: rows for language, rows in named.items() if len(rows) >= MIN_NAMES_PER_LANGUAGE}
    report(f"{len(named)} languages with at least {MIN_NAMES_PER_LANGUAGE} names")

    _write_json(out / "concepts.json", concepts)
    text = json.dumps(named, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    (out / "annotations.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))
    for style, files in pictures.items():
        _write_zip(out / f"{style}.zip", files)
    return checksums(out)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every data file of a packaged folder, by file name."""
    files = [folder / "concepts.json", folder / "annotations.json.xz", *sorted(folder.glob("*.zip"))]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _archive(source: Source, folder: Path, report: Callable[[str], None]) -> Path:
    path = folder / source.file
    if not path.exists():
        report(f"fetching {source.file}")
        try:
            subprocess.run(source.fetch, cwd=folder, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"could not fetch {source.file} with `{' '.join(source.fetch)}`: put the file into {folder} yourself."
            ) from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise UserError(
            f"{path} has SHA-256 {found}, expected {source.sha256}: delete it to fetch the pinned version."
        )
    return path


def _read_annotations(archive: Path) -> dict[str, dict[str, tuple[str, list[str]]]]:
    """{language: {emoji without variation selector: (name, keywords)}}"""
    languages = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) != 4 or parts[1] != "annotations":
                continue
            file = tar.extractfile(member)
            assert file is not None
            rows = json.load(file)["annotations"].get("annotations", {})
            languages[parts[2]] = {
                emoji.replace("\ufe0f", ""): (row["tts"][0], row.get("default", []))
                for emoji, row in rows.items()
                if row.get("tts")
            }
    return languages


def _openmoji_rows(archive: Path) -> Iterator[dict]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile("package/data/openmoji.json")
        assert file is not None
        rows = json.load(file)
    for row in rows:
        if not row["skintone"] and not row["group"].startswith("extras"):
            yield row


def _concept(emoji: str, row: dict) -> dict:
    identifier = "-".join(f"{ord(char):x}" for char in emoji)
    return {
        "id": identifier,
        "emoji": emoji,
        "group": row["group"],
        "subgroup": row["subgroups"],
        "scored": row["group"] in SCORED_GROUPS and identifier not in CLOCK_FACES,
        "split": _split(identifier),
    }


def _split(identifier: str) -> str:
    """'heldout', 'validation-noto' / 'validation-openmoji' (the style withheld from training), or 'train'."""
    digest = hashlib.sha256(identifier.encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < HELDOUT_SHARE:
        return "heldout"
    if position < HELDOUT_SHARE + VALIDATION_SHARE:
        return "validation-noto" if digest[8] % 2 else "validation-openmoji"
    return "train"


def _encode(picture: Image.Image, colours: int) -> bytes:
    """WebP of a third of the size, for few colours: nobody sees the difference in a pictogram."""
    buffer = io.BytesIO()
    few = picture.quantize(colours, method=Image.Quantize.FASTOCTREE).convert("RGBA")
    few.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def _write_json(path: Path, rows: list[dict]) -> None:
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}.webp", (1980, 1, 1, 0, 0, 0)), content)
