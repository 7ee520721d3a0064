"""`polylens caption`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import (
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
    from polylens.models.vlm import VisionLanguageModel

PACKAGED = "picto"
KNOWS = (
    "the packaged model '{}' knows pictograms such as emoji, and nothing else; for photographs give --model."
)


def caption(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages, as in de,sw,zh; all: those the model knows.")
    ] = "en",
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A model folder, a packaged name, or a hub id.")
    ] = PACKAGED,
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
    as_json: Json = False,
) -> None:
    """Caption pictures in any of the model's languages.

    The packaged model knows pictograms: it warns where a picture looks like none.

    \b
    Examples
      polylens caption cat.png --lang de,sw,zh
      polylens caption *.png --lang all --json
      polylens caption photo.jpg --lang de --model runs/mine/model --num-beams 4
      polylens caption photo.jpg --lang de --model Gregor/mblip-mt0-xl --precision int8
    """
    codes = None if lang.strip().lower() == "all" else parse_languages(lang)
    quiet_libraries()
    from polylens.data.images import FilePicture
    from polylens.data.sample import Sample, Turn

    pictures = [FilePicture(path) for path in images]
    loaded = [picture.load() for picture in pictures]
    opened = open_model(model, precision)
    codes = codes or _all_languages(opened, model)
    _warn_of_unknown(opened, codes, model)
    pictograms: list[bool | None] = [None] * len(images)
    if model == PACKAGED:
        from polylens.picto.recognise import look

        complain(KNOWS.format(model), "note")
        pictograms = [look(picture).is_pictogram for picture in loaded]
        for path, own in zip(images, pictograms, strict=True):
            if not own:
                complain(f"'{path}' does not look like a pictogram, so its captions mean little.", "warning")
    samples = [
        Sample(
            f"{path}:{code}",
            (picture,),
            (Turn(_asked(prompt, code) or opened.config.layout.ask_caption(code), ""),),
            code,
            "caption",
            "",
        )
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
    said = iter(opened.generate(samples, **settings))
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


def _asked(prompt: str | None, code: str) -> str | None:
    return None if prompt is None else prompt.replace("{language}", language(code).name)


def _all_languages(model: "VisionLanguageModel", name: str) -> list[str]:
    known = model.config.language_model.languages
    if known is None:
        raise UserError(f"'{name}' does not say which languages it knows: name some, as in --lang de,sw.")
    return parse_languages("all", [code for code in map(_code, known) if code in LANGUAGES])


def _warn_of_unknown(model: "VisionLanguageModel", codes: list[str], name: str) -> None:
    from polylens.evaluation.captions import unknown_languages

    if unknown := unknown_languages(model, codes):
        names = ", ".join(f"{language(code).name} ({code})" for code in unknown)
        complain(f"the language model of '{name}' does not know {names}: expect little there.", "warning")


def _code(code: str) -> str:
    return language(code).code
