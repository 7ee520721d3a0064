"""Whether a text names left or right: then its picture must not be mirrored."""

import logging
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

import regex

from polylens.data.sample import Sample
from polylens.languages import LANGUAGES, language, related_codes

logger = logging.getLogger(__name__)

# English may stand in any text, also in one whose script puts no space around it.
ENGLISH = regex.compile(
    r"(?<![\p{Latin}\p{M}])(?:left|right)(?:most|wards?|hand(?:ed)?)?(?![\p{Latin}\p{M}])", regex.IGNORECASE
)
# The beginnings of the words, where words begin after a space or a mark.
STEMS = {
    "af": "links linker regs regter",
    "ast": "esquierd izquierd manzorg derech drech",
    "ay": "ch'iqa ch’iqa kupi",
    "az": "sol sağ",
    "ba": "һул уң",
    "be": "лев злев налев прав справ направ",
    "bg": "лев ляв вляво наляво дясн десн вдясно надясно",
    "bm": "numan kinin",
    "br": "kleiz dehou",
    "bs": "lijev desn",
    "bs-Cyrl": "лијев десн",
    "ca": "esquerr dret",
    "ceb": "wala tuo",
    "ckb": "چەپ ڕاست راست",
    "co": "manca manch diritt dritt",
    "crh-Latn": "sol oñ sağ",
    "cs": "lev vlevo nalevo doleva prav vpravo napravo doprava",
    "csb": "lew praw",
    "cv": "сулахай сылтӑм",
    "cy": "chwith dde",
    "da": "venstre højre",
    "de": "links linke rechts rechte",
    "dsb": "lěw pšaw",
    "ee": "mia ɖusi",
    "el": "αριστερ δεξι",
    "en-simple": "left right",
    "eo": "maldekstr dekstr",
    "es": "izquierd derech",
    "et": "vasak vasem parem",
    "eu": "ezker eskuin",
    "fi": "vasem vasen oikea oike",
    "fil": "kaliwa kanan",
    "fo": "vinstr høgr",
    "fr": "gauche droit",
    "fur": "çamp dret",
    "fy": "links lofts rjochts",
    "ga": "clé deas",
    "gag": "sol saa",
    "gd": "clì cli deas",
    "gl": "esquerd dereit",
    "gn": "asu akatúa akatua",
    "gsw": "lings linggs links rechts rächts",
    "ha": "hagu dama",
    "haw": "hema ʻākau 'akau ‘ākau akau",
    "hr": "lijev desn",
    "hsb": "lěw praw",
    "ht": "gòch goch dwat",
    "hu": "bal jobb",
    "ia": "sinistr dextr",
    "id": "kiri kanan",
    "ig": "ekpe nri",
    "is": "vinstr hægr",
    "it": "sinistr destr",
    "jv": "kiwa tengen",
    "kk": "сол оң",
    "kl": "saami talerpi",
    "ku": "çep rast",
    "ky": "сол оң",
    "la": "sinist laev dext",
    "lb": "lénk lenks riets",
    "li": "links rechs rechts",
    "lij": "manca scinistr drit destr",
    "lmo": "sinistra manzina drizza destra",
    "lt": "kair dešin",
    "lv": "kreis labaj labo labā labi",
    "mi": "mauī maui matau",
    "min": "kida suok kiri kanan",
    "mk": "лев десн",
    "mn": "зүүн баруун",
    "ms": "kiri kanan",
    "mt": "lemin xellug",
    "nap": "mancin sinistr deritt destr",
    "nds": "links luchter luchs rechts rechter",
    "nds-NL": "links linker rechts rechter",
    "nl": "links linker rechts rechter",
    "nn": "venstre høgre høgr",
    "no": "venstre høyre",
    "oc": "esquèr esquer senèstr drech drecha",
    "om": "bitaa bitaatti mirga",
    "pap": "robes drechi",
    "pcm": "left right lef rait",
    "pl": "lew praw",
    "pt": "esquerd direit",
    "qu": "lluq'i lluq’i lluqi ichuq paña alliq",
    "rm": "sanestr sanestra sanester dretg dretga",
    "ro": "stâng stang dreapt drept",
    "ru": "лев слев налев влев прав справ направ вправ",
    "rue": "лїв лів прав",
    "rw": "ibumoso bumoso iburyo buryo",
    "sah": "хаҥас уҥа",
    "scn": "manca manc dritt destr",
    "sco": "left richt",
    "sk": "ľav vľavo naľavo doľava prav vpravo napravo doprava",
    "sl": "lev desn",
    "sm": "agavale taumatau",
    "sn": "ruboshwe rudyi",
    "so": "bidix midig",
    "sq": "majt djatht",
    "sr": "лев десн lev desn",
    "sr-Latn": "lev desn lijev",
    "su": "kenca kénca katuhu",
    "sv": "vänst höger högr",
    "sw": "kushoto kulia",
    "szl": "lew praw",
    "tg": "чап рост",
    "tk": "çep sag",
    "to": "hema mata'u mataʻu to'ohema to'omata'u",
    "tpi": "lephan raithan",
    "tr": "sol sağ",
    "tt": "сул уң",
    "uk": "лів злів налів ліво прав справ направ",
    "uz": "chap oʻng o'ng o‘ng o’ng",
    "uz-Cyrl": "чап ўнг",
    "vec": "sanca sinistr drita destr",
    "vi": "trái phải",
    "vls": "links linker rechts rechter slinks",
    "war": "wala tuo too",
    "wo": "càmmoñ cammoñ ndijoor ndeyjoor",
    "yo": "òsì ọ̀tún",
}
# Where words are written together, or begin with what other languages write apart: anywhere in the text.
ANYWHERE = {
    "ak": "benkum nifa",
    "am": "ግራ ቀኝ",
    "ar": "يسار يمين أيسر أيمن يسرى يمنى شمال شمل",
    "arz": "شمال يمين",
    "as": "বাওঁ বাঁও বাম সোঁ",
    "bho": "बाव बाया बायाँ बाईं दाहिन दाया दायाँ",
    "bn": "বাম বাঁ ডান",
    "bo": "གཡོན གཡས",
    "dv": "ވާތ ކަނާތ",
    "dz": "གཡོན གཡས",
    "fa": "چپ راست",
    "gu": "ડાબ જમણ",
    "he": "שמאל ימין ימנ",
    "hi": "बाएँ बाएं बायें बायीं बाईं बाया दाएँ दाएं दायें दायीं दाईं दाया दाहिन",
    "hy": "ձախ աջ",
    "ja": "左 右",
    "ka": "მარცხ მარჯვ",
    "kab": "zelma yfus yeffus",
    "kk-Arab": "سول وڭ",
    "km": "ឆ្វេង ស្តាំ",
    "kn": "ಎಡ ಬಲ",
    "ko": "왼 오른 좌측 우측",
    "kok": "दाव उजव",
    "lah": "کھب سجے سجا سجی",
    "lg": "kkono ddyo",
    "lo": "ຊ້າຍ ຂວາ",
    "mag": "बाया बायाँ दाहिन",
    "mai": "बाम बायाँ दहिन दाहिन",
    "mg": "havia havanana",
    "ml": "ഇടത വലത",
    "mr": "डाव उजव",
    "my": "ဘယ် ညာ",
    "nd": "khohlo kunene",
    "ne": "बाया देब्र दाया दाहिन",
    "nr": "khohlo kunene",
    "ny": "manzere manja",
    "or": "ବାମ ବାଁ ଡାହାଣ",
    "pa": "ਖੱਬ ਸੱਜ",
    "pa-Arab": "کھب سجے سجا سجی",
    "ps": "کيڼ کیڼ چپ ښي ښی راست",
    "sa": "वाम सव्य दक्षिण",
    "sd": "کاٻ کٻ سڄ ساڄ",
    "si": "වම දකුණ",
    "skr": "کھب سجے سجا سجی",
    "ss": "ncele kudla",
    "ta": "இடது இடப் வலது வலப்",
    "te": "ఎడమ కుడి",
    "th": "ซ้าย ขวา",
    "ti": "ጸጋም የማን",
    "tn": "molema moja",
    "ug": "سول ئوڭ ئوڭدا",
    "ur": "بائیں دائیں",
    "xh": "khohlo kunene",
    "yi": "לינק רעכט",
    "zh": "左 右",
    "zh-Hant": "左 右",
    "zh-Latn": "zuo zuǒ you yòu",
    "zu": "sokunxele sokudla nxele",
}
# Scripts in which the words of one language serve another.
_SAME_SCRIPT = {"Hant": "Hans", "Hani": "Hans"}


