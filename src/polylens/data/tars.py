"""Tar files as they lie: which members they hold and where, and pictures read out of the middle of them."""

import os
import posixpath
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from polylens.data.images import MAX_BYTES, decode_image
from polylens.errors import UserError

# A tar ends with two blocks of zeros.
END = 2 * tarfile.BLOCKSIZE
PACKED_TAR = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
# gzip, bzip2, xz, zstd, zip
PACKED_MARKS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")


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


def members(archive: str | Path) -> list[Member]:
    """The files of a tar that is not packed, in its order; a link has the place and size of the file it leads to.

    Tars that were joined (`cat a.tar b.tar`) are read to the end of the last. Raises `UserError` for what is no
    tar, for a packed one, for one that is cut short or damaged anywhere, and for a member that is no file with a
    readable name: a link out of the tar, a device or pipe, a sparse file, a path outside of the tar.
    """
    archive = Path(archive)
    try:
        with open(archive, "rb") as file:
            infos = _headers(file, archive)
    except tarfile.TarError as error:
        raise _no_tar(archive, str(error)) from error
    except OSError as error:
        raise UserError(f"'{archive}' cannot be read: {error.strerror or error}.") from error
    entries = [(_name(info.name, archive), info) for info in infos if not info.isdir()]
    files: dict[str, Member] = {}
    links: dict[str, str] = {}
    for name, info in entries:
        if info.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname))
        elif info.islnk():
            links[name] = posixpath.normpath(info.linkname)
        elif info.issparse():
            raise UserError(f"'{archive}' holds a sparse file '{name}': pack it anew without --sparse.")
        elif not info.isreg():
            raise UserError(
                f"'{archive}' holds '{name}', which is no file (a device, a pipe): pack it without."
            )
        else:
            files[name] = Member(info.name, info.offset_data, info.size)
    found = []
    for name, info in entries:
        target = _target(archive, name, links, files) if name in links else None
        if target is None:
            found.append(Member(info.name, info.offset_data, info.size))
        else:
            found.append(Member(info.name, target.offset, target.size))
    return found


def _headers(file: BinaryIO, archive: Path) -> list[tarfile.TarInfo]:
    """The headers of one tar, or of several joined one after another."""
    size = os.fstat(file.fileno()).st_size
    infos: list[tarfile.TarInfo] = []
    offset = 0
    while offset < size:
        file.seek(offset)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            infos += tar.getmembers()
            end = tar.offset
        if end > size:
            raise UserError(f"'{archive}' is cut short: get it again.")
        offset = _after_zeros(file, end, size)
        # tarfile takes a broken header for the end.
        if offset - end < END and offset < size:
            raise UserError(f"'{archive}' is damaged at byte {offset:,}: get it again.")
        if offset - end < END:
            raise UserError(f"'{archive}' is cut short, it has no end: get it again.")
    if not size:
        raise tarfile.ReadError("empty file")
    return infos


def _after_zeros(file: BinaryIO, start: int, size: int) -> int:
    """The place of the first block from `start` on that holds something; `size` when none does."""
    file.seek(start)
    while block := file.read(1 << 20):
        rest = block.lstrip(b"\0")
        if rest:
            place = start + len(block) - len(rest)
            return place - place % tarfile.BLOCKSIZE
        start += len(block)
    return size


def _no_tar(archive: Path, reason: str) -> UserError:
    try:
        with open(archive, "rb") as file:
            packed = file.read(8).startswith(PACKED_MARKS)
    except OSError:
        packed = False
    remedy = ": unpack it first" if packed or PACKED_TAR.search(archive.name) else ""
    return UserError(f"'{archive}' is no whole, plain tar file ({reason}){remedy}.")


def _name(name: str, archive: Path) -> str:
    """A member's path in its plainest spelling."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        told = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise UserError(f"'{archive}' holds '{told}', a name that is not UTF-8: pack it anew.") from error
    plain = posixpath.normpath(name)
    if plain.startswith(("/", "../")) or plain == "..":
        raise UserError(f"'{archive}' holds '{name}', a path outside of the tar: pack it anew.")
    return plain


def _target(archive: Path, name: str, links: Mapping[str, str], files: Mapping[str, Member]) -> Member:
    """The file that a link leads to, perhaps by way of others."""
    place, passed = name, {name}
    while place in links:
        place = links[place]
        if place in passed:
            break
        passed.add(place)
    if place not in files:
        raise UserError(
            f"'{archive}' holds a link '{name}' to '{links[name]}', and no such file: pack it anew with "
            "--dereference."
        )
    return files[place]


def tar_picture(archive: Path, name: str) -> TarPicture:
    """A picture of a tar by its member's name. Raises `UserError` when it is not there, or there twice."""
    try:
        index = _index(str(archive), os.stat(archive).st_mtime_ns)
    except OSError as error:
        raise UserError(f"The tar file '{archive}' does not exist: check the path.") from error
    found = index.get(name, ())
    if not found:
        raise UserError(f"The tar file '{archive}' holds no image '{name}'.")
    if len(found) > 1:
        raise UserError(
            f"The tar file '{archive}' holds '{name}' {len(found)} times: give each its own name."
        )
    return TarPicture(archive, found[0])


@lru_cache(maxsize=64)
def _index(archive: str, changed: int) -> dict[str, list[Member]]:
    index: dict[str, list[Member]] = {}
    for member in members(archive):
        index.setdefault(member.name, []).append(member)
    return index
