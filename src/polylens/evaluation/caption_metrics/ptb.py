"""A tokenizer in the manner of the Penn Treebank, as caption metrics have always used it.

pycocoevalcap runs Stanford's Java tokenizer (CoreNLP 3.4.1, a caption per line, lower-cased) and drops
punctuation. This module gives the same tokens. At every place the longest of several rules wins, where what a
rule looks ahead at counts as well; of equally long ones the first. Rules and character classes were found by
asking the Java program; tests compare with tokens that it made.

The Java program knows the characters of its time. Others end a word and vanish, among them ZWNJ and ZWJ,
Myanmar's asat and Khmer's coeng. With `complete`, letters, marks, digits and joiners belong to their words.

One difference is meant: the Java program reads a caption's last "A." or "No." together with the next caption.
"""

import json
import re
import string
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files

# What pycocoevalcap drops. Brackets are not among them: lower-casing has made -LRB- into -lrb-.
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
JOINERS = "\u200c\u200d"

# Keep their full stop; the first kind may end a sentence, which decides what "etc.Then" is.
CLOSING_ABBREVIATIONS = """
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo comdr conn corp cos ct dak dec esq est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev
    nov oct okla penn plc ppte ppty pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu thurs
    tue tues univ va vt wed wis wisc wyo
"""
CAPITAL_ABBREVIATIONS = "Ark ARK Az AZ Del DEL Ill ILL La LA Mass Miss Ore ORE Pa PA Tex TEX Wash"
OTHER_ABBREVIATIONS = """
    adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec ens ft
    gen gov govs hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph
    pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt treas vs wm
"""
# After an initial ("A. The ...") these words begin a sentence, so the full stop is one.
SENTENCE_STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many
    More Now Once One Other Our She Since So Some Such That The Their Then There These They This We What
    When While Yet You
"""
FILE_ENDINGS = """
    bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png
    ppt ps py sql tar txt wav x xml zip