def names_a_side(sample: Sample) -> bool:
    """Whether any turn, or what it was translated from, says left or right in its language or in English.

    True too where the words of a language are not known here: its pictures are never mirrored, and a warning says so
    once.
    """
    found = [
        _says_side(sample.language, [text for turn in sample.turns for text in (turn.prompt, turn.answer)])
    ]
    if original := sample.extra.get("original"):
        texts = [text for turn in original.get("turns", ()) for text in turn]
        found.append(_says_side(original.get("language", "en"), texts))
    return any(found)


def _says_side(code: str, texts: list[str]) -> bool:
    text = unicodedata.normalize("NFC", "\n".join(texts))
    if ENGLISH.search(text):
        return True
    if code.split("-")[0] == "en" or not text.strip():
        return False
    own = _pattern(code)
    return own is None or own.search(text) is not None


@cache
def _pattern(code: str) -> Any:
    """Finds the words of a language and of those that it shares them with; None where there are none."""
    choices = list(_choices(code))
    if not choices:
        logger.warning(
            "No words for left and right are known in %s ('%s'): pictures of its texts are never mirrored.",
            language(code).name,
            code,
        )
        return None
    return regex.compile("|".join(choices), regex.IGNORECASE)


def _choices(code: str) -> Iterator[str]:
    for known in related_codes(code):
        if known != code and _script(known) != _script(code):
            continue
        for table, front in ((STEMS, r"(?<![\p{L}\p{M}\p{N}])"), (ANYWHERE, "")):
            for word in table.get(known, "").split():
                yield front + regex.escape(unicodedata.normalize("NFC", word))


def _script(code: str) -> str:
    script = LANGUAGES[language(code).code].script
    return _SAME_SCRIPT.get(script, script)
