"""Texts as every script writes them: when two count as the same, and where a word begins and ends."""

import unicodedata

import regex

# Scripts that put no space between words; the long-vowel mark of kana belongs to no script.
UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\uff70\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Balinese}"
    r"\p{Javanese}\p{Tai_Tham}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Viet}"
)
# A character of a word: vowel signs and other marks belong to their letters.
WORD = r"[\p{L}\p{M}\p{N}_]"
# The same in scripts that put spaces between words.
SPACED_WORD = rf"(?:(?![{UNSPACED}]){WORD})"
_UNSPACED_LETTER = regex.compile(rf"[{UNSPACED}]")


def normalise(text: str) -> str:
    """NFC, case-folded, white space collapsed to single spaces and trimmed; punctuation and all else stay."""
    # Case folding may undo composition ("ǰ"), so it is composed again.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def bare(text: str) -> str:
    """The normalised text without punctuation and spaces at its ends: "A dog." and "a dog" are one."""
    text = normalise(text)
    start, end = 0, len(text)
    while start < end and not _counts(text[start]):
        start += 1
    while end > start and not _counts(text[end - 1]):
        end -= 1
    return text[start:end]


def is_unspaced(letter: str) -> bool:
    """Whether a letter is of a script that puts no space between words."""
    return _UNSPACED_LETTER.match(letter) is not None


def whole(text: str) -> str:
    """A pattern (of `regex`) that finds `text` where it is not a part of a word.

    At an end in a script without spaces between words there is nothing to hold to, and it is found anywhere.
    """
    front = "" if is_unspaced(text[0]) else rf"(?<!{SPACED_WORD})"
    # A mark would belong to the last letter in any script.
    back = r"(?!\p{M})" if is_unspaced(text[-1]) else rf"(?!{SPACED_WORD}|\p{{M}})"
    return front + regex.escape(text) + back


def _counts(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMNS"
