"""From the names that official files give to pictures in folders: all looked for before the first answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polylens.data.captions import place_of
from polylens.data.images import FilePicture
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.benchmarks.interface import PictureName, Question
from polylens.files import find_file

NAMED = 5


@dataclass(frozen=True)
class Located:
    """Questions whose pictures are all there, with them, and what is not: the pictures, and questions left out."""

    questions: list[Question]
    pictures: list[tuple[Picture, ...]]
    missing: list[str]
    left_out: int

    def only(self, places: Sequence[int]) -> "Located":
        """Some of the questions."""
        return replace(
            self,
            questions=[self.questions[at] for at in places],
            pictures=[self.pictures[at] for at in places],
        )

    def above(self, share: float) -> "Located":
        """The questions about pictures that training with `data.split=SHARE` left out.

        Raises `UserError` when there are none.
        """
        places: dict[tuple[str, ...], float] = {}
        kept = []
        for at, pictures in enumerate(self.pictures):
            if not pictures:
                raise UserError(f"{self.questions[at].place}: no picture to split by: leave --split out.")
            key = tuple(picture.key for picture in pictures)
            if key not in places:
                places[key] = place_of(pictures)
            if places[key] >= share:
                kept.append(at)
        if not kept:
            raise UserError(f"No picture lies above the split {share}: lower it.")
        return self.only(kept)


def locate(questions: Sequence[Question], folders: Sequence[Path], skip_missing: bool = False) -> Located:
    """Find the questions' pictures in `folders`, up to the Unicode normalisation of their names.

    Raises `UserError`, naming the first five and the count, when any is missing, unless `skip_missing` leaves their
    questions out; never is another picture taken instead.
    """
    wrong = next((folder for folder in folders if not folder.is_dir()), None)
    if wrong is not None:
        raise UserError(f"There is no folder '{wrong}': give the folder of the pictures with --images.")
    found: dict[tuple[str, ...], Picture | None] = {}
    kept: list[Question] = []
    pictures: list[tuple[Picture, ...]] = []
    for question in questions:
        mine = [_find(name, folders, found) for name in question.images]
        whole = [picture for picture in mine if picture is not None]
        if len(whole) == len(mine):
            kept.append(question)
            pictures.append(tuple(whole))
    missing = [names[0] for names, picture in found.items() if picture is None]
    if missing and not skip_missing:
        shown = ", ".join(f"'{name}'" for name in missing[:NAMED])
        where = ", ".join(f"'{folder}'" for folder in folders) or "no folder (give one with --images)"
        raise UserError(
            f"{len(missing):,} of {len(found):,} pictures are not in {where}: {shown}"
            f"{', ...' if len(missing) > NAMED else ''}. Get them, or leave their questions out with --skip-missing."
        )
    if questions and not kept:
        raise UserError(f"None of the {len(found):,} pictures is there: check --images.")
    return Located(kept, pictures, missing, len(questions) - len(kept))


def _find(
    name: PictureName, folders: Sequence[Path], found: dict[tuple[str, ...], Picture | None]
) -> Picture | None:
    if not isinstance(name, str | tuple):
        return name
    names = (name,) if isinstance(name, str) else name
    if names not in found:
        paths = (find_file(folder, each) for folder in folders for each in names)
        path = next((path for path in paths if path is not None and path.is_file()), None)
        found[names] = None if path is None else FilePicture(path)
    return found[names]
