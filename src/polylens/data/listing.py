"""What lies in folders and tars beside data: hidden and system files are passed over, and counted aloud."""

import logging
import os
from pathlib import Path, PurePosixPath

logger = logging.getLogger(__name__)

# Pictures by their endings, in small letters.
PICTURES = (
    "jpg",
    "jpeg",
    "jpe",
    "jfif",
    "png",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "avif",
    "jp2",
    "ppm",
    "ico",
)
# What systems put beside people's files; the names that begin with a dot are hidden anyway.
SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}


def is_system(name: str) -> bool:
    """Whether a path is hidden or a system's own file: any of its parts (`._x.jpg`, `__MACOSX/x`, `Thumbs.db`)."""
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM
        for part in PurePosixPath(name).parts
    )


def is_picture(name: str) -> bool:
    """Whether a file's ending is that of a picture, in small or capital letters."""
    return name.lower().endswith(tuple(f".{ending}" for ending in PICTURES))


def files_below(folder: str | Path) -> list[Path]:
    """The files of a folder and of those below it, in order; links to folders are followed, but never in a circle."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        own = Path(os.path.realpath(place))
        parents = {own, *own.parents}
        folders[:] = [name for name in folders if Path(os.path.realpath(Path(place, name))) not in parents]
        found += [file for name in files if (file := Path(place, name)).is_file()]
    return sorted(found)


def pictures_below(folder: str | Path) -> list[Path]:
    """The pictures among `files_below`; hidden and system files are passed over and counted aloud."""
    found, hidden = [], PassedOver()
    for file in files_below(folder):
        if is_system(name := file.relative_to(folder).as_posix()):
            hidden.add(name)
        elif is_picture(name):
            found.append(file)
    hidden.report(folder)
    return found


class PassedOver:
    """Counts what a reader leaves unread, to be reported in one line."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, name: str) -> None:
        self.count += 1
        self.first = self.first or name

    def report(self, where: str | Path, what: str = "hidden or system files") -> None:
        """Warn of what was counted, if anything was."""
        if self.count:
            logger.warning("'%s': passed over %d %s, such as '%s'.", where, self.count, what, self.first)
