"""Answers and the file that keeps them."""

import json
from pathlib import Path

import pytest
from tests.evaluation.benchmarks.stand_ins import ByRule

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.evaluation.generation import Generation
from polylens.evaluation.runner import Item, answer


def item(name: str, prompt: str, source: str = "a", **extra: object) -> Item:
    return Item(Sample(name, (), (Turn(prompt, "x"),), "de", "vqa", source, dict(extra)), ("x",))


def echo() -> ByRule:
    return ByRule(lambda sample: sample.turns[-1].prompt.upper())


def test_ids_of_two_sources_may_be_equal_where_nothing_is_kept(tmp_path: Path) -> None:
    items = [item("1", "cat"), item("1", "fish", "b")]
    assert answer(echo(), items, Generation()) == ["CAT", "FISH"]
    with pytest.raises(UserError, match="Item 2: the id '1' is there twice"):
        answer(echo(), items, Generation(), folder=tmp_path)


def test_fields_of_the_data_take_no_answers_place(tmp_path: Path) -> None:
    items = [item("1", "cat", id="9", prediction="dog", asked="never", year=2)]
    assert answer(echo(), items, Generation(), folder=tmp_path) == ["CAT"]
    row = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[1])
    assert (row["id"], row["prediction"], row["year"]) == ("1", "CAT", 2)
    again = echo()
    assert answer(again, items, Generation(), folder=tmp_path) == ["CAT"]
    assert again.asked == []
