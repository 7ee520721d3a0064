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
    Precision,
    complain,
    consoles,
    open_model,
    print_json,
    quiet_libraries,
)
from polylens.commands.decoding import (
    LengthPenalty,
    NumBeams,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    decoding,
)
from polylens.errors import UserError
from polylens.languages import LANGUAGES, language, parse_languages

if TYPE_CHECKING:
    from polylens.models.confidence import Confidence
    from polylens.models.vlm import VisionLanguageModel


def caption(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")
    ],
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages, as in de,sw,zh; all: those the model knows.")
    ] = "en",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A model folder, a packaged name, or a hub id; default: the packaged one."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Ask this in place of the model's own prompt; {language} is filled in."
        ),
    ] = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_new_tokens: MaxNewTokens = 32,
    precision: Precision = "float32",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Caption pictures in any of the model's languages, each with its probability.

    A probability is that of the whole caption, given picture and prompt; "doubtful" marks low ones. A packaged model
    that knows pictures of one kind warns where a picture looks like none of them.

    \b
    Examples
      polylens caption cat.png --lang de,sw,zh
      polylens caption FOLDER --lang all --json
      polylens caption photo.jpg --lang de --model runs/mine/model --num-beams 4
      polylens caption photo.jpg --lang de --model Gregor/mblip-mt0-xl --precision int8
    """
    codes = None if lang.strip().lower() == "all" else parse_languages(lang)
    quiet_libraries()
    from polylens.data.answer import num_cut
    from polylens.data.images import FilePicture
    from polylens.models.defaults import default_model
    from polylens.models.limits import limits_of

    model = model or default_model("captioner")
    images = [file for path in images for file in _files(path)]
    pictures = [FilePicture(path) for path in images]
    loaded = [picture.load() for picture in pictures]
    opened = open_model(model, precision, device=device)
    from polylens.models.asking import caption_sample, warn_of_unknown
    from polylens.models.confidence import confidences

    codes = codes or _all_languages(opened, model)
    warn_of_unknown(opened, codes, model)
    limits = limits_of(model)
    if limits is not None:
        complain(limits.note(model), "note")
    fits = [limits is None or limits.fits(picture) for picture in loaded]
    for path, own in zip(images, fits, strict=True):
        if limits is not None and not own:
            complain(limits.warning(str(path)), "warning")
    samples = [
        caption_sample(opened, picture, code, f"{path}:{code}", prompt)
        for path, picture in zip(images, pictures, strict=True)
        for code in codes
    ]
    settings = decoding(
        opened.generate,
        model,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        length_penalty=length_penalty,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    visual = opened.encode_pictures(pictures)
    said = opened.generate(samples, visual=visual, **settings)
    if cut := num_cut(said):
        complain(
            f"{cut} of {len(said)} captions were cut at {max_new_tokens} tokens: raise --max-new-tokens.",
            "warning",
        )
    sure = confidences(opened, samples, said, visual)
    rows = []
    for place, path in enumerate(images):
        mine = slice(place * len(codes), (place + 1) * len(codes))
        row = _row(path, codes, said[mine], sure[mine], None if limits is None else limits.sure)
        rows.append(row if limits is None else row | {limits.flag: fits[place]})
    if as_json:
        print_json({"model": model, "images": rows})
    else:
        consoles()[0].print(_table(rows))


def _row(
    path: Path, codes: list[str], said: list[str], sure: "list[Confidence | None]", threshold: float | None
) -> dict[str, Any]:
    """One image: its captions, how probable each is (`Confidence`), and the languages of the doubtful ones."""
    known = {code: one for code, one in zip(codes, sure, strict=True) if one is not None}
    return {
        "image": str(path),
        "captions": dict(zip(codes, said, strict=True)),
        "probabilities": {code: round(one.probability, 4) for code, one in known.items()},
        "token_probabilities": {code: round(one.token_probability, 4) for code, one in known.items()},
        "doubtful": [code for code in codes if code not in known or known[code].is_low(threshold)],
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        for place, (code, text) in enumerate(row["captions"].items()):
            first = "" if place else row["image"]
            share = row["probabilities"].get(code)
            table.add_row(
                Text(first, style="bold"),
                Text(language(code).name, style="dim"),
                Text(text),
                Text("" if share is None else f"{share:.0%}", style="dim", justify="right"),
                Text("doubtful" if code in row["doubtful"] else "", style="yellow"),
            )
    return table


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
