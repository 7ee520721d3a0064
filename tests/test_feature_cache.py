import json

import pytest
import torch
from torch import nn

from polylens import feature_cache as cache
from polylens.errors import UserError
from polylens.feature_cache import FeatureCache, hash_weights

ORIGIN = {"weights": "abc", "level": "patches"}


def rows(keys):
    """(N, 2, 3) features that tell their key."""
    return torch.stack([torch.full((2, 3), float(key)) + torch.arange(3) / 10 for key in keys])


class Counting:
    def __init__(self, dtype=torch.float32):
        self.seen, self.dtype = [], dtype

    def __call__(self, keys):
        self.seen += keys
        return rows(keys).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_come_back_in_any_order_and_from_disk(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 60)
    features = FeatureCache(tmp_path, ORIGIN)
    features.fill(map(str, range(10)), Counting(dtype), batch_size=2)
    wanted = ["7", "0", "7", "3"]
    for opened in (features, FeatureCache(tmp_path, ORIGIN)):
        got = opened.get(wanted)
        assert got.dtype is dtype
        assert torch.equal(got, rows(wanted).to(dtype))
    assert len(list(features.folder.glob("*.bin"))) > 1


def test_nothing_is_computed_twice(tmp_path):
    compute, added = Counting(), []
    FeatureCache(tmp_path, ORIGIN).fill(["1", "2", "1"], compute, 2, added.append)
    FeatureCache(tmp_path, ORIGIN).fill(["2", "3"], compute, 2, added.append)
    assert compute.seen == ["1", "2", "3"]
    assert added == [2, 1]


def test_rows_are_computed_from_what_is_read(tmp_path):
    features = FeatureCache(tmp_path, ORIGIN)
    features.fill(["1", "2", "3"], lambda given: given + 1, 2, read=rows)
    assert torch.equal(features.get(["3", "1", "2"]), rows(["3", "1", "2"]) + 1)


def test_another_origin_is_another_cache(tmp_path):
    FeatureCache(tmp_path, ORIGIN).fill(["1"], Counting(), 1)
    assert "1" in FeatureCache(tmp_path, dict(reversed(ORIGIN.items())))
    assert "1" not in FeatureCache(tmp_path, ORIGIN | {"weights": "abd"})


def test_a_shard_without_its_header_does_not_count(tmp_path):
    features = FeatureCache(tmp_path, ORIGIN)
    features.fill(["1"], Counting(), 1)
    next(path for path in features.folder.glob("*.json") if path.name != "origin.json").unlink()
    again = FeatureCache(tmp_path, ORIGIN)
    assert "1" not in again
    again.fill(["1"], Counting(), 1)
    assert torch.equal(again.get(["1"]), rows(["1"]))


def test_an_error_keeps_what_was_computed_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 1)

    def compute(keys):
        if "3" in keys:
            raise UserError("picture 3 is broken")
        return rows(keys)

    with pytest.raises(UserError, match="broken"):
        FeatureCache(tmp_path, ORIGIN).fill(["1", "2", "3"], compute, 1)
    features = FeatureCache(tmp_path, ORIGIN)
    assert [key in features for key in ("1", "2", "3")] == [True, True, False]
    assert not list(features.folder.glob(".*"))


def test_the_origin_is_written_for_people(tmp_path):
    folder = FeatureCache(tmp_path, ORIGIN).folder
    assert json.loads((folder / "origin.json").read_text()) == ORIGIN


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        FeatureCache(tmp_path / "file", ORIGIN)


def test_weight_hashes_tell_values_types_and_statistics_apart():
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    first = hash_weights([model()])
    assert first == hash_weights([model()])
    changed = model()
    with torch.no_grad():
        changed[0].weight[0, 0] += 1e-6
    statistics = model()
    statistics[1].running_mean[0] = 1
    others = {hash_weights([m]) for m in (changed, statistics, model().bfloat16())}
    assert len(others | {first}) == 4
    assert hash_weights([model().bfloat16()]) in others
