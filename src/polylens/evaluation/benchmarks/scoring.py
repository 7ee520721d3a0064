"""Scorers that benchmarks are made of; each takes the questions of one language, their answers and the protocol."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from polylens.evaluation.benchmarks.answers import (
    clean_vqa,
    lower_stripped,
    parse_choice,
    parse_label,
    pope_says_no,
)
from polylens.evaluation.benchmarks.interface import Question, Scores, picture_name
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.bootstrap import Floats, Score, bootstrap_all, bootstrap_mean
from polylens.evaluation.caption_metrics import caption_scores
from polylens.evaluation.names import chrf_score
from polylens.text import normalise

# (cleaned answer, cleaned answers of people) -> 0 to 1.
Credit = Callable[[str, Sequence[str]], float]


def score_captions(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """CIDEr-D, BLEU, ROUGE-L, plain CIDEr and chrF, over words as the protocol cuts them."""
    references = [question.answers for question in questions]
    found = caption_scores(said, references, questions[0].language, protocol.captions)
    measures = {"cider_d": found.cider}
    measures |= {f"bleu_{order}": score for order, score in enumerate(found.bleu, start=1)}
    measures |= {"rouge_l": found.rouge_l, "cider": found.cider_plain, "chrf": chrf_score(said, references)}
    return Scores(
        measures,
        items={
            "cider_d": found.items["cider"].tolist(),
            "rouge_l": found.items["rouge_l"].tolist(),
            "cider": found.items["cider_plain"].tolist(),
        },
        notes=found.notes,
        settings={"words": found.segmenter, "tokens": found.tokenizer},
    )


def any_of(answer: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references."""
    return float(answer in references)


def a_third_each(answer: str, references: Sequence[str]) -> float:
    """min(1, hits / 3), as A-OKVQA scores direct answers."""
    return min(1.0, references.count(answer) / 3)


def leave_one_out(answer: str, references: Sequence[str]) -> float:
    """The mean of min(1, hits / 3) over the sets of all annotators but one, as the VQA challenge scores."""
    if not references:
        return 0.0
    hits = references.count(answer)
    # Leaving out one who agrees leaves one hit less.
    agreeing, others = min(1.0, (hits - 1) / 3) if hits else 0.0, min(1.0, hits / 3)
    return (hits * agreeing + (len(references) - hits) * others) / len(references)


