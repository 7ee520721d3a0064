import importlib.util
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.engines import engine_names, open_engine
from polylens.data.translation.nllb import MAX_TOKENS, NllbTokenizer
from polylens.errors import UserError

TEXTS = [
    "A brown dog runs.",
    "What is this?",
    "a cat",
    "Two cats sleep on a red chair near the window.",
    "12 ß猫",
]

needs_ctranslate2 = pytest.mark.skipif(
    importlib.util.find_spec("ctranslate2") is None,
    reason="CTranslate2 is not installed (polylens[translation])",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.getbasetemp() / "translation-cache"
    monkeypatch.setenv("POLYLENS_CACHE", str(root))
    return root


@needs_ctranslate2
def test_both_engines_give_the_same(tiny_nllb):
    fast = open_engine(EngineSettings("nllb", tiny_nllb, beams=1, precision="float32"))
    slow = open_engine(EngineSettings("transformers", tiny_nllb, beams=1))
    for target in ("de", "sw", "zh"):
        translations = fast.translate(TEXTS, "en", target)
        assert translations == slow.translate(TEXTS, "en", target)
        assert all(translations)
    assert fast.translate(TEXTS, "en", "de") != fast.translate(TEXTS, "en", "sw")
    assert fast.fingerprint != slow.fingerprint


@needs_ctranslate2
@pytest.mark.parametrize("beams", [1, 4])
def test_int8_does_not_depend_on_the_batch(tiny_nllb, beams):
    engine = open_engine(EngineSettings("nllb", tiny_nllb, beams=beams))
    assert "int8" in engine.fingerprint
    assert engine.translate(TEXTS, "en", "de") == [engine.translate([t], "en", "de")[0] for t in TEXTS]


@needs_ctranslate2
def test_a_model_is_converted_once(tiny_nllb, cache):
    open_engine(EngineSettings("nllb", tiny_nllb))
    made = sorted((cache / "ctranslate2").iterdir())
    times = [path.stat().st_mtime_ns for path in made]
    engine = open_engine(EngineSettings("nllb", tiny_nllb))
    assert sorted((cache / "ctranslate2").iterdir()) == made
    assert [path.stat().st_mtime_ns for path in made] == times
    int8 = next(path for path in made if path.name.endswith("-int8"))
    # What was converted may be given itself.
    direct = open_engine(EngineSettings("nllb", int8))
    assert direct.translate(TEXTS, "en", "de") == engine.translate(TEXTS, "en", "de")


@needs_ctranslate2
def test_weights_by_content_decide_the_fingerprint(tiny_nllb, tmp_path):
    same = shutil.copytree(tiny_nllb, tmp_path / "copy")
    (same / "README.md").write_text("notes")
    other = shutil.copytree(tiny_nllb, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.shared.weight"][0] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    first = open_engine(EngineSettings("nllb", tiny_nllb)).fingerprint
    assert open_engine(EngineSettings("nllb", same)).fingerprint == first
    assert open_engine(EngineSettings("nllb", other)).fingerprint != first
    assert open_engine(EngineSettings("nllb", tiny_nllb, beams=1)).fingerprint != first


@pytest.mark.parametrize("engine", [pytest.param("nllb", marks=needs_ctranslate2), "transformers"])
def test_languages_and_lengths(tiny_nllb, engine):
    opened = open_engine(EngineSettings(engine, tiny_nllb, beams=1))
    opened.check("en", ["de", "sw", "zh"])
    with pytest.raises(UserError, match=r"does not know Cebuano \('ceb_Latn'\)"):
        opened.check("en", ["de", "ceb"])
    with pytest.raises(UserError, match=r"NLLB does not know Cherokee"):
        opened.check("en", ["chr"])
    long = "dog " * (MAX_TOKENS + 1)
    assert opened.translate([long, "a cat", long], "en", "de")[::2] == [None, None]
    assert opened.translate([long, "a cat"], "en", "de")[1] == opened.translate(["a cat"], "en", "de")[0]
    assert opened.translate([], "en", "de") == []


def test_without_ctranslate2_transformers_is_taken_and_it_is_said(tiny_nllb, monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ctranslate2" else find(name)
    )
    engine = open_engine(EngineSettings("nllb", tiny_nllb, beams=1))
    assert "transformers" in engine.fingerprint
    assert "CTranslate2 is not installed" in caplog.text
    assert engine.translate(["a cat"], "en", "de")[0]


@needs_ctranslate2
def test_folders_that_are_no_model(tiny_nllb, tmp_path):
    with pytest.raises(UserError, match="No model to translate with"):
        open_engine(EngineSettings("nllb"))
    with pytest.raises(UserError, match="There is no folder"):
        open_engine(EngineSettings("nllb", tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"no readable config\.json"):
        open_engine(EngineSettings("nllb", empty))
    other = shutil.copytree(tiny_nllb, tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="type 'bert', and NLLB's is 'm2m_100'"):
        open_engine(EngineSettings("nllb", other))
    cut = shutil.copytree(tiny_nllb, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be converted"):
        open_engine(EngineSettings("nllb", cut))
    bare = shutil.copytree(tiny_nllb, tmp_path / "bare")
    (bare / "tokenizer.json").write_text("{")
    with pytest.raises(UserError):
        open_engine(EngineSettings("nllb", bare))
    with pytest.raises(UserError, match="'int3' is not supported here"):
        open_engine(EngineSettings("nllb", tiny_nllb, precision="int3"))


def test_engines_by_name():
    assert engine_names()[:2] == ["nllb", "transformers"]
    assert "picto" in engine_names()
    with pytest.raises(UserError, match="No engine 'google': choose one of nllb, transformers"):
        open_engine(EngineSettings("google"))


@needs_ctranslate2
@pytest.mark.parametrize("beams", [1, 3])
def test_what_was_cut_is_no_translation(tiny_nllb, monkeypatch, beams):
    from polylens.data.translation import nllb_ctranslate2, nllb_transformers

    text = ["A brown dog runs across the meadow."]
    fast = open_engine(EngineSettings("nllb", tiny_nllb, beams=beams, precision="float32"))
    slow = open_engine(EngineSettings("transformers", tiny_nllb, beams=beams))
    (whole,) = fast.translate(text, "en", "de")
    assert whole
    for engine, module in ((fast, nllb_ctranslate2), (slow, nllb_transformers)):
        limits = {}
        for limit in (1, 3, 100):
            monkeypatch.setattr(module, "MAX_NEW_TOKENS", limit)
            limits[limit] = engine.translate(text, "en", "de")
        assert limits == {1: [None], 3: [None], 100: [whole]}


def test_names_of_special_tokens_in_texts(tiny_nllb):
    tokenizer = NllbTokenizer(tiny_nllb)
    plain, *marked = tokenizer.encode(["dog", "</s> dog", "deu_Latn dog", "<pad>dog<mask>"], "en")
    assert plain[0] == tokenizer.id_of("eng_Latn")
    for ids in marked:
        assert ids[0] == plain[0]
        assert ids[-1] == tokenizer.id_of("</s>")
        names = [tokenizer.token_of(i) for i in ids[1:-1]]
        assert not {"</s>", "<pad>", "<mask>", "deu_Latn", "eng_Latn"} & set(names)
