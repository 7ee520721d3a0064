from pathlib import Path

import pytest
import yaml

from polylens.errors import UserError
from polylens.recipe import Recipe, load_recipe, packaged_recipes

TEXT = """
name: demo
model:
  vision: {path: eye}
  resampler: {kind: perceiver, num_tokens: 4}
  language_model: {path: tongue}
data:
  source: picto
  languages: [en]
  split: train
augmentation: {crop: [0.5, 1], flip: true, views: 3}
stages:
  - name: warm-up
    table: {"projector.*": 5e-3}
    batch_size: 128
    steps: 100
  - name: instructions
    table:
      resampler.*: 1e-5
      projector.*: 1e-5
      language_model.*: {lora: {rank: 8}, learning_rate: 2e-4}
    batch_size: 128
    micro_batch: 16
    epochs: 2
    warmup_steps: 1000
validation: {every: 50, metrics: [chrf, loss], patience: 3, split: validation}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "demo.yaml").write_text(TEXT)
    return tmp_path / "demo.yaml"


def test_reading(path):
    recipe = load_recipe(path)
    assert recipe.model.resampler.num_tokens == 4
    assert recipe.model.vision.path == "eye"
    first, second = recipe.stages
    assert first.table["projector.*"].learning_rate == 5e-3
    assert second.table["language_model.*"].lora.rank == 8
    assert second.table["language_model.*"].learning_rate == 2e-4
    assert recipe.augmentation.views == 3


def test_a_recipe_written_is_the_recipe_read(path, tmp_path):
    recipe = load_recipe(path)
    written = recipe.model_dump(mode="json")
    assert written["stages"][0]["table"] == {"projector.*": 0.005}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(written))
    again = load_recipe(tmp_path / "again.yaml")
    assert again.model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", "'sead': did you mean 'seed'"),
        ("stages.0.batchsize=1", r"'stages\.0\.batchsize': did you mean 'stages\.0\.batch_size'"),
        ("stages.1.table.language_model.*.lora.rnk=1", r"lora\.rnk': did you mean '.*lora\.rank'"),
        ("model.resampler.num_token=4", r"did you mean 'model\.resampler\.num_tokens'"),
        ("validation.patients=2", r"did you mean 'validation\.patience'"),
        ("augmentation.veiws=2", r"did you mean 'augmentation\.views'"),
        ("data.languages.0.x=2", "no section above 'x'"),
        ("stages.2.steps=2", "'2' must be a number below 2"),
        ("stages", "must look like"),
        ("seed=[", "is not YAML"),
        ("seed=-1", "seed: input should be greater"),
        ("stages.0.steps=0", r"stages\.0\.steps: .*\(given: 0\)"),
        ("stages.0.parts=[names]", "wants the part 'names', and the data is no mix"),
        ("stages.0.epochs=1", "either 'steps' or 'epochs'"),
        ("stages.0.table={a: warm}", r"stages\.0\.table\.a\.learning_rate: .*given: 'warm'"),
        ("stages.0.table={a: {lora: {}}}", "adapters need a learning_rate"),
        ("augmentation.views=1", "one view is the plain picture"),
        ("augmentation.crop=[0.9, 0.1]", "two rising shares"),
        ("augmentation={views: 2}", "several views need"),
        ("model.start=picto", "either 'start' or parts"),
        ("data.split=0.9", "only if.* data.split is a share"),
        ("validation.split=null", "validation.split names the part"),
        ("data.source=captions", "needs a 'path'"),
        ("precision=float8", "precision: input should be 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_what_is_off_is_named(path, override, message):
    with pytest.raises(UserError, match=message):
        load_recipe(path, [override])


def test_norwegian_is_a_language_though_yaml_reads_no_as_false(path):
    changes = [
        "data.languages=[en, no]",
        "validation.languages=[no]",
        "model.language_model.languages=[no, de]",
    ]
    recipe = load_recipe(path, changes)
    assert recipe.data.languages == ["en", "no"]
    assert recipe.validation.languages == ["no"]
    assert recipe.model.language_model.languages == ["no", "de"]
    assert load_recipe(path, ["data.languages=[yes]"]).data.languages == ["yes"]  # no language, but a text


def test_overrides(path):
    recipe = load_recipe(
        path,
        [
            "seed=7",
            "stages.0.table.projector.*=1e-3",
            'stages.0.table."resampler.*"=frozen',
            "stages.1.table.language_model.*.lora.rank=4",
            "model.resampler.kind=mlp",
            "augmentation={crop: null, views: off}",
            "data.options.drawings=all",
            "checkpoints.every=10",
            "out=some where",
        ],
    )
    assert recipe.seed == 7
    assert recipe.stages[0].table["projector.*"].learning_rate == 1e-3
    assert recipe.stages[0].table["resampler.*"].learning_rate is None
    assert recipe.stages[1].table["language_model.*"].lora.rank == 4
    assert recipe.model.resampler.kind == "mlp"
    assert recipe.augmentation.views == "off"
    assert recipe.data.options == {"drawings": "all"}
    assert recipe.checkpoints.every == 10
    assert str(recipe.out) == "some where"


def test_start_stands_alone(path, tmp_path):
    recipe = load_recipe(path, ["model={start: picto}"])
    assert recipe.model.start == "picto"
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(tmp_path / "again.yaml").model_dump() == recipe.model_dump()


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'demmo' is neither a recipe file nor a packaged recipe"):
        load_recipe("demmo")
    for name in packaged_recipes():
        assert isinstance(load_recipe(name), Recipe)


@pytest.mark.parametrize(("text", "message"), [("- a", "mapping of sections"), ("a: [", "is not YAML")])
def test_files_that_are_no_recipes(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_a_key_that_is_there_twice(tmp_path):
    (tmp_path / "r.yaml").write_text("seed: 1\ndata: {source: jsonl, path: a, path: b}\n")
    with pytest.raises(UserError, match="the key 'path' is there twice"):
        load_recipe(tmp_path / "r.yaml")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8 but UTF-16"):
        load_recipe(tmp_path / "r.yaml")


def test_a_path_alone_turns_to_own_captions(path):
    recipe = load_recipe(path, ["data.path=own"])
    assert recipe.data.model_dump() == {
        "source": "captions",
        "path": Path("own"),
        "languages": ["en"],
        "tasks": None,
        "split": 0.9,
        "options": {},
        "mix": None,
        "shards": None,
        "shard_format": "tar",
        "unreadable": "error",
        "max_length": None,
    }
    assert recipe.validation.split is None
    assert recipe.validation.metrics == ["chrf", "loss"]


def test_own_captions_are_validated_on_their_rest_and_keep_languages_that_all_parts_share(path):
    text = TEXT.replace(TEXT[TEXT.index("validation:") :], "")
    path.write_text(text)
    recipe = load_recipe(path, ["data.path=own"])
    assert recipe.validation.metrics == ["loss", "chrf"]
    assert load_recipe(path, ["data.path=own", "validation=null"]).validation is None
    mix = "data: {mix: [{name: a, source: jsonl, languages: [sw]}, {name: b, source: jsonl, languages: [%s]}]}\n"
    start, end = text.index("data:"), text.index("augmentation:")
    for code, kept in (("sw", ["sw"]), ("de", None)):
        path.write_text(text[:start] + mix % code + text[end:])
        assert load_recipe(path, ["data.path=own"]).data.languages == kept


def test_a_name_far_from_all_is_told_all_of_them():
    with pytest.raises(UserError, match="choose from mblip-bloomz-7b, "):
        load_recipe("nosuch")
    with pytest.raises(UserError, match="did you mean 'picto'"):
        load_recipe("pikto")


def test_own_captions_keep_the_limit_and_what_else_is_given(path):
    path.write_text(TEXT.replace("split: train", "split: train\n  max_length: 40\n  tasks: [name]"))
    path.write_text(path.read_text().replace("steps: 100\n", "steps: 100\n    parts: [name]\n"))
    recipe = load_recipe(path, ["data.split=0.5", "data.path=own", "data.languages=[de]"])
    assert (recipe.data.split, recipe.data.languages, recipe.data.max_length) == (0.5, ["de"], 40)
    assert recipe.data.tasks is None
    assert recipe.stages[0].parts is None


def test_a_path_beside_a_source_is_that_source_s(path):
    recipe = load_recipe(path, ["data.source=other", "data.path=own"])
    assert (recipe.data.source, recipe.data.split) == ("other", "train")
    path.write_text(TEXT.replace("source: picto", "source: other\n  path: there"))
    assert load_recipe(path, ["data.path=own"]).data.source == "other"


def test_an_override_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="'seed' is given twice"):
        load_recipe("picto", ["seed=1", "seed=2"])
