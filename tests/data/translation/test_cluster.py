"""The same translations by Ray as without; Ray takes some seconds to start."""

import importlib.util

import pytest

from polylens.data.sample import Sample, Turn
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.cluster import on_cluster
from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import open_engine
from polylens.data.translation.run import Plan, translate_samples
from polylens.errors import UserError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (polylens[ray])"
)
NAMES = ["dog", "cat", "no such name", "house", "tiger", "pizza", "rose", "a brown dog"]


def samples():
    return [Sample(str(i), (), (Turn("", name),), "en", "caption", "made-up") for i, name in enumerate(NAMES)]


@needs_ray
def test_two_workers_give_what_one_process_gives(tmp_path):
    import ray

    settings = EngineSettings("picto")
    engine = open_engine(settings)
    plan = Plan(["de", "sw", "ja"])
    try:
        for name, translate in (("alone", None), ("ray", on_cluster(settings, 2))):
            with TranslationCache(tmp_path / f"{name}-cache", engine.fingerprint) as cache:
                translate_samples(
                    samples, plan, engine, cache, tmp_path / name, batch_size=2, translate=translate
                )
                assert len(cache.look_up(NAMES, "en", "de")) == len(NAMES)
    finally:
        ray.shutdown()
    for name in ("samples.jsonl", "rejects/rejects.jsonl", "summary.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert (tmp_path / "ray" / "samples.jsonl").read_text().count("\n") == 3 * 6


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'polylens\[ray\]'"):
        on_cluster(EngineSettings("picto"), 2)
