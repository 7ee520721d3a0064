"""What an answer says: cleaned as the VQA challenge does, or read as a label or the letter of an option.

An answer that cannot be read gives None, which counts as wrong: nothing is ever guessed.
"""

import re
import unicodedata
from collections.abc import Sequence

from polylens.text import normalise

# The VQA challenge's rules (Antol et al., 2015; its evaluation program), as facts: numbers up to ten become digits,
# articles go, and contractions that lost their apostrophe get it back.
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    word: str(value)
    for value, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ONE_APOSTROPHE = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's isn't"
    " it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't"
    " somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's"
    " they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's"
    " where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've"
).split()
TWO_APOSTROPHES = (
    "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've something'd've"
    " there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've"
).split()
DIGITS_COMMA = re.compile(r"\d,\d")
# A full stop stays only in front of a digit.
FULL_STOP = re.compile(r"\.(?!\d)")
LETTERS = "ABCDEFGHIJ"


def _contractions() -> dict[str, str]:
    found = {word.replace("'", ""): word for word in ONE_APOSTROPHE}
    for word in TWO_APOSTROPHES:
        places = [place for place, letter in enumerate(word) if letter == "'"]
        found |= {word[:place] + word[place + 1 :]: word for place in places}
    # The one entry of the official table that is the wrong way round.
    return found | {"somebody'd": "somebodyd"}


CONTRACTIONS = _contractions()


def clean_vqa(text: str) -> str:
    """An answer as the VQA challenge compares it; for English only, its rules know no other language."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    joined = text
    has_number = DIGITS_COMMA.search(text) is not None
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        joined = joined.replace(mark, "" if beside_space or has_number else " ")
    words = FULL_STOP.sub("", joined).lower().split()
    words = [NUMBERS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def lower_stripped(text: str) -> str:
    """All that mBLIP does to an answer of MaXM."""
    return text.strip().lower()


def parse_label(text: str, labels: Sequence[str], strict: bool) -> str | None:
    """Which of `labels` (words) the answer gives.

    `strict`: the answer is the label, up to case, punctuation and spaces around it. Else also the first word of the
    answer, or the only label among its words.
    """
    folded = {normalise(label): label for label in labels}
    whole = _without_punctuation(normalise(text))
    if whole in folded:
        return folded[whole]
    words = re.findall(r"\w+", normalise(text))
    if strict or not words:
        return None
    if words[0] in folded:
        return folded[words[0]]
    named = {folded[word] for word in words if word in folded}
    return named.pop() if len(named) == 1 else None


def pope_says_no(text: str) -> bool:
    """POPE's own rule: of the first sentence, any word "No", "not" or "no" means no, and all else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return any(word in ("No", "not", "no") for word in words)


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """The index of the option that the answer names, by its letter ("B", "(b)", "B. a dog", "The answer is B.") or by
    its text; None where it names none or several.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    letters = LETTERS[: len(options)]
    alone = re.match(rf"\W*([{letters}{letters.lower()}])\W*$", text)
    # "A dog": an article in front of a word is no letter.
    first = alone or re.match(rf"[\W_]*([{letters}])[.):,\n]", text)
    if found := first or re.search(rf"(?i:\banswer\b(?:\s+is)?)[\s:]*\(?([{letters}])(?=\W|$)", text):
        return letters.index(found[1].upper())
    said = normalise(text)
    bare = _without_punctuation(said)
    given = [_without_punctuation(normalise(option)) for option in options]
    equal = [place for place, option in enumerate(given) if option == bare]
    if len(equal) == 1:
        return equal[0]
    inside = [place for place, option in enumerate(given) if option and _contains(said, option)]
    # Of options inside one another ("dog", "hot dog") the longest is meant.
    longest = [
        place
        for place in inside
        if not any(given[place] != given[other] and given[place] in given[other] for other in inside)
    ]
    return longest[0] if len(longest) == 1 else None


def lettered(options: Sequence[str]) -> str:
    """One line per option: "A. dog"."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def _contains(text: str, option: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None


def _without_punctuation(text: str) -> str:
    start, end = 0, len(text)
    while start < end and not _counts(text[start]):
        start += 1
    while end > start and not _counts(text[end - 1]):
        end -= 1
    return text[start:end]


def _counts(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMNS"
