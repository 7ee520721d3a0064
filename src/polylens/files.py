"""Writing and recognising files: whole or not at all, and by content rather than by name."""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from polylens.errors import UserError

HASH_BLOCK = 1 << 20
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
NORMAL_FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8, line ends as they are) so that readers see the old file or the new one.

    Missing parent folders are made. Raises `UserError` when the folder cannot be written.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise UserError(f"'{path}' is a folder, and a file was to be written there: give a file name.")
    make_writable_folder(path.parent)
    data = content.encode("utf-8") if isinstance(content, str) else content
    # A plain open, unlike tempfile's, gives the file the permissions that the user's umask asks for.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {_reason(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def json_text(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """A value as JSON that strict readers take: what is not a finite number becomes null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys)
    except ValueError:
        plain = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys)


def make_writable_folder(folder: str | Path) -> Path:
    """Make `folder` and its parents if needed, and prove that files can be written in it.

    Raises `UserError` where they cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"'{folder}' cannot be a folder, a file is in its way: choose another.") from error
    except OSError as error:
        raise UserError(f"The folder '{folder}' cannot be written to: {_reason(error)}.") from error
    return folder


@contextmanager
def replacing_folder(folder: str | Path, manifest: str | None = None) -> Iterator[Path]:
    """Gives a new folder to write in, which takes the place of `folder` in the end: all of it or nothing.

    What is there already must be empty, or hold the file `manifest` if one is given. Raises `UserError` where it
    holds something else, and where the folder cannot be written; the old one is then as it was.
    """
    folder = Path(folder)
    if manifest is None:
        refuse_full(folder)
    elif not (folder / manifest).is_file() and not _is_free(folder):
        raise UserError(
            f"'{folder}' exists and holds something else (no {manifest}): choose another folder, or empty it."
        )
    make_writable_folder(folder.parent)
    new = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    old = new.with_suffix(".old")
    new.mkdir()
    try:
        yield new
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(new, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {_reason(error)}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def refuse_full(folder: Path) -> None:
    """Raises `UserError` when the folder exists and holds something."""
    if not _is_free(folder):
        raise UserError(f"'{folder}' exists and is not empty: choose another folder.")


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def cache_folder(name: str) -> Path:
    """`name` in the folder for what can be computed again: `POLYLENS_CACHE`, else `polylens` in the user's cache."""
    root = os.environ.get("POLYLENS_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(root) if root else home / "polylens").expanduser() / name


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises `UserError` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {_reason(error)}.") from error
    return digest.hexdigest()


def sha256_folder(path: str | Path, weights: Collection[str] | None = None) -> str:
    """SHA-256 of a model folder's content: names and bytes of its weights, JSON and vocabulary files.

    With `weights`, of its weights only these files. The order on disk, times, hidden files and notes
    (`*.md`) do not matter. Raises `UserError` for a folder without any weights.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"'{folder}' is not a folder: give a folder that holds a model.")
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    files = {name: file for name, file in files.items() if "/." not in f"/{name}" and file.suffix != ".md"}
    if not any(file.suffix in WEIGHT_SUFFIXES for file in files.values()):
        raise UserError(f"'{folder}' holds no weights ({', '.join(WEIGHT_SUFFIXES)}): is it a model folder?")
    if weights is not None:
        files = {
            name: file
            for name, file in files.items()
            if file.suffix not in WEIGHT_SUFFIXES or name in weights
        }
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{sha256_file(files[name])}  {name}\n".encode())
    return digest.hexdigest()


def find_file(folder: str | Path, name: str) -> Path | None:
    """The file called `name` in `folder`, up to Unicode normalisation; None when there is none.

    `name` may hold folders ("ta/ta-0.jpg"); an absolute name stands for itself.
    """
    # Of ASCII there is one spelling, and folders of a million pictures are looked through name by name.
    if name.isascii():
        place = os.path.join(folder, name)
        return Path(place) if os.path.exists(place) else None
    folder = Path(folder)
    for spelling in dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in NORMAL_FORMS)]):
        if os.path.exists(folder / spelling):
            return folder / spelling
    return _find_by_listing(folder, Path(name).parts)


def _find_by_listing(folder: Path, parts: tuple[str, ...]) -> Path | None:
    if not parts:
        return folder
    wanted = unicodedata.normalize("NFKC", parts[0])
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return None
    for name in names:
        if unicodedata.normalize("NFKC", name) == wanted:
            found = _find_by_listing(folder / name, parts[1:])
            if found is not None:
                return found
    return None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or a forbidden folder into one sentence (`UserError`)."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")
        raise UserError(
            f"'{path}' cannot be written: {reason}. Make room or choose another folder; the same command "
            "goes on from the last checkpoint."
        ) from error
