"""The downloader against a real server on this machine, with everything that goes wrong in the wild."""

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from polylens.data.download import Manners, _open_ledger, _retry_after, download, draw_urls, read_urls
from polylens.data.urls import host_of, picture_path
from polylens.errors import UserError

ROOT = Path(__file__).parents[2]
QUICK = Manners(per_host=2, delay=0.0, retries=2, timeout=5)


def png(number):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, 7, 99)).save(data, "PNG")
    return data.getvalue()


class Server(ThreadingHTTPServer):
    """Answers by path, and remembers who asked what and when."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.times = Counter(), defaultdict(list)
        self.lock, self.active, self.most_active = threading.Lock(), 0, 0
        self.pause = 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """Clients that go away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, path = self.server, self.path.lstrip("/")
        with server.lock:
            server.asked[path] += 1
            server.times[path].append(time.monotonic())
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        try:
            time.sleep(server.pause)
            self.answer(path, server.asked[path])
        finally:
            with server.lock:
                server.active -= 1

    def answer(self, path, times):
        kind, _, number = path.partition("/")
        body, status, headers = png(int(number) if number.isdigit() else 0), 200, {}
        if kind == "gone":
            body, status = b"no", 404
        elif kind == "text":
            body = b"<html>Please log in.</html>"
        elif kind == "half":
            body = body[: len(body) // 2]
        elif kind == "empty":
            body = b""
        elif kind == "unmeasured":  # cut short the first time, without a word on its length
            body, headers = body[: len(body) // (2 if times == 1 else 1)], {"Content-Length": ""}
        elif kind == "unmeasured-half":
            body, headers = body[: len(body) // 2], {"Content-Length": ""}
        elif kind == "unmeasured-text":
            body, headers = b"<html>Please log in.</html>", {"Content-Length": ""}
        elif kind == "cut":
            headers["Content-Length"] = str(len(body) + 100)
        elif kind == "flaky" and times == 1:
            body, status = b"", 503
        elif kind == "busy" and times == 1:
            body, status, headers = b"", 429, {"Retry-After": "1"}
        elif kind == "later":
            body, status, headers = b"", 429, {"Retry-After": "86400"}
        elif kind == "down":
            body, status = b"", 500
        elif kind == "moved":
            body, status, headers = b"", 302, {"Location": "/ok/77"}
        elif kind == "loop":
            body, status, headers = b"", 302, {"Location": self.path}
        elif kind == "slow":
            time.sleep(1.5)
        elif kind == "drop":
            self.connection.close()
            return
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


def ledger(folder):
    with sqlite3.connect(folder / "downloads.sqlite") as connection:
        return {row[0]: row[1:] for row in connection.execute("SELECT * FROM urls")}


def test_what_becomes_of_good_and_bad_urls(server, tmp_path):
    outcomes = {
        "ok/1": ("ok", ""),
        "moved/1": ("ok", ""),
        "flaky/3": ("ok", ""),
        "gone/1": ("dead", "status 404"),
        "text/1": ("dead", "no whole image"),
        "half/1": ("dead", "no whole image"),
        "empty/1": ("dead", "no whole image"),
        "loop/1": ("dead", "a redirection that leads nowhere"),
        "down/1": ("failed", "status 500"),
        "cut/1": ("failed", "no whole answer"),
        "drop/1": ("failed", "no whole answer"),
        "slow/1": ("failed", "no answer in time"),
        "later/1": ("failed", "status 429"),
    }
    urls = [server.url(path) for path in outcomes] + ["ftp://there/x.png", "http://127.0.0.1:1/x.png"]
    manners = Manners(per_host=8, delay=0.0, retries=1, timeout=0.7)
    heard = []
    report = download(urls, tmp_path, manners, hear=heard.append)
    states = {url: row[0::2][:2] for url, row in ledger(tmp_path).items()}
    for path, (state, reason) in outcomes.items():
        assert states[server.url(path)] == (state, reason), path
    assert states["ftp://there/x.png"] == ("dead", "no http(s) URL")
    assert states["http://127.0.0.1:1/x.png"] == ("failed", "host not reached")
    assert Counter(outcome.state for outcome in heard) == {"ok": 3, "dead": 6, "failed": 6}
    assert (report["urls"], report["ok"], report["dead"], report["failed"]) == (15, 3, 6, 6)
    assert report["reasons"]["no whole image"] == 3
    assert server.asked["flaky/3"] == 2
    assert server.asked["later/1"] == 1  # a day is too long to wait: the next run asks
    assert picture_path(tmp_path, server.url("ok/1")).read_bytes() == png(1)
    dead = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert {row["url"] for row in dead} == set(urls) - {server.url(p) for p in ("ok/1", "moved/1", "flaky/3")}
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_an_answer_of_unknown_length_that_was_cut_is_asked_for_again(server, tmp_path):
    paths = ("unmeasured/1", "unmeasured-half/2", "unmeasured-text/3")
    urls = [server.url(path) for path in paths]
    report = download(urls, tmp_path, Manners(delay=0.0, retries=1))
    assert (report["ok"], report["failed"], report["dead"]) == (1, 1, 1)
    assert [server.asked[path] for path in paths] == [2, 2, 1]
    assert picture_path(tmp_path, urls[0]).read_bytes() == png(1)
    assert ledger(tmp_path)[urls[1]][0::2][:2] == ("failed", "no whole answer")


def test_a_second_run_asks_only_for_what_may_have_changed(server, tmp_path):
    urls = [server.url(path) for path in ("ok/1", "ok/2", "gone/1", "down/1")]
    download(urls, tmp_path, Manners(delay=0, retries=0))
    download(urls, tmp_path, Manners(delay=0, retries=0))
    assert server.asked == {"ok/1": 1, "ok/2": 1, "gone/1": 1, "down/1": 2}
    picture_path(tmp_path, urls[0]).unlink()
    report = download(urls, tmp_path, Manners(delay=0, retries=0), again=True)
    assert server.asked == {"ok/1": 2, "ok/2": 1, "gone/1": 2, "down/1": 3}
    assert (report["ok"], report["dead"], report["failed"]) == (2, 1, 1)


def test_a_file_that_a_kill_left_without_its_note_is_not_fetched_again(server, tmp_path):
    url = server.url("ok/5")
    path = picture_path(tmp_path, url)
    path.parent.mkdir()
    path.write_bytes(png(5))
    assert download([url], tmp_path, QUICK)["ok"] == 1
    assert not server.asked
    assert len(ledger(tmp_path)[url][5]) == 64


def test_a_host_is_asked_politely(server, tmp_path):
    server.pause = 0.05
    urls = [server.url(f"ok/{i}") for i in range(8)]
    download(urls, tmp_path / "a", Manners(concurrency=8, per_host=3, delay=0.0))
    assert server.most_active <= 3
    start = time.monotonic()
    download(urls, tmp_path / "b", Manners(concurrency=8, per_host=8, delay=0.1))
    times = sorted(t for path in server.times.values() for t in path if t >= start)
    # A little less between two than the delay: what is measured is their arrival.
    assert times[-1] - times[0] >= 7 * 0.1 - 0.09


def test_a_busy_host_waits_as_it_asked_and_others_go_on(server, tmp_path):
    other = Server()
    try:
        urls = [server.url("busy/1"), server.url("ok/1"), *(other.url(f"ok/{i}") for i in range(5))]
        report = download(urls, tmp_path, Manners(concurrency=4, per_host=1, delay=0.0))
        first, second = server.times["busy/1"]
        assert second - first >= 1.0
        assert server.times["ok/1"][0] >= second  # all of the host waits
        assert max(t for times in other.times.values() for t in times) < second
        assert report["ok"] == 7
    finally:
        other.shutdown()
        other.server_close()


def test_killed_and_begun_again_nothing_is_fetched_twice(server, tmp_path):
    server.pause = 0.03
    urls = [server.url(f"ok/{i}") for i in range(60)]
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    code = (
        "import sys; from polylens.data.download import *\n"
        "download(read_urls(sys.argv[1]), sys.argv[2], Manners(per_host=2, delay=0.0))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "urls.txt"), str(tmp_path / "out")], env=environment
    )
    while process.poll() is None and sum(server.asked.values()) < 15:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.2)
    there = {url for url in urls if picture_path(tmp_path / "out", url).exists()}
    assert 5 <= len(there) < 60
    report = download(urls, tmp_path / "out", Manners(per_host=4, delay=0.0))
    assert report["ok"] == 60
    for i, url in enumerate(urls):
        assert picture_path(tmp_path / "out", url).read_bytes() == png(i)
        assert server.asked[f"ok/{i}"] == 1 or url not in there
    assert sum(server.asked.values()) <= 60 + 2  # the two on their way when it was killed
    assert not list((tmp_path / "out" / ".parts").iterdir())


def test_the_same_picture_from_many_urls_is_told(server, tmp_path):
    urls = [server.url(f"ok/0?{i}") for i in range(12)]
    report = download(urls, tmp_path, QUICK)
    assert list(report["same_picture"].values()) == [12]


def test_one_download_at_a_time_in_a_folder(tmp_path):
    with closing(_open_ledger(tmp_path)), pytest.raises(UserError, match="Another download is at work"):
        download([], tmp_path)
    assert download([], tmp_path)["urls"] == 0


def test_a_broken_ledger_is_named(tmp_path):
    (tmp_path / "downloads.sqlite").write_bytes(b"no database, but long enough to be looked at" * 99)
    with pytest.raises(UserError, match="is no ledger of downloads"):
        download(["http://127.0.0.1:1/"], tmp_path)


def test_lists_of_urls(tmp_path):
    (tmp_path / "a.json").write_text('[{"caption": "x", "url": "http://a/1"}, {"url": "http://a/2"}]')
    (tmp_path / "a.jsonl").write_text('{"url": "http://a/1"}\n{"url": "http://a/2"}\n')
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhttp://a/1\r\n\r\nhttp://a/2")
    for name in ("a.json", "a.jsonl", "a.txt"):
        assert list(read_urls(tmp_path / name)) == ["http://a/1", "http://a/2"]
    (tmp_path / "b.jsonl").write_text('{"link": "http://a/1"}')
    with pytest.raises(UserError, match=r"b\.jsonl, row 1: 'url' is null"):
        list(read_urls(tmp_path / "b.jsonl"))
    (tmp_path / "c.txt").write_bytes("http://a/ä".encode("latin-1"))
    with pytest.raises(UserError, match=r"c\.txt: not UTF-8"):
        list(read_urls(tmp_path / "c.txt"))
    with pytest.raises(UserError, match="There is no file"):
        list(read_urls(tmp_path / "d.txt"))


def test_drawing():
    urls = [f"u{i}" for i in range(50)]
    drawn = draw_urls(lambda: [*urls, *urls[:5]], 10, 3)
    assert len(drawn) == 10
    assert drawn == draw_urls(lambda: urls, 10, 3) == sorted(drawn, key=urls.index)
    assert drawn != draw_urls(lambda: urls, 10, 4)
    assert set(drawn) < set(draw_urls(lambda: urls, 20, 3))
    for limit in (None, 50, 99):
        assert draw_urls(lambda: [*urls, "u0"], limit, 3) == urls


def test_hosts_and_dates():
    assert host_of("HTTP://A.example:80/x") == "a.example:80"
    for wrong in ("ftp://a/x", "http://", "nothing", "http://[1", "http://a:x/"):
        with pytest.raises(UserError):
            host_of(wrong)
    assert _retry_after("7") == 7
    assert _retry_after(None) is None
    assert _retry_after("soon") is None
    assert 55 < _retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
