"""Which of some words a text states, in any script: whole words that their clause does not deny."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex

from polylens.answer_words import answer_words
from polylens.text import is_unspaced, whole

# Clauses end at marks, and where the text turns to what is meant instead.
_TURNS = (
    "but sondern aber sino pero mais mas però men maar ale lecz но але لكن بل אלא אבל بلکه بلکہ"
    " बल्कि लेकिन বরং কিন্তু kundi nhưng lakini bali tetapi melainkan tapi ama fakat dar ci azonban"
    " hanem vaan"
)
_WRITTEN_ON = "而是|但是|但|ではなくて?|じゃなくて?|でなく|아니라|แต่"
_CLAUSE_END = regex.compile(
    r"[.,:](?!\p{Nd})|[!?;…。！？；、，،؛؟۔।॥။၊។։\n]|"
    + _WRITTEN_ON
    + "|"
    + "|".join(whole(word) for word in _TURNS.split())
)
# What may be written onto a word without a space, so that it is the same word.
_KOREAN_ENDINGS = (
    "입니다 이다 이에요 예요 이야 야 이 가 을 를 은 는 의 와 과 로 으로 도 에 에서 네요 요 만 랑 이랑 인"
    " 처럼 이고 고 이며"
).split()
# Words that stand beside others in scripts without spaces; elsewhere a longer word may be meant (熊猫 is no 猫).
_BEFORE = {
    "Han": "是 只 隻 个 個 条 條 头 頭 匹 张 張 幅 位 名 种 種 为 為 叫 像 有"
    " 这 這 那 的 一 二 两 兩 三 几 了 和 与 與 或 在 把 看到 见 見 选 選"
    " は が の を に も と で た い る く",
    "Hiragana": "は が の を に も と で な",
    "Katakana": "は が の を に も と で た い る な 的 是",
    "Thai": "คือ เป็น มี ตัว ของ ใน และ กับ ภาพ รูป เห็น ว่า หรือ นั่น นี่ พบ เลือก ตอบ",
    "Lao": "ແມ່ນ ຄື ເປັນ ມີ ໂຕ ແລະ ຮູບ ໃນ",
    "Khmer": "គឺ ជា មាន នៃ និង ក្នុង រូប",
    "Myanmar": "က သည် ဟာ မှာ ၏ တဲ့ နှင့် နဲ့",
}
_BEHIND = {
    "Han": "的 在 和 了 是 吗 嗎 呢 吧 也 都 跟 与 與 或 啊 呀 着 著 正"
    " で が は の を に も と だ や か じゃ",
    "Hiragana": "で が は の を に も と だ や か じゃ",
    "Katakana": "で が は の を に も と だ や か じゃ 的 是",
    "Thai": "ครับ ค่ะ คะ ตัว สี ที่ กำลัง อยู่ และ นี้ นั้น หรือ บน ใน นั่ง ยืน นอน วิ่ง หนึ่ง ซึ่ง กับ ไม่",
    "Lao": "ໂຕ ສີ ທີ່ ກຳລັງ ຢູ່ ແລະ ນີ້ ນັ້ນ",
    "Khmer": "នេះ នោះ មួយ ពណ៌ ដែល កំពុង នៅ និង",
    "Myanmar": "က ကို ပါ ဖြစ် တစ် သည် နှင့် နဲ့ ပဲ တယ် ဟာ",
}
# A text that long is hardly a part of another word.
_LONG = 4


@dataclass(frozen=True)
class Mention:
    """`place` of the word that was found at `start` to `end`."""

    place: int
    start: int
    end: int


def mentions(text: str, words: Sequence[str]) -> list[Mention]:
    """Where words stand in a text, both `normalise`d; of words inside one another the longest counts there."""
    known = {word: place for place, word in reversed(list(enumerate(words))) if word}
    if not known:
        return []
    ordered = sorted(known, key=len, reverse=True)
    pattern = regex.compile("|".join(f"(?:{_whole(word)})" for word in ordered))
    return [
        Mention(known[_word(match[0], known)], match.start(), match.end()) for match in pattern.finditer(text)
    ]


def denied(text: str, start: int, end: int, code: str, kept: Sequence[Mention] = ()) -> bool:
    """Whether the clause around `start` to `end` denies; words that were looked for (`kept`) are no denials."""
    first, last = 0, len(text)
    for mark in _CLAUSE_END.finditer(text):
        if any(one.start <= mark.start() < one.end for one in kept):
            continue
        if mark.end() <= start:
            first = mark.end()
        elif mark.start() >= end:
            # What turns the text may deny what it follows: 아니라, ではなく.
            last = mark.end()
            break
    clause = list(text[first:last])
    for one in kept:
        for place in range(max(one.start, first), min(one.end, last)):
            clause[place - first] = " "
    return _denials(code).search("".join(clause)) is not None


def clauses(text: str) -> Iterator[str]:
    """The clauses of a text, without the marks between them."""
    start = 0
    for mark in _CLAUSE_END.finditer(text):
        yield text[start : mark.start()].strip()
        start = mark.end()
    yield text[start:].strip()


@cache
def _denials(code: str) -> Any:
    words = sorted(answer_words(code).denials, key=len, reverse=True)
    return regex.compile(r"n['’]t\b|" + "|".join(whole(word) for word in words))


def _word(found: str, known: dict[str, int]) -> str:
    """A match may begin with an article that is written on."""
    return found if found in known else found.removeprefix("ال")


def _whole(word: str) -> str:
    plain = regex.escape(word)
    if is_unspaced(word[0]) and is_unspaced(word[-1]):
        return (
            rf"{_edge(word, word[0], _BEFORE, True)}{plain}{_edge(word, word[-1], _BEHIND, False)}(?!\p{{M}})"
        )
    if regex.search(r"\p{Hangul}$", word):
        endings = "|".join(sorted(_KOREAN_ENDINGS, key=len, reverse=True))
        return rf"(?<![\p{{L}}\p{{M}}\p{{N}}]){plain}(?=(?:{endings})?(?![\p{{L}}\p{{M}}\p{{N}}]))"
    if regex.match(r"\p{Arabic}", word):
        return rf"(?<![\p{{L}}\p{{M}}\p{{N}}])(?:ال)?{plain}(?![\p{{L}}\p{{M}}\p{{N}}])"
    return whole(word)


def _edge(word: str, letter: str, table: dict[str, str], before: bool) -> str:
    """What must stand beside a word of a script without spaces, so that it is no part of a longer one."""
    if len(word) >= _LONG and not regex.search(r"[\p{Hiragana}\p{Katakana}]", word):
        return ""
    script = next((name for name in table if regex.match(rf"[\p{{{name}}}\u30fc]", letter)), "")
    # Texts are compared in NFKC, which takes Thai's and Lao's "am" apart.
    beside = "|".join(unicodedata.normalize("NFKC", table.get(script, "")).split()) or "(?!)"
    foreign = r"[^\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    return rf"(?<=^|{foreign}|{beside})" if before else rf"(?=$|{foreign}|{beside})"
