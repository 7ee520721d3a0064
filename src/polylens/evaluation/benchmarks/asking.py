"""Questions put in words by a protocol: Question -> Item, ready to be answered."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polylens.data.sample import Picture, Sample, Turn
from polylens.evaluation.benchmarks.interface import Benchmark, Question
from polylens.evaluation.benchmarks.protocols import Protocol
from polylens.evaluation.predictor import Predictor
from polylens.evaluation.runner import Item

PLAIN = (str, int, float)


@dataclass(frozen=True)
class Asking:
    """How the questions of a benchmark are put to one model."""

    benchmark: Benchmark
    protocol: Protocol
    predictor: Predictor

    def prompt(self, question: Question) -> str:
        """Raises `UserError` for an answer in a language that has no name here."""
        if question.prompt is not None:
            return question.prompt
        code = question.answer_language or question.language
        task = question.task or self.benchmark.task
        if task == "caption" and self.protocol.own_captions:
            return self.predictor.ask_caption(code)
        return self.protocol.prompts.prompt(task, code, None, tag=code, **question.fields)

    def item(self, question: Question, pictures: tuple[Picture, ...]) -> Item:
        """The question as a sample; `extra` of it stands in predictions.jsonl."""
        kept = {key: value for key, value in question.extra.items() if isinstance(value, PLAIN)}
        if question.answer_language not in ("", question.language):
            kept["question_language"] = question.language
        # A picture may hold no object that CHAIR knows, and then nothing is right.
        sample = Sample(
            id=question.id,
            images=pictures,
            turns=(Turn(self.prompt(question), next(iter(question.answers), "")),),
            language=question.answer_language or question.language,
            task=question.task or self.benchmark.task,
            source=self.benchmark.name,
            extra=kept | ({"group": question.group} if question.group else {}),
        )
        return Item(sample, question.answers, question.choices)


def in_text_only(items: Sequence[Item]) -> list[Item]:
    """The same questions without their pictures."""
    return [replace(item, sample=replace(item.sample, images=())) for item in items]


def with_text(items: Sequence[Item], texts: Sequence[str]) -> list[Item]:
    """The same questions, each with a text in front of its prompt in the place of its pictures."""
    found = []
    for item, text in zip(in_text_only(items), texts, strict=True):
        turn = item.sample.turns[-1]
        asked = Turn(f"{text} {turn.prompt}", turn.answer)
        found.append(replace(item, sample=replace(item.sample, turns=(asked,))))
    return found


def sha256_questions(items: Sequence[Item]) -> str:
    """Names what was asked and what counts as right: equal hashes mean the same test."""
    digest = hashlib.sha256()
    for item in items:
        parts = (item.sample.id, item.sample.turns[-1].prompt, *item.references, *item.choices)
        digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()


def sha256_data(items: Sequence[Item]) -> str:
    """Names what counts as right for which pictures, in whatever words it is asked: equal hashes, equal data."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(
            "\x1f".join((item.sample.id, *item.references)).encode("utf-8", "surrogatepass") + b"\x1e"
        )
    return digest.hexdigest()