"""
QUOTES = str.maketrans(
    dict.fromkeys("‘‛‹\x91", "`") | dict.fromkeys("’›\x92", "'")
    | dict.fromkeys("“«\x93", "``") | dict.fromkeys("”»\x94", "''")
)  # fmt: skip
INNER = str.maketrans({"(": "-lrb-", ")": "-rrb-", "\u00ad": "", " ": "\u00a0"})
WHOLE_TOKENS = {
    "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "--": "--", "---": "--", "----": "--",
    "¢": "cents", "£": "#", "\x80": "$", "¤": "$", "₠": "$", "€": "$",
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": "'",
}  # fmt: skip
SGML = (
    r"<[!?][A-Za-z-][^>]*>|</?[A-Za-z][\w:.-]*"
    r"""(?:\s+[A-Za-z][\w:.-]*(?:\s*=\s*(?:'[^']*'|"[^"]*"|[A-Za-z][\w:.-]*))?)*\s*/?\s*>"""
)

TWO_WORDS = frozenset(["cannot", "gimme", "gonna", "gotta", "lemme", "wanna"])
NOT_BEFORE_STOPS = TWO_WORDS.union(
    f"{CLOSING_ABBREVIATIONS} {CAPITAL_ABBREVIATIONS} {OTHER_ABBREVIATIONS}".lower().split(),
    string.ascii_lowercase,
)

Match = Callable[[str, int], "re.Match[str] | None"]


def tokenise(text: str, *, complete: bool = False) -> list[str]:
    """Lower-case tokens of one caption, without punctuation; line ends count as spaces.

    A token may hold a no-break space ("3 1/2" is one). `complete` keeps letters that the Java program drops.
    """
    return _tokenizer(complete)(text)


class _Tokenizer:
    """Rules by the kind of first character. Each captures the token; what else it matches is look-ahead."""

    def __init__(self, complete: bool) -> None:
        letters, marks, digits, symbols = _character_classes(complete)
        self._complete = complete
        self._starts_word = re.compile(f"[{letters}{marks}]").match
        # Most words stand between spaces, where no rule could win anything longer.
        self._simple_word = re.compile(f"([{letters}{marks}]+)(?:,?\\s+|\\.\\s*$)").match
        self._starts_number = re.compile(f"[{digits}]").match
        rest, plain = f"[{letters}{marks}{digits}\u00ad]", f"[{letters}{digits}\u00ad]"
        word = f"[{letters}{marks}]{rest}*"
        number = f"(?:[{digits}]*(?:[.,:\u00ad\u066b\u066c][{digits}]+)+|[{digits}]+)"
        apostrophe = "(?:['\u2019\x92]|&apos;)"
        any_apostrophe = "(?:['\u2019\x92\u2018\u201b\x91`]|&apos;)"
        ending = f"{apostrophe}(?:[msdMSD]|(?i:re|ve|ll))"
        # English words that hold an apostrophe, and Romance articles before a noun.
        part = f"(?:[dDoOlL]{any_apostrophe}[{letters}{digits}]{{2,}}|{plain}+)"
        hyphenated = f"({part}(?:[-_\u058a\u2010\u2011]{part})+)"
        ascii_hyphenated = (
            "([A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:[A-Za-z](?:\\.[A-Za-z])+\\.|[A-Za-z0-9\u00ad]+))+)"
        )
        piece = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
        slashed = f"({piece}(?:/{piece}){{1,2}})"
        no_url = r"\s\"<>|()"
        address = f"[A-Za-z0-9][^{no_url}]*@(?:[^{no_url}.]+\\.)*[^{no_url}.]+"
        file_name = f"({plain}+(?:\\.{plain}+)*\\.(?i:{_any_of(FILE_ENDINGS)}))(?![^\\s.,;:!?])"
        closing = f"(?i:{_any_of(CLOSING_ABBREVIATIONS)})|{_any_of(CAPITAL_ABBREVIATIONS)}"
        common = [f"({plain}+)", hyphenated, ascii_hyphenated, slashed, f"({address})", file_name]

        self._word_rules = _compiled([
            f"({word}){ending}(?![A-Za-z])",
            f"({rest}*[A-MO-Za-mo-z])[nN]{any_apostrophe}[tT]",
            f"(?P<quoted>[nN]{any_apostrophe}[tT])",
            f"((?i:can))(?i:not)(?!{rest})",
            f"((?i:gon|wan))(?i:na)(?!{rest})",
            f"((?i:got))(?i:ta)(?!{rest})",
            f"((?i:gim|lem))(?i:me)(?!{rest})",
            f"({word}(?:[.!?]{word})*)",
            f"((?:{closing})\\.)[\\s\\S]{{2}}",
            *common,
            f"({word}(?:[.!?]{word})*\\.)[,;:]",
            f"(https?://[^{no_url}]+[^{no_url}.,!?;:-])",
            "([A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)",
            r"([Cc]\+\+|[CFcf]#)",
            f"((?i:{_any_of(OTHER_ABBREVIATIONS)})\\.)",
            f"((?i:nos?|figs?|art|ca|op|pp|prop)\\.)\\s*[{digits}]",
            r"((?:[Pp]h|[A-Za-z])(?:\.[A-Za-z])+\.)",
            r"([A-Za-z]\.)",
            f"([A-Za-z])\\.\\s+(?:{_any_of(SENTENCE_STARTS)})(?!{rest})",
            f"([A-HJ-XZn]{any_apostrophe}[{letters}]{{2,}})",
            f"([dDoOlL]{any_apostrophe}[{letters}{digits}]{{2,}})",
            f"([{letters}]+[aeiouyAEIOUY]{any_apostrophe}[aeiouA-Z][A-Za-z]*)",
            f"([lLdDjJ]{apostrophe}|(?i:ol|dunkin|somethin){apostrophe})",
            f"([yY]{apostrophe})[{letters}]",
            f"((?i:c{apostrophe}est|e{apostrophe}er|ev{apostrophe}ry|cap{apostrophe}n))",
            r"([A-Z]+\$)",
        ])  # fmt: skip
        self._number_rules = _compiled([
            f"({plain}+){ending}(?![A-Za-z])",
            f"({number})",
            f"((?:[{digits}]{{1,4}}[- \u00a0])?[{digits}]{{1,4}}[/\u2044][{digits}]{{1,4}})",
            *common,
            f"({plain}+\\.)[,;:]",
            "((?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0][0-9]{3,4}[- \u00a0]?[0-9]{3,5})",
        ])  # fmt: skip
        self._other_rules = _compiled([
            f"(?P<quoted>{ending})[^A-Za-z]",
            f"([-+]?{number})",
            f"({apostrophe}[nN]{apostrophe}?)",
            "('[tT])(?i:is|was)",
            f"({apostrophe}(?i:em|cause|til)|{apostrophe}[2-9]0s)",
            f"({apostrophe}[0-9]{{2}})\\s",
            # An opening quote, which here only keeps shorter rules from winning.
            "(')[A-Za-z][^ \\t\\n\\r\u00a0]",
            f"(?P<quoted>{ending})",
            "(?P<quoted>[‘’“”«»‹›‛\x91-\x94][‘’“”«»‹›‛\x91-\x94`]?)",
            r"(\.\.\.|''|``|[?!]+|-+|\*+|@+|_+|#+|<+|>+)",
            r"(\([0-9]{2,3}\)[ \u00a0]?[0-9]{3,4}[- \u00a0]?[0-9]{3,5})",
            f"(#[{letters}]+)",
            r"(@[A-Za-z_][A-Za-z_0-9]*|\^[._]\^)",
            r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])(?![A-Za-z0-9])",
            f"({SGML}|<{address}>)",
            "(&(?:amp|lt|gt|quot|apos|nbsp|#[0-9]+);)",
            f"([{symbols}$%&+=/\\\\^|~()\\[\\]{{}}¢£€¤¼½¾⅓⅔⁄\x80₠])",
            "([²³¹⁰⁴-⁹₀-₉\u201a\u201e\u201f]+)",
        ])  # fmt: skip

    def __call__(self, text: str) -> list[str]:
        # The Java program sees line ends after a caption, and its rules look ahead at them.
        text += "\n\n"
        tokens = []
        place = 0
        while place < len(text):
            if text[place].isspace():
                place += 1
                continue
            simple = self._simple_word(text, place)
            if simple is not None:
                word = simple[1].lower()
                if word not in (NOT_BEFORE_STOPS if text[simple.end(1)] == "." else TWO_WORDS):
                    word = word.strip(JOINERS) if self._complete else word
                    if word:
                        tokens.append(word)
                    place = simple.end()
                    continue
            if self._starts_word(text, place):
                rules = self._word_rules
            elif self._starts_number(text, place):
                rules = self._number_rules
            else:
                rules = self._other_rules
            best, reach = None, place
            for rule in rules:
                match = rule(text, place)
                if match is not None and match.end() > reach:
                    best, reach = match, match.end()
            if best is None:
                place += 1
                continue
            place = best.end(1)
            token = self._spelled(best[1].translate(QUOTES) if best.lastgroup else best[1])
            if token and token not in DROPPED:
                tokens.append(token)
        return tokens

    def _spelled(self, token: str) -> str:
        if token.isalpha():
            return token.lower()
        token = WHOLE_TOKENS.get(token, token.translate(INNER).replace("&amp;", "&").replace("&apos;", "'"))
        return token.lower().strip(JOINERS) if self._complete else token.lower()


