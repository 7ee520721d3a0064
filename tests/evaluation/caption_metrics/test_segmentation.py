import importlib.util

import pytest

from polylens.errors import UserError
from polylens.evaluation.caption_metrics.segmentation import caption_tokenizer, tokenise_caption


def test_chinese_by_characters():
    assert tokenise_caption("一只狗戴着T恤。2只猫", "zh") == [*"一只狗戴着", "t", "恤", "。", "2", "只", "猫"]
    assert tokenise_caption("Hund 狗", "zh", "mblip") == ["h", "u", "n", "d", "狗"]
    assert tokenise_caption("一只狗。", "zh", "pycocoevalcap") == ["一只狗", "。"]
    assert caption_tokenizer("zh-TW").segmenter == "characters"


def test_burmese_khmer_and_lao_by_grapheme_clusters():
    assert tokenise_caption("ឆ្កែ DOG", "km") == ["ឆ្កែ", "dog"]
    for code, caption in (("my", "ခွေးတစ်ကောင်"), ("km", "ឆ្កែមួយក្បាល"), ("lo", "ຫມາໂຕຫນຶ່ງ")):
        tokens = tokenise_caption(caption, code)
        assert len(tokens) > 3
        assert "".join(tokens) == caption
    assert caption_tokenizer("km").segmenter == "graphemes"


@pytest.mark.skipif(not importlib.util.find_spec("sudachipy"), reason="SudachiPy is not installed")
def test_japanese_by_sudachi():
    assert tokenise_caption("犬が公園で走っている。", "ja") == [
        "犬",
        "が",
        "公園",
        "で",
        "走っ",
        "て",
        "いる",
        "。",
    ]
    assert "SudachiPy" in caption_tokenizer("ja").segmenter


@pytest.mark.skipif(not importlib.util.find_spec("pythainlp"), reason="PyThaiNLP is not installed")
def test_thai_by_pythainlp():
    assert tokenise_caption("สุนัขวิ่งในสวน", "th") == ["สุนัข", "วิ่ง", "ใน", "สวน"]
    assert "PyThaiNLP" in caption_tokenizer("th", "mblip").segmenter


@pytest.mark.parametrize(("code", "module"), [("ja", "sudachipy"), ("th", "pythainlp")])
def test_missing_libraries_are_named(code, module, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setitem(__import__("sys").modules, f"{module}.tokenize", None)
    caption_tokenizer.cache_clear()
    with pytest.raises(UserError, match=r"captions need .* to be cut into words: pip install"):
        caption_tokenizer(code)
    assert caption_tokenizer(code, "pycocoevalcap").segmenter == "none"


def test_persian_keeps_its_joiner_but_in_the_protocols_of_java():
    assert tokenise_caption("می\u200cخواهم", "fa") == ["می\u200cخواهم"]
    assert tokenise_caption("می\u200cخواهم", "fa", "mblip") == ["می", "خواهم"]


def test_normal_forms_do_not_matter():
    assert tokenise_caption("cafe\u0301", "fr") == tokenise_caption("café", "fr")


def test_unknown_protocols_and_languages_are_named():
    with pytest.raises(UserError, match="choose from polylens, mblip, pycocoevalcap"):
        caption_tokenizer("de", "java")
    with pytest.raises(UserError, match="Unknown language"):
        caption_tokenizer("dee")
