"""Whether a text names left or right: then its picture must not be mirrored."""

import re
import unicodedata
from functools import cache

from polylens.data.sample import Sample

ENGLISH = re.compile(r"\b(?:left|right)(?:most|wards?|hand(?:ed)?)?\b", re.IGNORECASE)
# The beginnings of the words, where words begin after a space or a mark.
STEMS = {
    "af": "links linker regs regter",
    "az": "sol sağ",
    "be": "лев злев налев прав справ направ",
    "bg": "лев ляв вляво наляво дясн десн вдясно надясно",
    "ca": "esquerr dret",
    "cs": "lev vlevo nalevo doleva prav vpravo napravo doprava",
    "cy": "chwith dde",
    "da": "venstre højre",
    "de": "links linke rechts rechte",
    "el": "αριστερ δεξι",
    "eo": "maldekstr dekstr",
    "es": "izquierd derech",
    "et": "vasak vasem parem",
    "eu": "ezker eskuin",
    "fi": "vasem vasen oikea oike",
    "fil": "kaliwa kanan",
    "fr": "gauche droit",
    "ga": "clé deas",
    "gl": "esquerd dereit",
    "hr": "lijev desn",
    "hu": "bal jobb",
    "id": "kiri kanan",
    "is": "vinstri hægri",
    "it": "sinistr destr",
    "kk": "сол оң",
    "lt": "kair dešin",
    "lv": "kreis labaj labo labā labi",
    "mk": "лев десн",
    "ms": "kiri kanan",
    "nl": "links linker rechts rechter",
    "no": "venstre høyre",
    "pl": "lew praw",
    "pt": "esquerd direit",
    "ro": "stâng stang dreapt drept",
    "ru": "лев слев налев влев прав справ направ вправ",
    "sk": "ľav vľavo naľavo doľava prav vpravo napravo doprava",
    "sl": "lev desn",
    "sq": "majt djatht",
    "sr": "лев десн lev desn",
    "sv": "vänst höger högr",
    "sw": "kushoto kulia",
    "tr": "sol sağ",
    "uk": "лів злів налів ліво прав справ направ",
    "vi": "trái phải",
    "yo": "òsì ọ̀tún",
    "zu": "kwesokunxele kwesokudla",
}
# Where words are written together, or begin with what other languages write apart: anywhere in the text.
ANYWHERE = {
    "am": "ግራ ቀኝ",
    "ar": "يسار يمين أيسر أيمن يسرى يمنى",
    "bn": "বাম বাঁ ডান",
    "fa": "چپ راست",
    "gu": "ડાબ જમણ",
    "he": "שמאל ימין ימנ",
    "hi": "बाएँ बाएं बायें बायीं बाईं बाया दाएँ दाएं दायें दायीं दाईं दाया दाहिन",
    "hy": "ձախ աջ",
    "ja": "左 右",
    "ka": "მარცხ მარჯვ",
    "km": "ឆ្វេង ស្តាំ",
    "kn": "ಎಡ ಬಲ",
    "ko": "왼 오른 좌측 우측",
    "lo": "ຊ້າຍ ຂວາ",
    "ml": "ഇടത വലത",
    "mr": "डाव उजव",
    "my": "ဘယ် ညာ",
    "ne": "बाया देब्र दाया दाहिन",
    "pa": "ਖੱਬ ਸੱਜ",
    "ta": "இடது இடப் வலது வலப்",
    "te": "ఎడమ కుడి",
    "th": "ซ้าย ขวา",
    "ur": "بائیں دائیں",
    "yi": "לינק רעכט",
    "zh": "左 右",
    "zh-Hant": "左 右",
}


def names_a_side(sample: Sample) -> bool:
    """Whether any turn, or what it was translated from, says left or right in its language or in English."""
    turns = [text for turn in sample.turns for text in (turn.prompt, turn.answer)]
    original = sample.extra.get("original") or {}
    turns += [text for turn in original.get("turns", ()) for text in turn]
    text = "\n".join(turns)
    if ENGLISH.search(text):
        return True
    own = _pattern(sample.language)
    return own is not None and own.search(unicodedata.normalize("NFC", text)) is not None


@cache
def _pattern(code: str) -> re.Pattern[str] | None:
    words, front = STEMS.get(code), r"\b"
    if words is None:
        words, front = ANYWHERE.get(code), ""
    if words is None:
        return None
    choices = "|".join(re.escape(unicodedata.normalize("NFC", word)) for word in words.split())
    return re.compile(f"{front}(?:{choices})", re.IGNORECASE)