class AnswerScorer:
    """Short answers against those of people, cleaned as the protocol says, and beside it the other way.

    `clean` is what predictions go through; a protocol with `clean_labels` cleans people's answers alike.
    """

    def __init__(self, measure: str, credit: Credit, clean: Callable[[str], str] = clean_vqa) -> None:
        self.measure, self.credit, self.clean = measure, credit, clean

    def __call__(self, questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
        cleaned, written = [], []
        for question, text in zip(questions, said, strict=True):
            answer = self.clean(text)
            cleaned.append(self.credit(answer, [self.clean(one) for one in question.answers]))
            written.append(self.credit(answer, question.answers))
        main, other = (cleaned, written) if protocol.clean_labels else (written, cleaned)
        beside = "labels_as_written" if protocol.clean_labels else "labels_cleaned"
        items = {self.measure: main, f"{self.measure}_{beside}": other}
        if protocol.relaxed and self.credit is any_of and self.clean is clean_vqa:
            items["relaxed_accuracy"] = _relaxed(questions, [self.clean(text) for text in said])
        groups = by_picture(questions)
        return Scores(
            {name: bootstrap_mean(values, groups) for name, values in items.items()},
            items,
            settings={"cleaning": self.clean.__name__, "labels_cleaned": protocol.clean_labels},
        )


class MaxmScorer:
    """MaXM: by mBLIP's protocol lower-cased and stripped only; by others both sides are normalised."""

    def __call__(self, questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
        strict = AnswerScorer("accuracy", any_of, lower_stripped)
        loose = AnswerScorer("accuracy", any_of, normalise)
        return (loose if protocol.clean_labels else strict)(questions, said, protocol)


class LabelScorer:
    """One of a few labels, such as yes and no; what cannot be read is wrong, and its share is shown."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels

    def __call__(self, questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
        read = [
            parse_label(text, self.labels, protocol.strict, question.language)
            for question, text in zip(questions, said, strict=True)
        ]
        right = [float(label in question.answers) for label, question in zip(read, questions, strict=True)]
        relaxed = _relaxed(questions, [clean_vqa(text) for text in said]) if protocol.relaxed else None
        return _with_unread(questions, right, [label is None for label in read], relaxed)


def score_choices(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """Options by letter or by text: `extra["options"]` lists them, `answers` is the right letter."""
    picked = [
        parse_choice(text, question.extra["options"], question.language)
        for question, text in zip(questions, said, strict=True)
    ]
    letters = [None if place is None else chr(ord("A") + place) for place in picked]
    right = [float(letter in question.answers) for letter, question in zip(letters, questions, strict=True)]
    return _with_unread(questions, right, [letter is None for letter in letters])


def score_names(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """The label itself, up to case and white space."""
    right = [
        float(normalise(text) in {normalise(one) for one in question.answers})
        for question, text in zip(questions, said, strict=True)
    ]
    return Scores({"accuracy": bootstrap_mean(right, by_picture(questions))}, {"accuracy": right})


def score_pope(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """Accuracy, precision, recall and F1 of "yes", and how often it was said."""
    yes = np.array([not pope_says_no(text) for text in said])
    true = np.array([question.answers[0] == "yes" for question in questions])
    counts_N5 = np.stack([yes & true, yes & ~true, ~yes & true, yes == true, np.ones_like(yes)], axis=1)

    def ratio(above: Floats, below: Floats) -> Floats:
        return np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)

    measures: dict[str, Callable[[Floats], Floats]] = {
        "accuracy": lambda sums: sums[:, 3] / sums[:, 4],
        "f1": lambda sums: ratio(2 * sums[:, 0], 2 * sums[:, 0] + sums[:, 1] + sums[:, 2]),
        "precision": lambda sums: ratio(sums[:, 0], sums[:, 0] + sums[:, 1]),
        "recall": lambda sums: ratio(sums[:, 0], sums[:, 0] + sums[:, 2]),
        "yes_ratio": lambda sums: (sums[:, 0] + sums[:, 1]) / sums[:, 4],
    }
    scores = bootstrap_all(counts_N5.astype(np.float64), measures)
    return Scores(scores, {"accuracy": (yes == true).astype(float).tolist()})


def by_picture(questions: Sequence[Question]) -> list[str]:
    """What is drawn together in resampling: questions about one picture are no independent evidence."""
    return [picture_name(question.images[0]) if question.images else question.id for question in questions]


def majority(questions: Sequence[Question]) -> str:
    """The answer that is right most often among these questions, the first of equals."""
    counts = Counter(answer for question in questions for answer in dict.fromkeys(question.answers))
    return counts.most_common(1)[0][0] if counts else ""


def _relaxed(questions: Sequence[Question], cleaned: Sequence[str]) -> list[float]:
    """1 where an answer begins or ends with a right one, as mBLIP counts beside its accuracy."""
    found = []
    for question, text in zip(questions, cleaned, strict=True):
        right = [one.lower().strip() for one in question.answers]
        found.append(float(any(text.startswith(one) or text.endswith(one) for one in right)))
    return found


def _with_unread(
    questions: Sequence[Question],
    right: list[float],
    unread: Sequence[bool],
    relaxed: list[float] | None = None,
) -> Scores:
    items: dict[str, list[float]] = {"accuracy": right, "unread": [float(one) for one in unread]}
    if relaxed is not None:
        items["relaxed_accuracy"] = relaxed
    groups = by_picture(questions)
    measures: dict[str, Score] = {name: bootstrap_mean(values, groups) for name, values in items.items()}
    return Scores(measures, items)
