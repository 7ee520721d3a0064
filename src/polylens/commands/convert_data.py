"""`polylens convert-data`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polylens.commands.common import consoles, say
from polylens.languages import language as find_language


def convert_data(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with captions.jsonl or metadata.jsonl/csv; .csv; samples as .jsonl; COCO or LLaVA as .json.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the new file; pictures stay where they are.")],
    to: Annotated[
        Literal["captions", "samples"], typer.Option(help="Write captions.jsonl, or samples.jsonl.")
    ] = "samples",
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder of the pictures, if not beside DATA.")
    ] = None,
    lang: Annotated[
        str, typer.Option(metavar="CODE", help="The language of texts that do not name theirs.")
    ] = "en",
    write_split: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Also write held-out.txt: the pictures that training with this split leaves out.",
        ),
    ] = None,
) -> None:
    """Convert your own data: from COCO, LLaVA or ShareGPT, Hugging Face's imagefolder, CSV and our own formats.

    A table has a column file_name (or image) and text (or caption), with or without language; or columns such as
    caption_de, one for each language. Other columns are kept.

    \b
    Examples
      polylens convert-data captions.csv --images photos --to captions --out mine
      polylens convert-data imagefolder --lang de --to captions --out mine
      polylens convert-data conversations.json --images train2017 --out mine
      polylens convert-data mine --to samples --out mine --write-split 0.9
    """
    from polylens.data.captions import FILE_NAME
    from polylens.data.convert import HELD_OUT, SAMPLES, read_any, write_as, write_held_out

    console = consoles()[0]
    samples = list(read_any(data, images, find_language(lang).code))
    count = write_as(samples, to, out)
    say(console, f"{count:,} lines in {out / (FILE_NAME if to == 'captions' else SAMPLES)}")
    if write_split is not None:
        held_out = write_held_out(samples, write_split, out)
        say(console, f"{held_out:,} held-out pictures in {out / HELD_OUT}")
