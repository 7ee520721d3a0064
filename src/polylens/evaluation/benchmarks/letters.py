"""Letters of options as people write them: B, (b), Б, ب, ख, ②, "Option B"; and which of them a text names."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

import regex

from polylens.answer_words import answer_words
from polylens.text import SPACED_WORD

LETTERS = "ABCDEFGHIJ"
# The letters that exams count options by, in order; a space parts two ways of one script.
_SCHEMES = (
    f"{LETTERS} АБВГДЕЖЗИК ΑΒΓΔΕΖΗΘΙΚ ԱԲԳԴԵԶԷԸԹԺ აბგდევზთიკ אבגדהוזחטי أبجدهوزحطي ابجدهوزحطي"
    " कखगघङचछजझञ अबसद কখগঘঙচছজঝঞ અબકડ ਕਖਗਘਙ ੳਅੲਸਹ କଖଗଘଙ அஆஇஈஉ అఆఇఈఉ ಅಆಇಈಉ അആഇഈഉ අආඇඈ කඛගඝ"
    " กขคงจ ກຂຄງຈ កខគឃង ကခဂဃင ཀཁགང ሀለሐመሠ 가나다라마바사아자차 ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊ"
    " アイウエオカキクケコ あいうえおかきくけこ 甲乙丙丁戊己庚辛壬癸"
)
_HAN_COUNT = "一二三四五六七八九十"
# A letter that is a word as well (an article, "and", "in") is one where another word follows.
_WORDS = frozenset("AEIАВИКΗ")
_OPTION_WORDS = (
    "option choice letter ans letra lettera lettre lletra buchstabe bokstav bokstaven bogstav harf литера буква"
    " γράμμα litera literă písmeno slovo betű kirjain huruf herufi chữ អក្សរ "
    "alternative opción opcion opção opcao alternativa alternatif opzione"
    " opció opcja opcija možnost možnosť variante variant вариант варіант варыянт опция опција"
    " отговор επιλογή الخيار خيار الاختيار گزینه آپشن אפשרות विकल्प पर्याय বিকল্প অপশন વિકલ્પ ਵਿਕਲਪ"
    " ବିକଳ୍ପ விருப்பம் తెలుపు ఎంపిక ಆಯ್ಕೆ ഓപ്ഷൻ විකල්පය ตัวเลือก ข้อ ຂໍ້ ជម្រើស ရွေးချယ်မှု အဖြေ 选项"
    " 選項 選択肢 선택지 보기 pilihan opsi chaguo seçenek şık phương án lựa chọn opsyon pagpipilian አማራጭ rogha"
    " dibarzh opțiunea optiunea сонголт filannoo nhọrọ zaɓi amahitamo kōwhiringa alternativet valg"
    " val keuze optie vaihtoehto akllana ihitamo"
)
_AFTER = (
    r"\s*(?:सही (?:उत्तर |जवाब |विकल्प )?है|(?:صحیح|درست) (?:جواب )?ہے|(?:صحیح|درست) است"
    r"|选项|選項|项|項|番|번|が正解|が正しい|正确|正確"
    r"|is (?:the )?(?:correct|right|answer|best)|ist (?:die )?richtig"
    r"|es (?:la )?(?:correcta|respuesta)|est (?:la )?(?:bonne|correcte?)|é (?:a )?(?:correta|certa)"
    r"|è (?:la )?(?:corretta|giusta))"
)
# What may stand directly after a letter that is named: an ending of the sentence, in scripts that write it on.
_WRITTEN_ON = "입니다|이다|이에요|예요|번|です|だ|が|で|项|項|选项|ครับ|ค่ะ|นะ"
# "Is", where it ends the sentence.
_COPULA = "है|हैं|ہے|ہیں|است|आहे|हो|ਹੈ|છે"
_ENDING = rf"(?=\s*(?:$|[^\p{{L}}\p{{M}}\p{{N}}\s])|{_WRITTEN_ON}|\s+(?:{_COPULA})(?![\p{{L}}\p{{M}}]))"
_GOES_ON = r"because|since|as|and|or|but|is|was|&"
# "And" and "or" between two letters.
_JOINS = (
    "oder|und|o|y|e|ou|et|u|i|и|или|або|ve|veya|dan|atau|na|au|og|eller|och|en|of|lub|nebo|ja|tai|vagy"
    "|és|hoặc|và|si|sau"
)
_ARTICLE = r"(?i:the|la|el|le|lo|die|der|das|de|den|det|буква|буквата|option|letter|harfi)"
# Arabic and Hebrew are written with them or without, and Arabic may be drawn out.
_VOWEL_SIGNS = regex.compile("[\u0640\u064b-\u0652\u0670\u05b0-\u05bd\u05c1\u05c2\u05c7]")
_OPEN, _CLOSE = r"[(\[{【「『<«\"“‘']", r"[)\]}】」』>»\"”’']"


@cache
def _places() -> dict[str, int]:
    """{letter: place}, in both cases; without those that two ways of counting place differently."""
    found: dict[str, int] = {}
    for scheme in _SCHEMES.split():
        for place, letter in enumerate(scheme):
            for form in (letter, letter.lower()):
                form = unicodedata.normalize("NFKC", form)
                if found.setdefault(form, place) != place:
                    found[form] = -1
    return {letter: place for letter, place in found.items() if place >= 0}


def plain(text: str) -> str:
    """NFKC, with what stands in circles, boxes or bold written plainly: "Ⓑ" and "\\boxed{B}" are "(B)"."""
    spelled = []
    for letter in text:
        inside = _enclosed(letter)
        spelled.append(f"({inside})" if inside else letter)
    text = unicodedata.normalize("NFKC", "".join(spelled))
    text = _VOWEL_SIGNS.sub("", text)
    text = regex.sub(r"\\(?:boxed|text|mathrm|textbf)\{([^{}]*)\}", r"(\1)", text)
    return text.replace("*", "").replace("`", "").replace("$", "").strip()


def _enclosed(letter: str) -> str:
    code = ord(letter)
    if unicodedata.decomposition(letter).startswith(("<circle>", "<square>")):
        return unicodedata.normalize("NFKC", letter)
    for first, last in ((0x1F150, 0x1F169), (0x1F170, 0x1F189)):
        if first <= code <= last:
            return chr(ord("A") + code - first)
    for first in (0x2776, 0x2780, 0x278A):
        if first <= code < first + 10:
            return str(code - first + 1)
    return ""


def named_letters(text: str, count: int, digits: bool) -> tuple[list[tuple[int, int]], set[int]]:
    """What a `plain` text names of `count` options by letter: [(place, where in the text)] and all places that a
    capital letter stands for, named or not.

    `digits`: also by number, in brackets or after words that say so.
    """
    if not count:
        return [], set()
    named = list(_named(text, count, digits))
    others = {
        LETTERS.index(match[1]) for match in _capitals(count).finditer(text) if not _is_word(text, match)
    }
    return named, others | {place for place, _ in named}


def _named(text: str, count: int, digits: bool) -> Iterator[tuple[int, int]]:
    for match in _patterns(count, digits).finditer(text):
        letter = match["letter"]
        place = _places().get(letter)
        if letter in _HAN_COUNT:
            place = _HAN_COUNT.index(letter)
        elif letter.isdecimal():
            place = unicodedata.digit(letter) - 1
        if place is not None and 0 <= place < count:
            yield place, match.start("letter")


@cache
def _patterns(count: int, digits: bool) -> Any:
    letters = [letter for letter, place in _places().items() if place < count]
    latin = "".join(letter for letter in letters if letter.upper() in LETTERS)
    capitals = "".join(letter for letter in letters if letter in LETTERS)
    others = "".join(letter for letter in letters if letter.upper() not in LETTERS)
    any_letter, number = f"[{latin}{others}]", r"\p{Nd}" if digits else r"(?!)"
    # By themselves, at the start of a line, or in brackets.
    alone = rf"(?<letter>{any_letter})"
    head = r"(?:^[^\p{L}\p{M}\p{N}\n]*)"
    sure = "".join(letter for letter in capitals if letter not in _WORDS) or latin
    follows = rf"(?:{_ENDING}|(?=\s+(?:{_GOES_ON})\b))"
    spoken = rf"(?:{any_letter}{follows}|[{sure}](?![\p{{Latin}}\p{{M}}\p{{Nd}}])|{number}(?!\p{{Nd}}))"
    phrases = sorted(answer_words().phrases, key=len, reverse=True)
    before = "|".join(
        regex.escape(phrase).replace(r"\ ", r"\s+") for phrase in [*phrases, *_OPTION_WORDS.split()]
    )
    said = rf"(?:(?<!{SPACED_WORD})(?i:{before}))"
    return regex.compile(
        rf"{head}{alone}(?:{_WRITTEN_ON})?[^\p{{L}}\p{{M}}\p{{N}}]*\Z"
        rf"|(?m:{head}(?<letter>[{capitals}{others}])\s*(?:[.):,、。\]】\-–]|\n|$))"
        rf"|(?m:{head}(?<letter>[{latin}{others}]|{number})\s*[)\]】])"
        rf"|{_OPEN}\s*(?<letter>{any_letter}|{number}|[{_HAN_COUNT}])\s*{_CLOSE}"
        rf"|{said}[\s:=>\-–—是为為는은はがคือ]*(?:{_ARTICLE}\s+)?{_OPEN}?\s*(?<letter>{spoken})"
        rf"|(?<![\p{{Latin}}\p{{M}}\p{{Nd}}])(?<letter>[{capitals}]|{number}){_AFTER}",
        regex.VERSION0,
    )


@cache
def _capitals(count: int) -> Any:
    return regex.compile(
        rf"(?<![\p{{Latin}}\p{{M}}\p{{Nd}}_'’.])([{LETTERS[:count]}])(?![\p{{Latin}}\p{{M}}\p{{Nd}}_]|['’.]\p{{L}})"
    )


def _is_word(text: str, match: Any) -> bool:
    """Whether a capital is a word there: "A cat", but not "A or B"."""
    if match[1] not in _WORDS:
        return False
    after = text[match.end() :]
    if regex.match(rf"\s+(?:{_GOES_ON})\b|\s+(?:{_JOINS})\s+[{LETTERS}]\b", after):
        return False
    return regex.match(r"\s+\p{L}", after) is not None
