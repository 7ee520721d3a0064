import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.errors import UserError
from polylens.evaluation.caption_metrics import PROTOCOLS, caption_scores, tokenise_caption

GOLDEN = Path(os.environ.get("POLYLENS_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))
GOLDEN_FILES = sorted((GOLDEN / "metrics").glob("*.json"))
WORDS = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "the", "park", "in"]), max_size=8).map(" ".join)


@pytest.mark.golden
@pytest.mark.parametrize("path", GOLDEN_FILES or [None], ids=lambda path: path.stem if path else "none")
def test_equals_pycocoevalcap(path):
    if path is None:
        if "POLYLENS_GOLDEN" in os.environ:
            pytest.fail(f"POLYLENS_GOLDEN is set, and {GOLDEN / 'metrics'} holds no files")
        pytest.skip(f"{GOLDEN / 'metrics'} is absent")
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert len(golden["candidates"]) == golden["n"]
    for protocol in PROTOCOLS:
        tokens = [" ".join(tokenise_caption(text, golden["lang"], protocol)) for text in golden["candidates"]]
        assert tokens == golden["tokenized_candidates"]
        scores = caption_scores(golden["candidates"], golden["references"], golden["lang"], protocol)
        assert [bleu.value for bleu in scores.bleu] == pytest.approx(golden["bleu"], abs=1e-6)
        assert scores.rouge_l.value == pytest.approx(golden["rouge_l"], abs=1e-6)
        assert scores.cider.value == pytest.approx(golden["cider"], abs=1e-6)
        assert scores.items["cider"][:10] == pytest.approx(golden["cider_first10"], abs=1e-6)
    print(f"{path.name}: {golden['n']} images under {len(PROTOCOLS)} protocols")


def test_plain_cider_worked_by_hand():
    # Two images with one reference each: every word is in one of them, weighs log 2, and cosines cancel that.
    scores = caption_scores(["a b c d", "x x y z"], ["a b d c", "x y z z"])
    # Image 1: words 4 of 4, bigrams "a b" of 3 and 3, no longer ones.
    first = (1 + 1 / 3 + 0 + 0) / 4
    # Image 2: words (2,1,1) and (1,1,2): 5 / 6; bigrams "x y", "y z" of 3 and 3; trigram "x y z" of 2 and 2.
    second = (5 / 6 + 2 / 3 + 1 / 2 + 0) / 4
    assert scores.items["cider_plain"] == pytest.approx([10 * first, 10 * second])
    # CIDEr-D clips the candidate's two x to one: (1 + 1 + 2) / 6.
    clipped = (4 / 6 + 2 / 3 + 1 / 2 + 0) / 4
    assert scores.items["cider"] == pytest.approx([10 * first, 10 * clipped])


def test_lengths_count_in_cider_d_only():
    scores = caption_scores(["a b c d e f", "x"], ["a b c", "y"])
    plain = (3 / math.sqrt(18) + 2 / math.sqrt(10) + 1 / 2 + 0) / 4
    assert scores.items["cider_plain"][0] == pytest.approx(10 * plain)
    assert scores.items["cider"][0] == pytest.approx(10 * plain * math.exp(-(3**2) / (2 * 6**2)))


def test_words_of_every_image_weigh_nothing():
    scores = caption_scores(["the dog", "the cat"], ["the fish", "the bird"])
    assert scores.items["cider_plain"] == pytest.approx([0, 0])


def test_several_references_are_averaged():
    scores = caption_scores(["a b c d", "x"], [["a b c d", "q r s t"], ["x"]])
    assert scores.items["cider_plain"][0] == pytest.approx(5)
    assert scores.items["rouge_l"][0] == pytest.approx(1)


def test_unsegmented_captions_score_2_5_and_characters_10():
    captions = ["一只狗在公园里", "两个人骑自行车"]
    whole = caption_scores(captions, captions, "zh", "pycocoevalcap")
    assert whole.items["cider"] == pytest.approx([2.5, 2.5])
    assert whole.segmenter == "none"
    cut = caption_scores(captions, captions, "zh")
    assert cut.items["cider"] == pytest.approx([10, 10])
    assert cut.segmenter == "characters"


def test_one_image_has_cider_0_and_the_result_says_why():
    scores = caption_scores(["a dog runs fast"], ["a dog runs fast"])
    assert scores.cider.value == scores.cider_plain.value == 0
    assert scores.bleu[3].value == pytest.approx(1)
    assert "makes it 0 on one image" in scores.notes[0]
    captions = [f"w{i} x{i} y{i} z{i}" for i in range(500)]
    assert not caption_scores(captions, captions).notes


@pytest.mark.parametrize("end", ["\r", "\x0b", "\x0c", "\u2028", "\u2029", "\n", "\x85"])
def test_line_ends_in_a_caption_do_not_shift_the_others(end):
    captions = [f"a{end}b c d", "e f g h", "i j k l"]
    assert caption_scores(captions, captions).items["cider"] == pytest.approx([10, 10, 10])


def test_zero_width_characters_and_empty_references():
    scores = caption_scores(
        ["می\u200cخواهم بروم به خانه", "یک سگ قهوه ای", "سلام"],
        [["می\u200cخواهم بروم به خانه"], ["یک\u200b سگ قهوه ای", ""], "\u200b"],
        "fa",
    )
    assert scores.items["cider"] == pytest.approx([10, 5, 0])
    assert caption_scores(["", "a"], ["", "b"]).bleu[0].value == pytest.approx(0, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_order_does_not_matter(items, seed):
    shuffled = random.Random(seed).sample(items, len(items))
    first = caption_scores([one for one, _ in items], [several for _, several in items])
    second = caption_scores([one for one, _ in shuffled], [several[::-1] for _, several in shuffled])
    for name in ("rouge_l", "cider", "cider_plain"):
        assert getattr(first, name).value == pytest.approx(getattr(second, name).value, abs=1e-9)
        assert sorted(first.items[name]) == pytest.approx(sorted(second.items[name]), abs=1e-9)
    assert [b.value for b in first.bleu] == pytest.approx([b.value for b in second.bleu], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=8), st.integers(0, 99))
def test_nothing_scores_higher_than_the_reference_itself(captions, seed):
    others = random.Random(seed).sample(captions, len(captions))
    same, other = caption_scores(captions, captions), caption_scores(others, captions)
    for name in ("rouge_l", "cider", "cider_plain"):
        assert np.all(same.items[name] >= other.items[name] - 1e-9)
        assert np.all(same.items[name] <= 10 + 1e-9)
    assert all(a.value >= b.value - 1e-6 for a, b in zip(same.bleu, other.bleu, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.lists(st.text(), min_size=1, max_size=2)), min_size=1, max_size=4),
    st.sampled_from(["en", "zh", "fa", "km", "my", "tr"]),
    st.sampled_from(sorted(PROTOCOLS)),
)
def test_any_text_gets_finite_scores(items, language, protocol):
    scores = caption_scores([one for one, _ in items], [several for _, several in items], language, protocol)
    for score in (*scores.bleu, scores.rouge_l, scores.cider, scores.cider_plain):
        assert math.isfinite(score.value)
        assert 0 <= score.low <= score.high <= 10 + 1e-9
        assert score.n == len(items)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="1 captions and references of 2 images"):
        caption_scores(["a"], ["a", "b"])
    with pytest.raises(UserError, match="Image 1 has no reference"):
        caption_scores(["a", "b"], ["a", []])
    with pytest.raises(UserError, match="0 captions"):
        caption_scores([], [])
