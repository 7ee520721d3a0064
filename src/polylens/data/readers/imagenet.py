"""ImageNet's folders of classes, named in many languages by Babel-ImageNet.

    train/n01440764/n01440764_10026.JPEG      pictures: a folder for each WordNet id
    babel_imagenet.json                       {"DE": [[class numbers], [labels]], ...}
    LOC_synset_mapping.txt                    n01440764 tench, Tinca tinca

Class numbers are places in the sorted list of the 1,000 WordNet ids. https://github.com/gregor-ge/Babel-ImageNet
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from polylens.data.images import FilePicture
from polylens.data.listing import PassedOver, is_picture, is_system
from polylens.data.rows import check_text, read_json, text_lines
from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import language, language_codes

SOURCE = "imagenet"
NUM_CLASSES = 1000
# Wikipedia's codes that are no BCP 47, or that mean another language there.
BABEL_SPELLINGS = {
    "als": "gsw",
    "bat_smg": "sgs",
    "be_x_old": "be-tarask",
    "fiu_vro": "vro",
    "gmq_bot": "gmq-x-bot",
    "nrm": "nrf",
    "roa_rup": "rup",
    "simple": "en-simple",
}
SYNSET = re.compile(r"n\d{8}")


def read_imagenet(
    path: str | Path,
    *,
    labels: str | Path,
    synsets: str | Path | None = None,
    languages: Sequence[str] | None = None,
    per_class: int = 8,
    seed: int = 0,
) -> Iterator[Sample]:
    """Plain classification samples: for every language and class, `per_class` pictures drawn by the seed.

    `labels` is Babel-ImageNet's file; `synsets`, the official list of ids and English names, gives English and is
    needed where not all 1,000 folders are there.
    Raises `UserError` for files of another kind and for a language in `languages` without labels.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}': check the path.")
    folders = sorted(
        entry.name for entry in folder.iterdir() if SYNSET.fullmatch(entry.name) and entry.is_dir()
    )
    names = _synsets(Path(synsets)) if synsets else dict.fromkeys(folders, "")
    if len(names) != NUM_CLASSES:
        raise UserError(
            f"'{synsets or folder}' has {len(names)} classes, not {NUM_CLASSES}: name the official list of 'synsets'."
        )
    codes = None if languages is None else language_codes(languages)
    by_language = _labels(Path(labels), sorted(names), everything=codes is None)
    if synsets:
        by_language = {"en": names} | by_language
    wanted = list(by_language) if codes is None else codes
    files = _pictures(folder, folders)
    for code in wanted:
        if code not in by_language:
            raise UserError(
                f"'{labels}' has no labels in '{code}': choose from {', '.join(sorted(by_language))}."
            )
        for name, label in by_language[code].items():
            mine = files.get(name, [])
            drawn = random.Random(f"{seed}/{code}/{name}").sample(mine, min(per_class, len(mine)))
            for file in drawn:
                yield Sample(
                    id=f"{code}/{file}",
                    images=(FilePicture(folder / name / file),),
                    turns=(Turn("", label),),
                    language=code,
                    task="classification",
                    source=SOURCE,
                    extra={"image": file, "class": name},
                )


def _pictures(folder: Path, classes: Sequence[str]) -> dict[str, list[str]]:
    """{class: names of its pictures}; what else its folder holds is counted aloud."""
    files: dict[str, list[str]] = {}
    others = PassedOver()
    for name in classes:
        files[name] = []
        for file in sorted(entry.name for entry in (folder / name).iterdir()):
            if is_picture(file) and not is_system(file):
                files[name].append(file)
            else:
                others.add(f"{name}/{file}")
    others.report(folder, "files that are no pictures")
    return files


def _synsets(path: Path) -> dict[str, str]:
    """{WordNet id: first English name}."""
    names: dict[str, str] = {}
    for number, line in text_lines(path):
        name, _, words = line.partition(" ")
        if not SYNSET.fullmatch(name) or not words:
            raise UserError(f"{path}, line {number}: not 'n01440764 tench, Tinca tinca'.")
        if name in names:
            raise UserError(f"{path}, line {number}: the class {name} is there twice.")
        names[name] = check_text(words.split(",")[0].strip(), f"{path}, line {number}: the name")
    return names


def babel_spelling(spelling: str) -> str:
    """A code of Babel-ImageNet in a spelling that `language` reads: some of Wikipedia's mean other languages."""
    return BABEL_SPELLINGS.get(spelling.lower(), spelling)


def _labels(path: Path, synsets: list[str], everything: bool) -> dict[str, dict[str, str]]:
    """{our code: {WordNet id: label}}. Raises `UserError` for unknown languages where everything is wanted."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"'{path}' is no Babel-ImageNet: a mapping from languages was expected.")
    by_language: dict[str, dict[str, str]] = {}
    codes = _known_codes(content, path, everything)
    for spelling, value in content.items():
        where = f"{path}, '{spelling}'"
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(part, list) for part in value)
        ):
            raise UserError(f"{where}: not [[class numbers], [labels]].")
        numbers, labels = value
        if len(numbers) != len(labels) or not all(
            isinstance(n, int) and 0 <= n < NUM_CLASSES for n in numbers
        ):
            raise UserError(f"{where}: class numbers below {NUM_CLASSES} and as many labels were expected.")
        mine = {
            synsets[number]: check_text(str(label), where)
            for number, label in zip(numbers, labels, strict=True)
        }
        code = codes.get(spelling)
        if code is not None:
            # Of two spellings of one language (KMR and KU) our code's labels go first; the other adds its classes.
            others = by_language.get(code, {})
            by_language[code] = others | mine if spelling.lower() == code else mine | others
    return by_language


def _known_codes(spellings: Iterable[str], path: Path, everything: bool) -> dict[str, str]:
    found, unknown = {}, []
    for spelling in spellings:
        try:
            found[spelling] = language(babel_spelling(spelling)).code
        except UserError:
            unknown.append(spelling)
    if unknown and everything:
        raise UserError(
            f"'{path}' names unknown languages ({', '.join(unknown)}): name those that you want in 'languages'."
        )
    return found
