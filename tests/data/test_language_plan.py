import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.language_plan import allocate, assign, shares
from polylens.errors import UserError
from polylens.languages import LANGUAGES

WEIGHTS = st.dictionaries(st.sampled_from(sorted(LANGUAGES)), st.floats(1e-6, 1e6), min_size=1, max_size=20)


def test_tables():
    crawled = shares("mc4")
    assert len(crawled) == 96
    assert sum(crawled.values()) == pytest.approx(1)
    assert crawled["en"] == pytest.approx(0.43842743, rel=1e-6)
    assert shares("mt5")["en"] == pytest.approx(0.08485280, rel=1e-6)
    translatable = [code for code, entry in LANGUAGES.items() if entry.nllb]
    assert shares("equal") == dict.fromkeys(translatable, 1 / len(translatable))
    assert shares("equal", ["chr", "de"]) == {"chr": 0.5, "de": 0.5}


def test_some_languages_share_among_themselves():
    some = shares("mc4", ["de", "iw", "sw"])
    assert list(some) == ["de", "he", "sw"]
    assert sum(some.values()) == pytest.approx(1)
    whole = shares("mc4")
    assert some["de"] / some["sw"] == pytest.approx(whole["de"] / whole["sw"])


def test_temperature():
    assert shares("mc4", temperature=1) == shares("mc4")
    hot = shares("mc4", temperature=1e9)
    assert max(hot.values()) == pytest.approx(min(hot.values()))
    cold = shares("mc4", temperature=1e-3)
    assert cold["en"] == pytest.approx(1)
    # mT5's exponent of 0.3 is a temperature of 3.33; its table follows mC4's, here within a third.
    smoothed, table = shares("mc4", temperature=1 / 0.3), shares("mt5")
    assert all(0.6 < smoothed[code] / table[code] < 1.8 for code in ("en", "de", "sw", "yo", "th"))


def test_own_table(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"deu_Latn": 3, "sw": 1}))
    assert shares(path) == {"de": 0.75, "sw": 0.25}
    with pytest.raises(UserError, match="no number for fr"):
        shares(path, ["de", "fr"])
    for content, message in [
        ("[]", "holds no shares"), ("{}", "holds no shares"), ('{"de": 0}', "share of 'de' is 0"),
        ('{"de": "1"}', "share of 'de' is"), ('{"de": true}', "share of 'de' is true"),
        ('{"de": NaN}', "NaN is no JSON"), ('{"he": 1, "iw": 1}', "second spelling of 'he'"),
        ('{"dee": 1}', "did you mean 'de'"), ("{", "not valid JSON"),
    ]:  # fmt: skip
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            shares(path)


def test_mistakes():
    with pytest.raises(UserError, match="No shares 'mc5'"):
        shares("mc5")
    with pytest.raises(UserError, match="no number for ak, br"):
        shares("mc4", ["de", "ak", "br"])
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be above 0"):
            shares("mc4", temperature=temperature)


@given(WEIGHTS, st.integers(0, 10_000_000))
def test_whole_numbers_add_up_and_are_near(weights, number):
    total = sum(weights.values())
    parts = {code: weight / total for code, weight in weights.items()}
    counts = allocate(parts, number)
    assert sum(counts.values()) == number
    assert list(counts) == list(parts)
    assert all(abs(counts[code] - parts[code] * number) <= 1 + 1e-6 for code in parts)


def test_largest_remainders():
    assert allocate({"a": 0.45, "b": 0.35, "c": 0.2}, 7) == {"a": 3, "b": 3, "c": 1}
    assert allocate({"a": 0.5, "b": 0.5}, 3) == {"a": 2, "b": 1}


def test_samples_keep_their_language_whatever_their_order():
    ids = [f"id{i}" for i in range(1000)]
    parts = shares("mc4", ["de", "sw", "zh"])
    given = dict(zip(ids, assign(ids, parts), strict=True))
    counts = {code: list(given.values()).count(code) for code in parts}
    assert counts == allocate(parts, 1000)
    shuffled = random.Random(0).sample(ids, len(ids))
    assert dict(zip(shuffled, assign(shuffled, parts), strict=True)) == given
    assert dict(zip(ids, assign(ids, parts, seed=1), strict=True)) != given
    assert assign([], parts) == []
