"""Where words end in scripts that do not say so, and by which protocol; the names go into result files.

Without it a Thai caption is one token, and two identical ones score CIDEr 2.5 instead of 10.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import regex

from polylens.errors import UserError
from polylens.evaluation.caption_metrics.ptb import tokenise
from polylens.languages import language

INSTALL = "pip install 'polylens[evaluation]'"
UNSPACED_SCRIPT = regex.compile(
    r"(?=[\p{Khmer}\p{Lao}\p{Myanmar}\p{Thai}\p{Tibetan}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Viet}\p{Tai_Tham}])\X"
)
HAN = regex.compile(r"\p{Han}")


@dataclass(frozen=True)
class Protocol:
    """`segmented` names the segmenters in use; `complete` keeps what the Java tokenizer drops (ZWNJ ...)."""

    name: str
    segmented: frozenset[str]
    complete: bool


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("polylens", frozenset({"characters", "sudachi", "pythainlp", "graphemes"}), complete=True),
        Protocol("mblip", frozenset({"characters", "sudachi", "pythainlp"}), complete=False),
        Protocol("pycocoevalcap", frozenset(), complete=False),
    )
}


@dataclass(frozen=True)
class CaptionTokenizer:
    """Caption -> tokens in one language by one protocol; reports name its `segmenter` and `tokenizer`."""

    segmenter: str
    tokenizer: str
    complete: bool
    segment: Callable[[str], str]

    def __call__(self, caption: str) -> list[str]:
        return tokenise(unicodedata.normalize("NFC", self.segment(caption)), complete=self.complete)


@cache
def caption_tokenizer(code: str, protocol: str = "polylens") -> CaptionTokenizer:
    """The tokenizer of a language. Raises `UserError` for an unknown protocol or a missing library."""
    if protocol not in PROTOCOLS:
        raise UserError(f"Unknown caption protocol '{protocol}': choose from {', '.join(PROTOCOLS)}.")
    rules, entry = PROTOCOLS[protocol], language(code)
    wanted = entry.segmenter if entry.segmenter in rules.segmented else "none"
    if wanted == "characters" and protocol == "mblip":
        wanted = "every character"
    name, segment = SEGMENTERS[wanted](entry.name)
    tokenizer = "ptb, joiners and newer letters kept" if rules.complete else "ptb"
    return CaptionTokenizer(name, tokenizer, rules.complete, segment)


def tokenise_caption(caption: str, code: str = "en", protocol: str = "polylens") -> list[str]:
    """The tokens that metrics compare. Raises as `caption_tokenizer` does."""
    return caption_tokenizer(code, protocol)(caption)


def _unsegmented(name: str) -> tuple[str, Callable[[str], str]]:
    return "none", str


def _han_characters(name: str) -> tuple[str, Callable[[str], str]]:
    """Every Han character is a word; Latin words and numbers stay whole."""
    return "characters", lambda text: HAN.sub(r" \g<0> ", text)


def _every_character(name: str) -> tuple[str, Callable[[str], str]]:
    return "every character", " ".join


def _graphemes(name: str) -> tuple[str, Callable[[str], str]]:
    """Every grapheme cluster of Khmer, Lao, Burmese and like scripts is a word (Unicode UAX 29)."""
    return "graphemes", lambda text: UNSPACED_SCRIPT.sub(r" \g<0> ", text)


def _sudachi(name: str) -> tuple[str, Callable[[str], str]]:
    """SudachiPy's short units (A), which spaCy takes by default."""
    try:
        from sudachipy import Dictionary, SplitMode

        tokenizer = Dictionary().tokenizer(mode=SplitMode.A)
    except Exception as error:  # the package, its dictionary package, or the dictionary file may be missing
        raise _missing(name, "SudachiPy and sudachidict_core") from error
    return (
        f"SudachiPy {version('sudachipy')}, mode A",
        lambda text: " ".join(morpheme.surface() for morpheme in tokenizer.tokenize(text)),
    )


def _pythainlp(name: str) -> tuple[str, Callable[[str], str]]:
    """PyThaiNLP's dictionary-based newmm."""
    try:
        from pythainlp.tokenize import word_tokenize
    except ImportError as error:
        raise _missing(name, "PyThaiNLP") from error
    return (
        f"PyThaiNLP {version('pythainlp')}, newmm",
        lambda text: " ".join(word_tokenize(text, engine="newmm")),
    )


def _missing(name: str, package: str) -> UserError:
    return UserError(f"{name} captions need {package} to be cut into words: {INSTALL}.")


SEGMENTERS: dict[str, Callable[[str], tuple[str, Callable[[str], str]]]] = {
    "none": _unsegmented,
    "characters": _han_characters,
    "every character": _every_character,
    "graphemes": _graphemes,
    "sudachi": _sudachi,
    "pythainlp": _pythainlp,
}
