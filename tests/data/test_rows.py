"""The strict reader: what is not JSON, not text or not visible is refused at its line."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polylens.data.readers.jsonl import dump_row, read_jsonl
from polylens.data.rows import check_text, json_array, json_lines, parse_json, read_json, text_lines
from polylens.errors import UserError
from polylens.files import json_text

ROW = '{"id": "1", "images": [], "turns": [["a", "b"]], "language": "de", "task": "vqa", "source": "s", "extra": %s}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"score": NaN}', "NaN is no JSON: write null"),
        ('{"score": [1, -Infinity]}', "-Infinity is no JSON"),
        ('{"score": 1e999}', "the number 1e999 is too large"),
        ('{"a": 1, "a": 2}', "the field 'a' is there twice"),
        (r'{"a": "\ud83d"}', r"half a surrogate pair \(U\+D83D\)"),
        (r'{"\udc00": 1}', r"half a surrogate pair \(U\+DC00\)"),
        ('{"a": "\0"}', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ("1" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_refused_at_its_line(tmp_path, value, message):
    good = ROW % "{}"
    (tmp_path / "a.jsonl").write_text(good + "\n" + (ROW % value).replace('"1"', '"2"', 1) + "\n")
    with pytest.raises(UserError, match=f"a.jsonl, line 2: .*{message}"):
        list(read_jsonl(tmp_path / "a.jsonl"))
    (tmp_path / "a.json").write_text(f'[{{"a": 1}}, {{"a": {value}}}]')
    with pytest.raises(UserError, match=r"a\.json"):
        list(json_array(tmp_path / "a.json"))
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "a.json")


def test_whole_pairs_and_bytes_before_them(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b"\xef\xbb\xbf" + rb'{"a": "\ud83d\ude00"}' + b"\r\n\r\n" + b'{"a": "\xe2\x80\xa8"}'
    )
    assert [row["a"] for _, row in json_lines(tmp_path / "a.jsonl")] == ["😀", "\u2028"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "\ufeff",
        "\u200b\u200b",
        "\u00ad",
        "\u2060 \u200e",
        "\u3164",
        "\u115f\u1160",
        "\u2800",
        "\ufe0f",
    ],
)
def test_nothing_visible_is_empty(text):
    with pytest.raises(UserError, match="here is empty"):
        check_text(text, "here")


@pytest.mark.parametrize("text", ["a", "می‌خواهم", "👩\u200d🚀", "1️⃣", "\u200bx", "ക്‍", "-", "\ue000"])
def test_a_text_with_something_visible_stays_as_it_is(text):
    assert check_text(text, "here") == text


def test_a_nul_is_no_text():
    with pytest.raises(UserError, match="here holds a NUL at character 1"):
        check_text("a\0b", "here")


def test_lines_of_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \nthree\xe2\x80\xa8four")
    assert list(text_lines(path)) == [(1, "one"), (3, "two"), (4, "three\u2028four")]
    for wrong, message in (
        (b"one\rtwo\rthree", "line 1: a carriage return inside"),
        (b"one\nt\0w\0o", "line 2: a NUL inside"),
        ("one".encode("utf-16"), "not UTF-8 but UTF-16"),
        (b"caf\xe9", "not UTF-8"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=message):
            list(text_lines(path))
    with pytest.raises(UserError, match="There is no file"):
        list(text_lines(tmp_path / "none.txt"))


def test_results_hold_no_nan():
    assert (
        json_text({"a": math.nan, "b": [1.5, math.inf], "ä": "ä"})
        == '{"a": null, "b": [1.5, null], "ä": "ä"}'
    )


def test_rows_hold_no_nan():
    with pytest.raises(UserError, match="Sample '7' of s is no JSON"):
        dump_row({"id": "7", "source": "s", "extra": {"score": math.nan}})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


def fine(value):
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(fine(one) for pair in value.items() for one in pair)
    return all(map(fine, value)) if isinstance(value, list) else True


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.booleans())
def test_any_value_comes_back_or_is_refused(tmp_path, value, ascii_only):
    """What Python's own lenient `dumps` writes is read as it was where it is JSON, and refused where it is not."""
    text = json.dumps({"a": value}, ensure_ascii=ascii_only)
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if fine(value):
        assert [row["a"] for _, row in json_lines(path)] == [value]
        path.write_text(f"[{text}]", encoding="utf-8")
        assert [row["a"] for _, row in json_array(path)] == [value]
        assert parse_json(json_text(value), "here") == value
    else:
        with pytest.raises(UserError, match=r"a\.jsonl"):
            list(json_lines(path))
