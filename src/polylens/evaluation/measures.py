"""The measures of results: how each is named, shown and explained, in the order of importance."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a measure is named and shown: `value * scale` with `digits` and `unit`.

    `high` is the best value there is (None: unbounded), `chance` what guessing gives, both before scaling.
    """

    name: str
    label: str
    meaning: str = ""
    scale: float = 1
    digits: int = 1
    unit: str = ""
    high: float | None = None
    higher_is_better: bool = True
    chance: float | None = None

    @property
    def heading(self) -> str:
        return with_unit(self.label, self.unit)

    def number(self, value: float | None) -> str:
        """`value` as shown under `heading`, or a dash where there is none."""
        return "–" if value is None else f"{value * self.scale:.{self.digits}f}"

    def text(self, value: float | None) -> str:
        """`value` with its unit, for running text."""
        return self.number(value) + (self.unit if value is not None else "")

    def signed(self, value: float) -> str:
        """A difference as shown under `heading`."""
        return f"{value * self.scale:+.{self.digits}f}"

    def range(self, interval: tuple[float, float] | None) -> str:
        return f"{self.number(interval[0])}–{self.number(interval[1])}" if interval else ""


def _share(name: str, label: str, meaning: str, **more: Any) -> Metric:
    return Metric(name=name, label=label, meaning=meaning, scale=100, unit="%", high=1, **more)


