"""Translations kept on disk by content, so that nothing is ever translated twice.

One SQLite file; a batch is written in one transaction, so a process killed at any moment loses at most the
batch that it was translating.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from polylens.errors import UserError
from polylens.files import make_writable_folder

FILE_NAME = "translations.sqlite"
BUSY_SECONDS = 60
_AT_ONCE = 500


class TranslationCache:
    """The translations of one engine in `folder`; several processes may use one folder at a time.

    A key is the SHA-256 of the engine's fingerprint, both languages and the text. Raises `UserError` for a
    folder that cannot be written, a file that is no cache, and a full disk.
    """

    def __init__(self, folder: str | Path, fingerprint: str):
        self.path = make_writable_folder(folder) / FILE_NAME
        self.fingerprint = fingerprint
        with self._explained():
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT) WITHOUT ROWID"
            )

    def look_up(self, texts: Iterable[str], source: str, target: str) -> dict[str, str | None]:
        """Those of `texts` that were translated before; None for one that the engine refused."""
        keys = {self._key(text, source, target): text for text in texts}
        found: dict[str, str | None] = {}
        with self._explained():
            for some in _portions(list(keys)):
                marks = ",".join("?" * len(some))
                rows = self._connection.execute(
                    f"SELECT key, text FROM translations WHERE key IN ({marks})", some
                )
                found |= {keys[key]: text for key, text in rows}
        return found

    def add(self, translations: Mapping[str, str | None], source: str, target: str) -> None:
        """Keep the translations of one batch, all or none of them."""
        rows = [(self._key(text, source, target), result) for text, result in translations.items()]
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR REPLACE INTO translations VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, text: str, source: str, target: str) -> bytes:
        parts = (self.fingerprint, source, target, text)
        return hashlib.sha256("\0".join(parts).encode()).digest()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            reason = str(error)
            remedy = "give another folder with --cache"
            if "full" in reason:
                remedy = "free some space and run the command again"
            elif "locked" in reason:
                remedy = "wait for the other run that uses it, or " + remedy
            elif "not a database" in reason or "malformed" in reason:
                remedy = "remove the file, or " + remedy
            raise UserError(f"The cache '{self.path}' cannot be used ({reason}): {remedy}.") from error


def _portions(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]
