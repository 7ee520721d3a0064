"""In which language answers are: a model that is asked in Swahili and answers in English has not carried over.

(Hu et al., 2023, section 4.3, found language models that are aligned on English pictures answer in English.)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from polylens.evaluation.bootstrap import Score, bootstrap_mean
from polylens.language_id import SURE, identify, knows, same

# Of other languages that answers are surely in, the results name this many.
MOST_NAMED = 5


@dataclass(frozen=True)
class AnswerLanguages:
    """`measures`: the share of answers identified as being in the language asked for, and the share that is surely in
    another; `others` says which, as shares of all answers. `measures` is empty for a language that cannot be told
    from others: not identified is not wrong.
    """

    measures: dict[str, Score]
    others: dict[str, float]
    items: dict[str, list[float]]


def answer_languages(said: Sequence[str], code: str) -> AnswerLanguages:
    """Identify every answer that was asked for in language `code`; an empty answer is in no language.

    Single words are often identified wrongly, so low shares of names say little; see `polylens.language_id`.
    """
    if not said or not knows(code):
        return AnswerLanguages({}, {}, {})
    found = [identify(text) for text in said]
    asked = [float(other is not None and same(other, code)) for other, _ in found]
    surely = [
        other if other is not None and confidence >= SURE and not same(other, code) else None
        for other, confidence in found
    ]
    counts = Counter(other for other in surely if other is not None)
    items = {"language_identified": asked, "language_other": [float(other is not None) for other in surely]}
    return AnswerLanguages(
        measures={name: bootstrap_mean(values) for name, values in items.items()},
        others={other: count / len(said) for other, count in counts.most_common(MOST_NAMED)},
        items=items,
    )
