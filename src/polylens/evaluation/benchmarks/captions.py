"""Own captions: a folder with captions.jsonl and its pictures, scored as any other benchmark."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from polylens.data.captions import FILE_NAME, read_captions, with_references
from polylens.errors import UserError
from polylens.evaluation.benchmarks.files import wanted
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.evaluation.caption_metrics import caption_scores
from polylens.evaluation.caption_metrics.segmentation import caption_tokenizer
from polylens.evaluation.names import chrf_score, exact_match, loose_match
from polylens.languages import language


def read(folder: Path, languages: Container[str] | None) -> Iterator[Question]:
    """A question for each picture and language; all its captions in that language are references."""
    for sample, references in with_references(
        read_captions(folder, unknown="error" if languages is None else "skip")
    ):
        if wanted(sample.language, languages):
            yield Question(
                id=sample.id,
                images=sample.images,
                language=sample.language,
                answers=tuple(references),
                extra=sample.extra,
                where=f"{folder / FILE_NAME}, the captions of '{sample.id}'",
            )


def score(questions: Sequence[Question], said: Sequence[str], protocol: Protocol) -> Scores:
    """CIDEr-D, BLEU-4 and ROUGE-L where words can be told, exact match in two forms, and chrF."""
    code, references = questions[0].language, [question.answers for question in questions]
    pairs = list(zip(said, references, strict=True))
    items = {
        "exact_match": [exact_match(*pair) for pair in pairs],
        "exact_match_loose": [loose_match(*pair, code) for pair in pairs],
    }
    measures = {name: bootstrap_mean(values) for name, values in items.items()}
    measures["chrf"] = chrf_score(said, references)
    try:
        caption_tokenizer(code, protocol.captions)
    except UserError as error:
        return Scores(measures, items, (f"No CIDEr-D, BLEU-4 and ROUGE-L of {language(code).name}: {error}",))
    found = caption_scores(said, references, code, protocol.captions)
    return Scores(
        {"cider_d": found.cider, **measures, "bleu_4": found.bleu[3], "rouge_l": found.rouge_l},
        {"cider_d": found.items["cider"].tolist(), **items, "rouge_l": found.items["rouge_l"].tolist()},
        found.notes,
        {"words": found.segmenter, "tokens": found.tokenizer},
    )


BENCHMARK = Benchmark(
    name="captions",
    title="Own captions",
    task="caption",
    files=f"{FILE_NAME}: rows of image and captions by language",
    images="beside captions.jsonl, or in its folder images",
    read=read,
    score=score,
    protocol="raw",
    baselines=(),
    ratios={
        "cider_d": "cider_pivot_ratio",
        "exact_match": "pivot_ratio",
        "choice_accuracy": "choice_pivot_ratio",
    },
)
