"""The words of a mix in recipes: short forms, defaults, and mistakes."""

import pytest

from polylens.errors import UserError
from polylens.recipe import load_data, load_recipe

TEXT = """
name: mixed
model: {start: picto}
data:
  mix:
    - {source: jsonl, path: a.jsonl, build: caption}
    - {source: jsonl, path: a.jsonl, build: {task: vqa, english_answers: 0.25}, limit: 10}
    - {source: picto, languages: [de], tasks: [caption]}
stages:
  - {name: s, table: {projector.*: 1.0e-3}, batch_size: 2, steps: 3}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "r.yaml").write_text(TEXT)
    return tmp_path / "r.yaml"


def test_parts_are_named_and_filled_in(path):
    recipe = load_recipe(path)
    first, second, third = recipe.data.parts
    assert [part.name for part in recipe.data.parts] == ["jsonl-caption", "jsonl-vqa", "picto"]
    assert first.build.task == "caption"
    assert (second.build.english_answers, second.limit) == (0.25, 10)
    assert third.build is None
    assert type(recipe).model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_data_alone_is_enough_before_training(tmp_path, path):
    assert load_data(path, ["seed=4"]).seed == 4
    text = TEXT[TEXT.index("data:") : TEXT.index("stages:")]
    (tmp_path / "data.yaml").write_text(text)
    assert load_data(tmp_path / "data.yaml").data == load_recipe(path).data
    (tmp_path / "data.yaml").write_text(text.replace("build: caption", "biuld: caption"))
    with pytest.raises(
        UserError, match=r"unknown key 'data\.mix\.0\.biuld': did you mean 'data\.mix\.0\.build'"
    ):
        load_data(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("name: x")
    with pytest.raises(UserError, match="data: field required"):
        load_data(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mix.1.build=caption", "two parts are called 'jsonl-caption'"),
        ("data.mix.1.weight=2", "every part of the mix a 'weight', or none"),
        ("data.mix.0.weight=0", r"data\.mix\.0\.weight"),
        ("data.mix.0.build=captions", r"data\.mix\.0\.build\.task.*captions"),
        (
            "data.mix.0.build={task: caption, plain: true}",
            "'plain' is an option of matching and verification",
        ),
        ("data.mix.0.build={task: caption, max_sentences: 2}", "'max_sentences' is an option of instruction"),
        ("data.mix.1.build.english_answers=2", "english_answers"),
        ("data.mix.0.shares=mt5", "'shares' are of a 'limit'"),
        ("data.mix.0.name=a/b", r"data\.mix\.0\.name"),
        ("data.mix.0.limits=3", "unknown key 'data.mix.0.limits': did you mean 'data.mix.0.limit'"),
        ("data.mix.1.build.english=0", "did you mean 'data.mix.1.build.english_answers'"),
        ("data.source=picto", "give either 'source' or 'mix'"),
        ("data.split=0.5", "'split' belongs into the parts of the mix"),
        ("data.mix=[]", r"data\.mix"),
        ("data={source: picto, shards: x}", "'shards' keep a mix"),
        ("validation={every: 5}", "validation.mix lists what is validated on"),
        ("validation={every: 5, split: test}", "validation.mix lists what is validated on"),
    ],
)
def test_mistakes_in_a_mix(path, override, message):
    with pytest.raises(UserError, match=message):
        load_recipe(path, [override])


def test_a_path_of_ones_own_takes_the_place_of_a_mix(path):
    recipe = load_recipe(path, ["data.path=own", "validation={every: 5}"])
    assert (recipe.data.source, recipe.data.mix) == ("captions", None)


@pytest.mark.parametrize(
    "change", ["data.mix.1.limit=true", "stages.0.steps=true", "seed=false", "data.mix.1.weight=true"]
)
def test_true_is_no_number(path, change):
    with pytest.raises(UserError, match=r"(true|false) is no number"):
        load_recipe(path, [change])
