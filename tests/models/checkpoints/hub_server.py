"""A small server that speaks the hub's file API, over folders, and notes what it was asked for."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "a" * 40
# The commit of every revision that is not the main one.
OTHER_COMMIT = "b" * 40


@dataclass
class Hub:
    """`repositories` by hub id, or by "owner/name@revision"; `cut` counts how often a file's body still breaks off in
    the middle, `stall` has it stop there for good. `requests` are (method, file, first byte asked for).
    """

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    stall: str | None = None
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    endpoint: str = ""
    stalled: threading.Event = field(default_factory=threading.Event)

    def gets(self, file: str) -> list[int]:
        """The first bytes that were asked for of a file, in turn."""
        return [first for method, name, first in self.requests if method == "GET" and name == file]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, body: bool) -> None:
            parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            revision = (parts[5:6] if parts[0] == "api" else parts[3:4]) or ["main"]
            key, self.commit = name, COMMIT
            if revision[0] not in ("main", COMMIT):
                wanted = f"{name}@" if revision[0] == OTHER_COMMIT else f"{name}@{revision[0]}"
                key = next((other for other in hub.repositories if other.startswith(wanted)), "")
                self.commit = OTHER_COMMIT
            if name in hub.gated:
                self._say(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
            elif name not in hub.repositories:
                self._say(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})
            elif not key:
                self._say(404, {"error": "not found"}, {"X-Error-Code": "RevisionNotFound"})
            elif parts[0] == "api":
                self._say(200, self._listing(hub.repositories[key], name, parts[4:]), {})
            else:
                self._file(hub.repositories[key], "/".join(parts[4:]), body)

        def _listing(self, folder: Path, name: str, rest: list[str]) -> Any:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            entries = [
                {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size}
                | {"oid": hashlib.sha1(path.read_bytes()).hexdigest()}
                for path in files
            ]
            if rest[:1] == ["tree"]:
                return entries
            siblings = [{"rfilename": entry["path"]} for entry in entries]
            return {
                "_id": "0",
                "id": name,
                "sha": self.commit,
                "private": False,
                "siblings": siblings,
                "tags": [],
            }

        def _file(self, folder: Path, file: str, body: bool) -> None:
            given = self.headers.get("Range", "bytes=0-")
            first = int(given.removeprefix("bytes=").split("-")[0])
            hub.requests.append((self.command, file, first))
            content = (folder / file).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": self.commit}
            headers |= {"Accept-Ranges": "bytes"}
            if first:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.send_response(206 if first else 200)
            for key, value in (headers | {"Content-Length": str(len(content) - first)}).items():
                self.send_header(key, value)
            self.end_headers()
            if not body:
                return
            content = content[first:]
            if hub.stall == file or hub.cut.get(file):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                if hub.stall == file:
                    hub.stalled.set()
                    while hub.stall == file:
                        time.sleep(0.05)
                else:
                    hub.cut[file] -= 1
                self.close_connection = True
                return
            self.wfile.write(content)

        def _say(self, status: int, value: Any, headers: dict[str, str]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            for key, text in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, text)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.stall = None
        server.shutdown()
        server.server_close()
        thread.join()
