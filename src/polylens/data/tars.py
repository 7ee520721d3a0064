"""Tar files as they lie: which members they hold and where, and pictures read out of the middle of them."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from polylens.data.images import MAX_BYTES, decode_image
from polylens.errors import UserError

END = 2 * tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    """A file in a tar: `size` bytes from `offset` on."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarPicture:
    """A picture in a tar. Safe to read from threads and from forked workers: every read opens the tar anew.

    `digest` is the SHA-256 of its bytes where that is known: its key is then the same wherever the tar lies.
    """

    archive: Path
    member: Member
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.archive}!{self.member.name}"

    @property
    def key(self) -> str:
        """The digest, else path, member, place and the tar's time of change. Raises `UserError` without the tar."""
        if self.digest:
            return f"sha256:{self.digest}"
        try:
            changed = os.stat(self.archive).st_mtime_ns
        except OSError as error:
            raise UserError(f"The tar file '{self.archive}' does not exist: check the path.") from error
        return f"{os.path.abspath(self.archive)}!{self.member.name}:{self.member.offset}:{self.member.size}:{changed}"

    def read(self) -> bytes:
        """The member's bytes. Raises `UserError` when the tar is missing, cut short, or the member too big."""
        return read_member(self.archive, self.member)

    def load(self) -> Image.Image:
        return decode_image(self.read(), self.name)


def read_member(archive: Path, member: Member) -> bytes:
    """The bytes of a member. Raises `UserError` when the tar is missing or ends before them."""
    name = f"{archive}!{member.name}"
    if member.size > MAX_BYTES:
        raise UserError(f"'{name}' takes {member.size:,} bytes, more than {MAX_BYTES:,}: make it smaller.")
    try:
        with open(archive, "rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise UserError(f"'{archive}' cannot be read: {error.strerror or error}.") from error
    if len(data) < member.size:
        raise UserError(f"'{archive}' is cut short in its member '{member.name}': get it again.")
    return data


def members(archive: str | Path) -> Iterator[Member]:
    """The files of a tar that is not packed, in its order.

    Raises `UserError` for what is no tar, for a packed one, and for one that is cut short anywhere, which the
    blocks of zeros at its end tell.
    """
    archive = Path(archive)
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                if info.isfile():
                    if info.sparse:
                        raise UserError(f"'{archive}' holds a sparse file '{info.name}': pack it anew.")
                    yield Member(info.name, info.offset_data, info.size)
            end = tar.offset
        size = os.path.getsize(archive)
    except tarfile.TarError as error:
        packed = ": unpack it first" if archive.suffix in (".gz", ".xz", ".bz2", ".tgz") else ""
        raise UserError(f"'{archive}' is no whole, plain tar file ({error}){packed}.") from error
    except OSError as error:
        raise UserError(f"'{archive}' cannot be read: {error.strerror or error}.") from error
    if size < end:
        raise UserError(f"'{archive}' is cut short: get it again.")
    with open(archive, "rb") as file:
        file.seek(max(0, size - END))
        if file.read().strip(b"\0"):
            raise UserError(f"'{archive}' is cut short, it has no end: get it again.")


def tar_picture(archive: Path, name: str) -> TarPicture:
    """A picture of a tar by its member's name. Raises `UserError` when it is not there."""
    try:
        index = _index(str(archive), os.stat(archive).st_mtime_ns)
    except OSError as error:
        raise UserError(f"The tar file '{archive}' does not exist: check the path.") from error
    if name not in index:
        raise UserError(f"The tar file '{archive}' holds no image '{name}'.")
    return TarPicture(archive, index[name])


@lru_cache(maxsize=64)
def _index(archive: str, changed: int) -> dict[str, Member]:
    return {member.name: member for member in members(archive)}
