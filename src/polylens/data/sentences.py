"""Where sentences end, in any script: the one table of their marks."""

import regex

# Unicode's marks that end a sentence, and those that it does not count: dots in a row, the Tibetan shad, the Sinhala
# and the Thai end of a text, and Hebrew's. The Burmese comma, which it does count, ends none.
_MARK = (
    r"(?:(?!\u104a)[\p{SB=STerm}\p{SB=ATerm}…‥།༎༏༐༑෴๚๛׃]"
    # A semicolon asks in Greek, and a colon is the full stop of much typed Armenian.
    r"|(?<=\p{Greek}\p{M}*);|\u037e|(?<=\p{Armenian}):)"
)
# Marks of scripts other than Latin, after which a sentence ends without a space too; a shad ends a clause only.
_OWN_MARK = r"(?:(?![.!?‼⁇⁈⁉‽․\u104a])\p{SB=STerm})"
_CLOSING = r"""["'”’»›)\]」』】》〉）＂]"""
_OPENING = r"""["'“‘„«‹¿¡(\[「『【《〈（]"""
# Abbreviations, initials and ordinals, whose full stop ends no sentence.
_ABBREVIATION = (
    r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|e\.g|i\.e|etc|bzw|usw|ca|Nr|Str|Prof|Ing|Sra|Srta|Dra|Ud|Uds|Mme|Mlle|p\.ej"
    r"|art|Av|np|tzn|tzv|ул|рис|им|т\.е|т\.д|\p{Lu}|\p{L}\.\p{L}|\p{Ll}(?=\.\s\p{L}\.)|\p{Nd}{1,2}(?!\.\s+\p{Nd}))\."
)
# What is between two sentences: white space, nothing where the script needs none, or the end of a line.
SENTENCE_GAP = regex.compile(
    rf"(?<={_MARK}{_CLOSING}*)(?<!{_ABBREVIATION})\s+(?={_OPENING}*[\p{{Lu}}\p{{Lt}}\p{{Lo}}\p{{Nd}}])"
    rf"|(?<={_OWN_MARK}{_CLOSING}*)(?!{_MARK}|{_CLOSING})(?<!\p{{Nd}}.(?=\p{{Nd}}))(?=\S)"
    r"|\s*[\n\r\u2028\u2029\x85]\s*"
)


def num_sentences(text: str) -> int:
    """How many sentences a text has; one without any mark is one sentence."""
    return max(1, sum(bool(part.strip()) for part in SENTENCE_GAP.split(text) if part))
