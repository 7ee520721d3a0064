"""`polylens caption`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import (
    Device,
    Json,
    MaxNewTokens,
    NumBeams,
    Precision,
    complain,
    consoles,
    open_model,
    print_json,
    quiet_libraries,
)
from polylens.errors import UserError
from polylens.languages import LANGUAGES, language, parse_languages

if TYPE_CHECKING:
    from polylens.models.vlm import VisionLanguageModel

PACKAGED = "picto"
KNOWS = (
    "the packaged model '{}' knows pictograms such as emoji, and nothing else; for photographs give --model."
)


def caption(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages, as in de,sw,zh; all: those the model knows.")
    ] = "en",
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A model folder, a packaged name, or a hub id.")
    ] = PACKAGED,
    num_beams: NumBeams = 1,
    max_new_tokens: MaxNewTokens = 32,
    precision: Precision = "float32",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Caption pictures in any of the model's languages.

    The packaged model knows pictograms: it warns where a picture looks like none.

    \b
    Examples
      polylens caption cat.png --lang de,sw,zh
      polylens caption FOLDER --lang all --json
      polylens caption photo.jpg --lang de --model runs/mine/model --num-beams 4
      polylens caption photo.jpg --lang de --model Gregor/mblip-mt0-xl --precision int8
    """
    codes = None if lang.strip().lower() == "all" else parse_languages(lang)
    quiet_libraries()
    from polylens.data.images import FilePicture

    images = [file for path in images for file in _files(path)]
    pictures = [FilePicture(path) for path in images]
    loaded = [picture.load() for picture in pictures]
    opened = open_model(model, precision, device=device)
    from polylens.models.asking import caption_sample, warn_of_unknown

    codes = codes or _all_languages(opened, model)
    warn_of_unknown(opened, codes, model)
    pictograms: list[bool | None] = [None] * len(images)
    if model == PACKAGED:
        from polylens.picto.recognise import look

        complain(KNOWS.format(model), "note")
        pictograms = [look(picture).is_pictogram for picture in loaded]
        for path, own in zip(images, pictograms, strict=True):
            if not own:
                complain(f"'{path}' does not look like a pictogram, so its captions mean little.", "warning")
    samples = [
        caption_sample(opened, picture, code, f"{path}:{code}")
        for path, picture in zip(images, pictures, strict=True)
        for code in codes
    ]
    said = iter(opened.generate(samples, num_beams=num_beams, max_new_tokens=max_new_tokens))
    rows: list[dict[str, Any]] = []
    for path, own in zip(images, pictograms, strict=True):
        row: dict[str, Any] = {"image": str(path), "captions": {code: next(said) for code in codes}}
        rows.append(row if own is None else row | {"looks_like_pictogram": own})
    if as_json:
        print_json({"model": model, "images": rows})
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        for code, text in row["captions"].items():
            first = row["image"] if code == codes[0] else ""
            table.add_row(Text(first, style="bold"), Text(language(code).name, style="dim"), Text(text))
    consoles()[0].print(table)


def _files(path: Path) -> list[Path]:
    """The pictures of a folder, by name; hidden files are no pictures. A file stands for itself."""
    if not path.is_dir():
        return [path]
    from PIL import Image

    from polylens.data.images import FORMATS

    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
    found = [each for each in files if each.suffix.lower() in endings]
    if not found:
        raise UserError(f"The folder '{path}' holds no pictures ({len(files)} other files): give another.")
    if len(found) < len(files):
        complain(f"{len(files) - len(found)} files of '{path}' are no pictures and are left out.", "note")
    return found


def _all_languages(model: "VisionLanguageModel", name: str) -> list[str]:
    known = model.config.language_model.languages
    if known is None:
        raise UserError(f"'{name}' does not say which languages it knows: name some, as in --lang de,sw.")
    return parse_languages("all", [code for code in map(_code, known) if code in LANGUAGES])


def _code(code: str) -> str:
    return language(code).code
