"""Fetches the pictures of a list of URLs: politely, once each, and whatever interrupts it.

    list of URLs -> one queue for each host -> at most `concurrency` requests, `per_host` of one host, `delay` apart
                 -> an image? -> FOLDER/ab/cdef...      the picture, under the hash of its URL
                                 FOLDER/downloads.sqlite what became of every URL
                                 FOLDER/dead.jsonl, report.json

A URL is `ok`, `dead` (gone for good: not asked again), or `failed` (the host was in trouble: the next run asks again).
A file is renamed into place before it is noted, so after a kill it is either noted or found and noted then.
"""

import asyncio
import hashlib
import heapq
import json
import os
import random
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx2
import numpy as np

from polylens import __version__
from polylens.data.images import begins_as_image, decode_image
from polylens.data.rows import json_array, json_lines, text_field, text_lines
from polylens.data.urls import host_of, picture_path
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic

LEDGER, DEAD, REPORT, PARTS = "downloads.sqlite", "dead.jsonl", "report.json", ".parts"
USER_AGENT = f"polylens/{__version__} (download of a public list of images)"
MAX_PICTURE = 64 << 20
MAX_REDIRECTS = 5
# Statuses after which it may help to ask again; any other one above 399 says that the picture is gone.
PASSING = {408, 425, 429, 500, 502, 503, 504}
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 120.0
# The same bytes from so many URLs are seldom a picture: hosts answer so for one that was taken away.
SUSPICIOUS = 10

State = Literal["ok", "dead", "failed"]
SCHEMA = """CREATE TABLE IF NOT EXISTS urls (
    url TEXT PRIMARY KEY, state TEXT, status INTEGER, reason TEXT, attempts INTEGER, bytes INTEGER, sha256 TEXT)"""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a host is asked: `per_host` requests at a time, begun `delay` seconds apart; `retries` after the first."""

    concurrency: int = 64
    per_host: int = 2
    delay: float = 0.25
    retries: int = 4
    timeout: float = 30.0


@dataclass(frozen=True)
class Outcome:
    """What became of one URL. `reason` groups the report: short, and the same for the same cause."""

    url: str
    state: State
    reason: str = ""
    status: int | None = None
    attempts: int = 0
    bytes: int = 0
    sha256: str = ""


class _Passing(Exception):
    """The host is in trouble: wait (`pause` seconds, if it says so), then ask again."""

    def __init__(self, reason: str, status: int | None = None, pause: float | None = None):
        super().__init__(reason)
        self.reason, self.status, self.pause = reason, status, pause


class _Gone(Exception):
    """There is no picture to be had at this URL."""

    def __init__(self, reason: str, status: int | None = None):
        super().__init__(reason)
        self.reason, self.status = reason, status


def read_urls(path: str | Path) -> Iterator[str]:
    """URLs of a file: BLIP's array of {"url": ...} (`.json`), JSON Lines of such (`.jsonl`), or text, one a line.

    Raises `UserError` with the place for a row without a URL.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".json", ".jsonl")):
        rows = json_lines(path) if name.endswith(".jsonl") else json_array(path)
        yield from (text_field(row, "url", f"{path}, row {number}") for number, row in rows)
        return
    yield from (line for _, line in text_lines(path))