@cache
def _tokenizer(complete: bool) -> _Tokenizer:
    return _Tokenizer(complete)


def _compiled(patterns: Iterable[str]) -> tuple[Match, ...]:
    return tuple(re.compile(pattern).match for pattern in patterns)


def _any_of(words: str) -> str:
    return "|".join(sorted(map(re.escape, words.split()), key=len, reverse=True))


def _character_classes(complete: bool) -> tuple[str, str, str, str]:
    """The insides of regular-expression sets: letters, marks, digits and symbols."""
    table = json.loads(files(__package__).joinpath("ptb_characters.json").read_text(encoding="utf-8"))
    letters, marks, digits, symbols = (
        [chr(code) for code in _codes(table[name])] for name in ("letters", "marks", "digits", "symbols")
    )
    if complete:
        known = {*letters, *marks, *digits, *symbols}
        for char in map(chr, range(128, sys.maxunicode + 1)):
            if char in known or unicodedata.name(char, "").startswith("VARIATION SELECTOR"):
                continue
            category = unicodedata.category(char)
            if category.startswith("L"):
                letters.append(char)
            elif category.startswith("M") or char in JOINERS:
                marks.append(char)
            elif category == "Nd":
                digits.append(char)
    return _set(letters), _set(marks), _set(digits), _set(symbols)


def _codes(ranges: str) -> Iterable[int]:
    for part in ranges.split():
        first, _, last = part.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def _set(chars: Iterable[str]) -> str:
    ranges: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
