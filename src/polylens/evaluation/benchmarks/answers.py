"""What an answer says: cleaned as the VQA challenge does, or read as a label or an option, in any language.

An answer that cannot be read gives None, which counts as wrong: nothing is ever guessed.
"""

import re
from collections.abc import Iterator, Sequence

import regex

from polylens.answer_words import answer_words
from polylens.evaluation.benchmarks.letters import LETTERS, named_letters, plain
from polylens.evaluation.benchmarks.mentions import clauses, denied, mentions
from polylens.text import bare, normalise

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


def parse_label(text: str, labels: Sequence[str], strict: bool, code: str = "") -> str | None:
    """Which of `labels` (English words) the answer gives; it may be in the language `code` ("": any) or in English.

    `strict`: the answer is the label itself, up to case, punctuation and spaces around it. Else also a label that is
    a whole clause, stands first or after "the answer is", or is among the words in English; no other label may be
    there, and its clause must not deny it. Of other languages yes, no and maybe are known.
    """
    folded = {normalise(label): label for label in labels}
    if bare(text) in folded:
        return folded[bare(text)]
    if strict:
        return None
    known = _words_of(labels, code)
    said = normalise(plain(text))
    found = set(_stated(said, known, code))
    for one in mentions(said, list(folded)):
        word = list(folded)[one.place]
        # "no" also denies what follows it; as an answer it ends its clause.
        if word in answer_words(code).denials and regex.match(r"\s*[\p{L}\p{N}]", said[one.end :]):
            continue
        if denied(said, one.start, one.end, code, [one]):
            return None
        found.add(folded[word])
    return found.pop() if len(found) == 1 else None


def _words_of(labels: Sequence[str], code: str) -> dict[str, str]:
    words = answer_words(code)
    kinds = {"yes": words.yes, "no": words.no, "maybe": words.maybe}
    found = {word: label for label in labels for word in kinds.get(normalise(label), ())}
    return found | {normalise(label): label for label in labels}


def _stated(text: str, known: dict[str, str], code: str) -> Iterator[str]:
    """Labels of words that are a clause, that follow "the answer is", or that the text begins with."""
    words = list(known)
    for number, clause in enumerate(clauses(text)):
        said = bare(clause)
        rests = [
            bare(said.removeprefix(phrase))
            for phrase in answer_words(code).phrases
            if said.startswith(phrase)
        ]
        whole = next((rest for rest in (said, *rests) if rest in known), None)
        if whole is not None:
            yield known[whole]
            continue
        inside = [(words[one.place], one) for one in mentions(said, words)]
        if number or not inside or inside[0][1].start or not said[inside[0][1].end :].startswith(" "):
            continue
        # "No dog" denies, and "yes or no" gives both.
        if inside[0][0] not in answer_words(code).denials:
            yield from {known[word] for word, _ in inside}


def pope_says_no(text: str) -> bool:
    """POPE's own rule: of the first sentence, any word "No", "not" or "no" means no, and all else yes."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return any(word in ("No", "not", "no") for word in words)


def parse_choice(text: str, options: Sequence[str], code: str = "") -> int | None:
    """The index of the option that the answer names, by its letter ("B", "(b)", "Б", "②", "答案是B") or by its text, in
    the language `code` ("": any) or in English.

    None where it names none or several, denies what it names, or gives the letter of one and the text of another. An
    article ("A dog") is no letter.
    """
    text = plain(text)
    given = [bare(plain(option)) for option in options]
    equal = [place for place, option in enumerate(given) if option == bare(text)]
    if len(equal) == 1 and len(bare(text)) > 1:
        return equal[0]
    said = normalise(text)
    found = mentions(said, given)
    stated = {one.place for one in found if not denied(said, one.start, one.end, code, found)}
    counted = not any(any(c.isdecimal() for c in option) or option in NUMBERS for option in given)
    named, letters = named_letters(text, min(len(options), len(LETTERS)), digits=counted)
    if named:
        place, start = named[0]
        own = mentions(text.lower(), given) if len(text.lower()) == len(text) else []
        agrees = not stated or place in stated
        if len(letters) > 1 or not agrees or denied(text.lower(), start, start + 1, code, own):
            return None
        return place
    if len(equal) == 1:
        return equal[0]
    return stated.pop() if len(stated) == 1 else None


def lettered(options: Sequence[str]) -> str:
    """One line per option: "A. dog"."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