# In the order shown; the first one that is present is what bars and rankings are made of. CIDEr-D stands before
# exact match, which says little of whole sentences.
METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="cider_d",
            label="CIDEr-D",
            meaning="agreement with people's captions, rare words counting more; times 100, as in papers",
            scale=100,
        ),
        _share("exact_match", "Exact match", "answers that are the expected text, letter for letter"),
        _share("accuracy", "Accuracy", "answers that are right"),
        _share("vqa_accuracy", "VQA accuracy", "answers that people gave too, by the benchmark's own rule"),
        Metric(
            name="judge_score",
            label="Judge score",
            meaning="the judge's grades of the answers over those of the references, times 100",
        ),
        Metric(
            name="cider",
            label="CIDEr",
            meaning="agreement with people's captions, rare words counting more; times 100, as in papers",
            scale=100,
        ),
        Metric(
            name="chrf",
            label="chrF",
            meaning="letter sequences shared with the expected text, from 0 to 100; near misses count",
            high=100,
        ),
        _share(
            "choice_accuracy",
            "Choice",
            "pictures whose name is the likeliest of 100 candidate names in that language",
            chance=0.01,
        ),
        Metric(
            name="pivot_ratio",
            label="Pivot ratio",
            meaning="exact match over that of English: 1 means that nothing is lost on the way",
            digits=2,
            high=1,
        ),
        Metric(
            name="choice_pivot_ratio",
            label="Choice pivot ratio",
            meaning="choice accuracy over that of English",
            digits=2,
            high=1,
        ),
        *(
            _share(
                f"bleu_{order}", f"BLEU-{order}", f"sequences of up to {order} words shared with references"
            )
            for order in (4, 3, 2, 1)
        ),
        _share("rouge_l", "ROUGE-L", "longest common sequence of words with a reference"),
        _share(
            "language_identified", "Right language", "answers recognised as being in the language asked for"
        ),
        _share(
            "language_other",
            "Other language",
            "answers that are surely in another language than the one asked for",
            higher_is_better=False,
        ),
        _share(
            "judge_preferred",
            "Preferred",
            "answers that the judge grades above the reference, ties half",
            chance=0.5,
        ),
        Metric(
            name="reference_grade",
            label="Grade of references",
            meaning="the judge's mean grade of the reference answers, from 1 to 10",
            digits=2,
            high=10,
        ),
        Metric(
            name="answer_grade",
            label="Grade of answers",
            meaning="the judge's mean grade of the answers, from 1 to 10",
            digits=2,
            high=10,
        ),
        *(
            _share(f"{name}_{beside}", f"{label}, {words}", f"the same score with people's answers {words}")
            for name, label in (("accuracy", "Accuracy"), ("vqa_accuracy", "VQA accuracy"))
            for beside, words in (("labels_cleaned", "cleaned"), ("labels_as_written", "as written"))
        ),
        _share(
            "relaxed_accuracy",
            "Relaxed accuracy",
            "answers that begin or end with a right one, as mBLIP counts",
        ),
        _share("f1", "F1", "harmonic mean of precision and recall of yes"),
        _share("precision", "Precision", "of what was said to be there, what is there"),
        _share("recall", "Recall", "of what is there, what was said to be there"),
        Metric(
            name="yes_ratio",
            label="Yes",
            meaning="answers that say yes; half of the questions should be answered so",
            scale=100,
            unit="%",
        ),
        _share("unread", "Unread", "answers that name no label, and count as wrong", higher_is_better=False),
        _share(
            "chair_s",
            "CHAIR_s",
            "captions that speak of an object that is not there",
            higher_is_better=False,
        ),
        _share("chair_i", "CHAIR_i", "objects spoken of that are not there", higher_is_better=False),
        _share("object_recall", "Object recall", "objects of the picture that its caption speaks of"),
        Metric(name="objects_said", label="Objects said", meaning="objects spoken of in a caption"),
        Metric(
            name="fid",
            label="FID",
            meaning="distance to real pictures on Inception's features; depends on how many there are",
            higher_is_better=False,
        ),
        Metric(
            name="fd_picto",
            label="fd_picto",
            meaning="distance to real pictures on the packaged encoder's features",
            digits=2,
            higher_is_better=False,
        ),
        Metric(
            name="clip_score",
            label="CLIP score",
            meaning="100 times the cosine of CLIP's embeddings of picture and prompt",
            high=100,
        ),
        _share(
            "right_in_either",
            "Right in either language",
            "names that are right in the question's language or in English",
        ),
        _share(
            "yes_no",
            "Yes or no",
            "answers to yes-or-no questions that are right, in either language",
            chance=0.5,
        ),
        _share(
            "asked_language",
            "In the question's language",
            "answers in words that the question's language has and English has not; words of both are left out",
        ),
        _share(
            "answered_in_english",
            "In English",
            "answers in words that English has and the question's language has not; words of both are left out",
            higher_is_better=False,
        ),
        _share("picto", "Picto", "mean over Picto's five tasks"),
        *(
            _share(f"picto_{task}", task.capitalize(), f"score of Picto's task '{task}'")
            for task in ("caption", "keywords", "yesno", "choice", "statement")
        ),
        Metric(
            name="unparseable",
            label="Unreadable",
            meaning="replies of the judge that were no two grades; in no mean",
            digits=0,
            higher_is_better=False,
        ),
    )
}
YARDSTICKS = {
    "text_ceiling": (
        "Text ceiling",
        "the same language model given the English name as text, not as a picture",
    ),
    "translate_test": (
        "Translate-test",
        "the model's own answer in English, translated",
    ),
    "text_only": ("Text only", "the same questions asked without the picture"),
    "majority": ("Majority", "always the answer that is right most often"),
    "english_only": ("English only", "a run of the same budget on the same samples, untranslated"),
    "native_only": ("Native only", "a run of the same budget on the same samples, all in that one language"),
}
CONTROLS = {
    "no_image": ("No picture", "what guessing without seeing gives; should be near 0"),
    "other_image": (
        "Another picture",
        "pictures of other things, each scored against its own name; should be about the score itself",
    ),
    "before_alignment": ("Before alignment", "the same model with an untrained link; should be near 0"),
}
BASELINES = {"native": "Native pairs", "mix": "Mix of languages", "english": "English only"}


def with_unit(label: str, unit: str) -> str:
    return f"{label},\u00a0{unit}" if unit else label


def metric_of(name: str) -> Metric:
    """The known measure of that name, or a plain one."""
    return METRICS.get(name) or Metric(name=name, label=name.replace("_", " "), digits=3)
