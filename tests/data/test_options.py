"""Options of sources: texts that YAML takes for something else, wrong types, and near names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from polylens.data.options import checked_options
from polylens.data.sources import READERS, opened, read_part
from polylens.data.spec import Part
from polylens.errors import UserError
from polylens.recipe import load_data
from polylens.recipe_text import override, parse_value, parse_yaml


def source(
    path: str | Path,
    *,
    images: str | Path | None = None,
    language: str = "en",
    languages: Sequence[str] | None = None,
    count: int = 3,
    share: float = 0.5,
    plain: bool = False,
    kind: Literal["one", "two"] = "one",
    other: Any = None,
):
    return ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("language: no", {"language": "no"}),
        ("language: yes", {"language": "yes"}),
        ("language: true", {"language": "true"}),
        ("language: 007", {"language": "007"}),
        ("language: 2014-01-01", {"language": "2014-01-01"}),
        ("language: 12:30", {"language": "12:30"}),
        ("images: 2014", {"images": "2014"}),
        ("images: 1.5", {"images": "1.5"}),
        ("images: 1_000", {"images": "1_000"}),
        ("languages: [no, 5, de]", {"languages": ["no", "5", "de"]}),
        ("{count: 7, share: 2, plain: yes}", {"count": 7, "share": 2.0, "plain": True}),
        ("{count: '7', plain: off, kind: two}", {"count": 7, "plain": False, "kind": "two"}),
        ("other: {a: [1, true]}", {"other": {"a": [1, True]}}),
        ("images: null", {"images": None}),
    ],
)
def test_texts_stay_what_they_are(text, expected):
    found = checked_options(source, "own", parse_yaml(text, "it") | {"path": "p"})
    found.pop("path")
    assert {key: str(value) if isinstance(value, Path) else value for key, value in found.items()} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"langauge": "de"}, "no option 'langauge'; did you mean 'language'"),
        ({"count": "many"}, "option 'count' is 'many': input should be a valid integer"),
        ({"languages": "de"}, "option 'languages' is 'de': input should be a valid list"),
        ({"images": ["a"]}, r"option 'images' is \['a'\]: input should be a valid string"),
        ({"kind": "three"}, "option 'kind' is 'three': input should be 'one' or 'two'"),
    ],
)
def test_other_types_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        checked_options(source, "own", {"path": "p"} | options)


def test_what_is_missing():
    with pytest.raises(UserError, match="missing 'path'"):
        checked_options(source, "own", {})


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_reader_says_what_it_wants(name):
    """No option of a reader goes unchecked, and a wrong name has a right one beside it."""
    with pytest.raises(UserError, match="no option 'imagse'"):
        opened(Part(source=name, path="x", options={"imagse": "x"}))
    for key, wrong in {"path": ["x"], "images": {"a": 1}, "language": ["de"]}.items():
        with pytest.raises(UserError, match="option"):
            opened(Part(source=name, options={"path": "x", "images": "x", key: wrong}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*.tar", "*.tar"), ("&a", "&a"), ("@home", "@home"), ("100%", "100%"), ("a: b", "a: b"),
        ("a #1.jpg", "a #1.jpg"),
        ("[de, no]", ["de", "no"]), ("{a: 1}", {"a": 1}), ("5", 5), ("true", True), ("no", "no"), ("1e-3", "1e-3"),
        ("0.5", 0.5), ("", None), ("'*.tar'", "*.tar"), ("!x", "!x"),
    ],
)  # fmt: skip
def test_values_on_the_command_line(text, expected):
    assert parse_value(text, "it") == expected
    tree = {}
    override(tree, f"a.b={text}")
    assert tree == {"a": {"b": expected}}


def test_a_value_that_is_no_yaml():
    with pytest.raises(UserError, match="The value of it is not YAML"):
        parse_value("[de, no", "The value of it")


def test_packaged_recipes_mean_what_they_did():
    """The stricter YAML reads the same numbers and texts as PyYAML where people wrote nothing doubtful."""
    from polylens.recipe import packaged_recipes

    def shown(tree):
        if isinstance(tree, dict):
            return {str(key): shown(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [shown(value) for value in tree]
        return "off" if tree is False else tree

    for name, text in packaged_recipes().items():
        assert shown(parse_yaml(text, name)) == shown(yaml.safe_load(text)), name


def test_a_part_whose_names_are_numbers(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "data:\n  mix:\n"
        "    - {name: 2, source: coco, path: 2014, languages: [no], options: {images: 2014, language: no}}\n"
    )
    (part,) = load_data(tmp_path / "r.yaml").data.parts
    assert (part.name, str(part.path), part.languages) == ("2", "2014", ["no"])
    with pytest.raises(UserError, match="There is no file '2014'"):
        next(iter(read_part(part)))