def draw_urls(read: Callable[[], Iterable[str]], limit: int | None = None, seed: int = 0) -> list[str]:
    """Each URL once, in their order; with a limit those drawn by a hash of the seed and the URL.

    `read()` gives them anew each time: of many millions only those drawn are in memory. A higher limit draws the
    same ones and more.
    """
    if limit is None:
        return list(dict.fromkeys(read()))

    def place(url: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{seed}/{url}".encode()).digest()[:8])

    places = np.unique(np.fromiter((place(url) for url in read()), np.uint64))
    if limit >= len(places):
        return list(dict.fromkeys(read()))
    last = int(places[limit - 1])
    return list(dict.fromkeys(url for url in read() if place(url) <= last))


def download(
    urls: Iterable[str],
    folder: str | Path,
    manners: Manners | None = None,
    again: bool = False,
    hear: Callable[[Outcome], None] = lambda outcome: None,
) -> dict[str, Any]:
    """Fetch what is missing and return the report on these URLs; `again` asks dead ones anew.

    `hear` is told of every URL as it ends, those of earlier runs included. Raises `UserError` when another download
    is at work in the folder, and when the disk is full.
    """
    folder = make_writable_folder(folder)
    wanted = list(dict.fromkeys(urls))
    with closing(_open_ledger(folder)) as ledger:
        known: dict[str, State] = dict(ledger.execute("SELECT url, state FROM urls"))
        settled = ("ok",) if again else ("ok", "dead")
        missing = []
        for url in wanted:
            state = known.get(url, "failed")
            there = state != "ok" or picture_path(folder, url).exists()
            if state in settled and there:
                hear(Outcome(url, state))
            else:
                missing.append(url)
        try:
            asyncio.run(_Run(missing, folder, ledger, manners or Manners(), hear).all())
        except* UserError as group:
            raise group.exceptions[0] from None
        return _report(ledger, folder, wanted)


def _open_ledger(folder: Path) -> sqlite3.Connection:
    path = folder / LEDGER
    try:
        ledger = sqlite3.connect(path, timeout=0, isolation_level=None)
        # Safe against a kill at any moment without waiting for the disk at every row, and ours alone until closed.
        for statement in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
            ledger.execute(f"PRAGMA {statement}")
        ledger.executescript(f"BEGIN IMMEDIATE; {SCHEMA}; COMMIT;")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise UserError(f"Another download is at work in '{folder}': wait for it, or stop it.") from error
        raise UserError(f"'{path}' is no ledger of downloads ({error}): move it away.") from error
    return ledger


@dataclass
class _Host:
    queue: deque[tuple[str, int]] = field(default_factory=deque)  # (URL, attempts so far)
    next_start: float = 0.0
    active: int = 0
    waiting: bool = False  # has its place among those to be asked next


class _Run:
    """One run over the URLs that are missing."""

    def __init__(
        self,
        urls: Iterable[str],
        folder: Path,
        ledger: sqlite3.Connection,
        manners: Manners,
        hear: Callable[[Outcome], None],
    ):
        self.folder, self.ledger, self.manners, self.hear = folder, ledger, manners, hear
        self.parts = folder / PARTS
        self.parts.mkdir(exist_ok=True)
        for leftover in self.parts.iterdir():
            leftover.unlink()
        self.hosts: dict[str, _Host] = {}
        self.next: list[tuple[float, str]] = []
        self.pool = ThreadPoolExecutor(os.cpu_count())
        for url in urls:
            if (path := picture_path(folder, url)).exists():  # A kill came between the file and its note.
                self._note(_outcome_of(url, path.read_bytes(), 0))
                continue
            try:
                self.hosts.setdefault(host_of(url), _Host()).queue.append((url, 0))
            except UserError:
                self._note(Outcome(url, "dead", "no http(s) URL"))

    async def all(self) -> None:
        for name, host in self.hosts.items():
            self._line_up(name, host)
        changed = asyncio.Event()
        limits = httpx2.Limits(max_connections=self.manners.concurrency, max_keepalive_connections=None)
        with self.pool:
            async with (
                httpx2.AsyncClient(
                    headers={"User-Agent": USER_AGENT, "Accept": "image/*"},
                    timeout=self.manners.timeout,
                    limits=limits,
                    follow_redirects=True,
                    max_redirects=MAX_REDIRECTS,
                ) as client,
                asyncio.TaskGroup() as tasks,
            ):
                running: set[asyncio.Task[None]] = set()
                while self.next or running:
                    changed.clear()
                    if not self.next:
                        await changed.wait()
                        continue
                    start, name = self.next[0]
                    host = self.hosts[name]
                    if start < host.next_start:  # It was put off since it got its turn.
                        heapq.heapreplace(self.next, (host.next_start, name))
                        continue
                    if (pause := start - time.monotonic()) > 0:
                        # Meanwhile a host with an earlier turn may come.
                        with suppress(TimeoutError):
                            await asyncio.wait_for(changed.wait(), pause)
                        continue
                    if len(running) == self.manners.concurrency:
                        await changed.wait()
                        continue
                    heapq.heappop(self.next)
                    host.waiting, host.active = False, host.active + 1
                    host.next_start = time.monotonic() + self.manners.delay
                    url, attempts = host.queue.popleft()
                    self._line_up(name, host)
                    task = tasks.create_task(self._one(client, url, attempts + 1, host))
                    running.add(task)

                    def ended(task: asyncio.Task[None], name: str = name, host: _Host = host) -> None:
                        running.discard(task)
                        host.active -= 1
                        self._line_up(name, host)
                        changed.set()

                    task.add_done_callback(ended)

    def _line_up(self, name: str, host: _Host) -> None:
        """Give a host its next turn, if it has anything to fetch and may be asked."""
        if host.queue and not host.waiting and host.active < self.manners.per_host:
            host.waiting = True
            heapq.heappush(self.next, (host.next_start, name))

    async def _one(self, client: httpx2.AsyncClient, url: str, attempt: int, host: _Host) -> None:
        try:
            data, measured = await self._fetch(client, url)
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self.pool, self._keep, url, data, attempt)
            # Where the end of the connection is that of the answer, nothing else tells that it was cut short.
            if outcome.state != "ok" and not measured and (not data or begins_as_image(data)):
                raise _Passing("no whole answer", 200)
        except _Gone as gone:
            outcome = Outcome(url, "dead", gone.reason, gone.status, attempt)
        except _Passing as trouble:
            pause = trouble.pause
            if pause is None:
                # Pauses double, and differ, so that hosts are not asked in waves.
                pause = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1)
            if attempt <= self.manners.retries and pause <= LONGEST_PAUSE:
                host.next_start = max(host.next_start, time.monotonic() + pause)
                host.queue.appendleft((url, attempt))
                return
            outcome = Outcome(url, "failed", trouble.reason, trouble.status, attempt)
        self._note(outcome)

    async def _fetch(self, client: httpx2.AsyncClient, url: str) -> tuple[bytes, bool]:
        """(the body, whether the server said how long it is). Raises `_Gone` or `_Passing`."""
        try:
            async with client.stream("GET", url) as response:
                status = response.status_code
                if status in PASSING:
                    pause = _retry_after(response.headers.get("Retry-After"))
                    raise _Passing(f"status {status}", status, pause)
                if status != 200:
                    raise _Gone(f"status {status}", status)
                data = bytearray()
                async for block in response.aiter_bytes():
                    data += block
                    if len(data) > MAX_PICTURE:
                        raise _Gone(f"more than {MAX_PICTURE >> 20} MiB", status)
                headers = response.headers
                return bytes(data), "Content-Length" in headers or "Transfer-Encoding" in headers
        except httpx2.TimeoutException as error:
            raise _Passing("no answer in time") from error
        except (httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
            raise _Gone("a redirection that leads nowhere") from error
        except httpx2.DecodingError as error:
            raise _Gone("a broken encoding") from error
        except httpx2.ConnectError as error:
            raise _Passing("host not reached") from error
        except httpx2.TransportError as error:
            raise _Passing("no whole answer") from error

    def _keep(self, url: str, data: bytes, attempt: int) -> Outcome:
        """Look at the picture and keep it; what is none is gone. Runs in a thread."""
        outcome = _outcome_of(url, data, attempt)
        if outcome.state == "ok":
            path = picture_path(self.folder, url)
            part = self.parts / hashlib.sha256(url.encode()).hexdigest()
            try:
                path.parent.mkdir(exist_ok=True)
                part.write_bytes(data)
                os.replace(part, path)
            except OSError as error:
                raise UserError(
                    f"'{path}' cannot be written: {(error.strerror or str(error)).lower()}. The same command goes on "
                    "from here."
                ) from error
        return outcome

    def _note(self, outcome: Outcome) -> None:
        row = (outcome.url, outcome.state, outcome.status, outcome.reason)
        self.ledger.execute(
            "INSERT OR REPLACE INTO urls VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*row, outcome.attempts, outcome.bytes, outcome.sha256),
        )
        self.hear(outcome)


def _outcome_of(url: str, data: bytes, attempts: int) -> Outcome:
    try:
        decode_image(data, url)
    except UserError:
        return Outcome(url, "dead", "no whole image", 200, attempts, len(data))
    return Outcome(url, "ok", "", 200, attempts, len(data), hashlib.sha256(data).hexdigest())


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a `Retry-After` header: a number, or a date. None where there is none to be read."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _report(ledger: sqlite3.Connection, folder: Path, urls: list[str]) -> dict[str, Any]:
    """Count what became of `urls`, and write it down: `report.json`, and `dead.jsonl` with all that is not there."""
    wanted = set(urls)
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    hashes: Counter[str] = Counter()
    lines, total = [], 0
    for url, state, status, reason, attempts, size, sha256 in ledger.execute(
        "SELECT * FROM urls ORDER BY rowid"
    ):
        if url not in wanted:
            continue
        states[state] += 1
        if state == "ok":
            total += size
            hashes[sha256] += 1
        else:
            reasons[reason] += 1
            with suppress(UserError):
                hosts[host_of(url)] += 1
            row = {"url": url, "state": state, "reason": reason, "status": status, "attempts": attempts}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    report = {
        "urls": len(wanted),
        **{state: states[state] for state in ("ok", "dead", "failed")},
        "bytes": total,
        "reasons": dict(reasons.most_common()),
        "hosts": dict(hosts.most_common(20)),
        "same_picture": {sha256: count for sha256, count in hashes.most_common(20) if count >= SUSPICIOUS},
    }
    write_atomic(folder / DEAD, "".join(lines))
    write_atomic(folder / REPORT, json.dumps(report, ensure_ascii=False, indent=1))
    return report
