import multiprocessing
import sqlite3
import subprocess
import sys

import pytest

from polylens.data.translation.cache import FILE_NAME, TranslationCache
from polylens.errors import UserError


def test_what_is_added_is_found_again(tmp_path):
    with TranslationCache(tmp_path, "engine") as cache:
        cache.add({"a dog": "ein Hund", "x\u2028y": None}, "en", "de")
        assert cache.look_up(["a dog", "x\u2028y", "other"], "en", "de") == {
            "a dog": "ein Hund",
            "x\u2028y": None,
        }
    with TranslationCache(tmp_path, "engine") as cache:
        assert cache.look_up(["a dog"], "en", "de") == {"a dog": "ein Hund"}
        assert cache.look_up(["a dog"], "en", "sw") == {}
        assert cache.look_up(["a dog"], "de", "en") == {}
    with TranslationCache(tmp_path, "another engine") as cache:
        assert cache.look_up(["a dog"], "en", "de") == {}


def test_more_texts_than_one_query_takes(tmp_path):
    texts = {f"text {i}": f"Text {i}" for i in range(3000)}
    with TranslationCache(tmp_path, "e") as cache:
        cache.add(texts, "en", "de")
        assert cache.look_up(texts, "en", "de") == texts


def test_two_processes_may_write_at_a_time(tmp_path):
    child = (
        "import sys; from polylens.data.translation.cache import TranslationCache as C\n"
        "with C(sys.argv[1], 'e') as c:\n"
        "    for i in range(100): c.add({f'{sys.argv[2]} {i}': 'x'}, 'en', 'de')"
    )
    children = [subprocess.Popen([sys.executable, "-c", child, str(tmp_path), name]) for name in "ab"]
    assert [each.wait() for each in children] == [0, 0]
    with TranslationCache(tmp_path, "e") as cache:
        assert len(cache.look_up([f"{name} {i}" for name in "ab" for i in range(100)], "en", "de")) == 200


def test_processes_may_begin_a_cache_at_the_same_moment(tmp_path):
    context = multiprocessing.get_context("fork")

    def begin(folder, name, ready):
        ready.wait()
        with TranslationCache(folder, "e") as cache:
            cache.add({name: "x"}, "en", "de")

    for turn in range(20):
        folder, ready = tmp_path / str(turn), context.Barrier(4)
        processes = [context.Process(target=begin, args=(folder, name, ready)) for name in "abcd"]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        with TranslationCache(folder, "e") as cache:
            assert len(cache.look_up("abcd", "en", "de")) == 4


def test_a_batch_is_kept_whole_or_not_at_all_on_a_full_disk(tmp_path):
    with TranslationCache(tmp_path, "e") as cache:
        cache.add({"first": "x"}, "en", "de")
        pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
        # SQLite reports this limit as it reports a full disk.
        cache._connection.execute(f"PRAGMA max_page_count={pages + 2}")
        many = {f"{i}": "y" * 2000 for i in range(50)}
        with pytest.raises(UserError, match=r"full.*free some space"):
            cache.add(many, "en", "de")
        assert cache.look_up(["first", *many], "en", "de") == {"first": "x"}


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is in its way"):
        TranslationCache(tmp_path / "file", "e")
    (tmp_path / FILE_NAME).write_bytes(b"this is no database, but long enough to look like one" * 40)
    with pytest.raises(UserError, match=r"not a database\): remove the file"):
        TranslationCache(tmp_path, "e")


def test_a_cache_that_may_only_be_read(tmp_path):
    with TranslationCache(tmp_path, "e") as cache:
        cache._connection.execute("PRAGMA query_only=1")
        with pytest.raises(UserError, match=r"readonly.*--cache"):
            cache.add({"a": "b"}, "en", "de")


def test_a_cache_that_another_run_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("polylens.data.translation.cache.BUSY_SECONDS", 0.1)
    with TranslationCache(tmp_path, "e") as cache:
        other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match=r"locked.*wait for the other run"):
            cache.add({"a": "b"}, "en", "de")
        other.close()
