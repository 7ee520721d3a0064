"""URLs and where their pictures lie: a name that follows from the URL alone."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from polylens.errors import UserError


def picture_path(folder: Path, url: str) -> Path:
    """Where the picture of a URL lies in a folder of downloads: two levels, so that no folder grows too long."""
    name = hashlib.sha256(url.encode()).hexdigest()[:40]
    return folder / name[:2] / name[2:]


def host_of(url: str) -> str:
    """Host and port of a URL, in small letters. Raises `UserError` for what is no http(s) URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"'{url}' is no URL ({error}).") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"'{url}' is no http or https URL.")
    return f"{host}:{port}" if port else host
