"""The registry of checkpoint families: who reads what, and a family that another package adds."""

from pathlib import Path

import pytest
from tests.models.tiny_models import save_language_model, save_released_blip2
from tests.plugins import install

from polylens.errors import UserError
from polylens.models.checkpoints import families
from polylens.models.checkpoints.families import find_family, match_family
from polylens.models.checkpoints.info import describe
from polylens.models.checkpoints.load import load_any

ECHO = '''
from polylens.models.checkpoints.families import Family
from polylens.models.checkpoints.info import ModelInfo


class Echo:
    """Says the prompt."""

    kind = "echo"

    def __init__(self, words):
        self.words = words

    def generate(self, samples, **settings):
        return [f"{self.words} {sample.turns[-1].prompt}" for sample in samples]


class EchoFamily(Family):
    name = "echo"
    title = "an echo"

    def matches(self, path):
        return (path / "echo.txt").is_file()

    def load(self, path, loading):
        return Echo((path / "echo.txt").read_text())

    def describe(self, path):
        return ModelInfo(str(path), "echo", [], {})


FAMILY = EchoFamily()
'''


@pytest.fixture(autouse=True)
def _fresh_registry() -> None:
    families.families.cache_clear()


def test_a_family_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One class and one entry point: then all commands that take a model take this one."""
    from polylens.data.sample import Sample, Turn

    install(tmp_path, monkeypatch, "echoes", ECHO, "polylens.families", "echo = echoes:FAMILY")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "echo.txt").write_text("hello")
    assert find_family(folder)[0].name == "echo"
    assert describe(folder).kind == "echo"
    model = load_any(f"echo:{folder}")
    sample = Sample("1", (), (Turn("world", ""),), "en", "chat", "test")
    assert model.generate([sample]) == ["hello world"]
    families.families.cache_clear()


def test_released_folders_have_one_family_each(tmp_path: Path) -> None:
    assert find_family(save_released_blip2("mt5", tmp_path / "blip2"))[0].name == "blip2"
    assert find_family("picto")[0].name == "polylens"
    assert find_family("picto-parts/painter")[0].name == "painter"


def test_what_no_family_knows_is_refused(tmp_path: Path) -> None:
    plain = save_language_model("llama", tmp_path / "lm")
    assert match_family(plain)[0] is None
    with pytest.raises(UserError, match="is no model that answers"):
        load_any(plain)


def test_a_painter_is_no_model_that_answers() -> None:
    with pytest.raises(UserError, match="polylens paint"):
        load_any("picto-parts/painter")


def test_streaming_names_the_families_that_can() -> None:
    with pytest.raises(UserError, match=r"a Polylens checkpoint, and layers can be streamed for VisCPM-Chat"):
        load_any("picto", stream="cpu")
