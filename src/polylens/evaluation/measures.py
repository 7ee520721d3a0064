"""The measures of results: how each is named, shown and explained, in the order of importance."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Where results describe the measures that only their benchmark knows.
OWN = "measures"


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


def share(name: str, label: str, meaning: str, **more: Any) -> Metric:
    """A measure from 0 to 1, shown in percent."""
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
        share("exact_match", "Exact match", "answers that are the expected text, letter for letter"),
        share(
            "exact_match_loose",
            "Exact match, loose",
            "answers that are the expected text, articles and final punctuation aside",
        ),
        share("accuracy", "Accuracy", "answers that are right"),
        share("vqa_accuracy", "VQA accuracy", "answers that people gave too, by the benchmark's own rule"),
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
        share(
            "choice_accuracy",
            "Choice",
            "pictures whose own name or caption is the likeliest of the candidates in that language",
        ),
        Metric(
            name="pivot_ratio",
            label="Pivot ratio",
            meaning="exact match over that of English: 1 means that nothing is lost on the way",
            digits=2,
            high=1,
        ),
        Metric(
            name="cider_pivot_ratio",
            label="CIDEr-D pivot ratio",
            meaning="CIDEr-D over that of English, on pictures captioned in both",
            digits=2,
        ),
        Metric(
            name="choice_pivot_ratio",
            label="Choice pivot ratio",
            meaning="choice accuracy over that of English",
            digits=2,
            high=1,
        ),
        *(
            share(
                f"bleu_{order}", f"BLEU-{order}", f"sequences of up to {order} words shared with references"
            )
            for order in (4, 3, 2, 1)
        ),
        share("rouge_l", "ROUGE-L", "longest common sequence of words with a reference"),
        share(
            "language_identified", "Right language", "answers recognised as being in the language asked for"
        ),
        share(
            "language_other",
            "Other language",
            "answers that are surely in another language than the one asked for",
            higher_is_better=False,
        ),
        share(
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
            share(f"{name}_{beside}", f"{label}, {words}", f"the same score with people's answers {words}")
            for name, label in (("accuracy", "Accuracy"), ("vqa_accuracy", "VQA accuracy"))
            for beside, words in (("labels_cleaned", "cleaned"), ("labels_as_written", "as written"))
        ),
        share(
            "relaxed_accuracy",
            "Relaxed accuracy",
            "answers that begin or end with a right one, as mBLIP counts",
        ),
        share("f1", "F1", "harmonic mean of precision and recall of yes"),
        share("precision", "Precision", "of what was said to be there, what is there"),
        share("recall", "Recall", "of what is there, what was said to be there"),
        Metric(
            name="yes_ratio",
            label="Yes",
            meaning="answers that say yes; half of the questions should be answered so",
            scale=100,
            unit="%",
        ),
        share("unread", "Unread", "answers that name no label, and count as wrong", higher_is_better=False),
        share(
            "chair_s",
            "CHAIR_s",
            "captions that speak of an object that is not there",
            higher_is_better=False,
        ),
        share("chair_i", "CHAIR_i", "objects spoken of that are not there", higher_is_better=False),
        share("object_recall", "Object recall", "objects of the picture that its caption speaks of"),
        Metric(name="objects_said", label="Objects said", meaning="objects spoken of in a caption"),
        Metric(
            name="fid",
            label="FID",
            meaning="distance to real pictures on Inception's features; depends on how many there are",
            higher_is_better=False,
        ),
        Metric(
            name="fd_encoder",
            label="FD, encoder",
            meaning="distance to real pictures on the features of the encoder that the settings name",
            digits=2,
            higher_is_better=False,
        ),
        Metric(
            name="clip_score",
            label="CLIP score",
            meaning="100 times the cosine of CLIP's embeddings of picture and prompt",
            high=100,
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
        "the same language model given the English name or caption as text, not as a picture",
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


def metric_of(name: str, results: Mapping[str, Any] | None = None) -> Metric:
    """The measure of that name as `results` describe it, else the known one, else a plain one."""
    own = ((results or {}).get(OWN) or {}).get(name)
    if own is not None:
        return Metric(**own)
    return METRICS.get(name) or Metric(name=name, label=name.replace("_", " "), digits=3)


def described(metrics: Iterable[Metric]) -> dict[str, dict[str, Any]]:
    """Measures as results carry them (under `OWN`), so that whoever shows the results knows how."""
    return {metric.name: asdict(metric) for metric in metrics}


def in_order(names: Collection[str], results: Mapping[str, Any] | None = None) -> list[str]:
    """Measures in the order shown: known ones, those that `results` describe, then all others by name."""
    known = [*METRICS, *((results or {}).get(OWN) or {})]
    return [name for name in dict.fromkeys(known) if name in names] + sorted(set(names) - set(known))
