"""LLaVA-QA90 with a judge: a text model reads what is in the picture, and grades the reference and the answer.

    question, context, two answers -> judge, both orders -> grades 1-10 -> 100 x mean(answer) / mean(reference)

The picture itself is not shown to the judge: people's captions and the boxes of its objects stand for it (Liu et al.,
2023, Visual Instruction Tuning, section 5.1). Each pair is judged twice, with the order of the answers swapped.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex

from polylens.data.rows import json_lines, read_json
from polylens.errors import UserError
from polylens.evaluation.bootstrap import Score, bootstrap
from polylens.evaluation.judge_prompts import Wording, own_wording
from polylens.evaluation.judge_questions import Question
from polylens.evaluation.peers.chat import (
    ChatClient,
    Estimate,
    Prices,
    estimate,
    map_concurrently,
    text_tokens,
)
from polylens.files import json_text, make_writable_folder

CACHE = "judgements.jsonl"
LOWEST, HIGHEST = 1.0, 10.0
MAX_TOKENS = 1024
NUMBER = regex.compile(r"(?<![\p{L}\d.,\-−])\d+(?:\.\d+)?(?!\d)")
# What stands for the same digits and signs in Chinese text.
HALF_WIDTH = str.maketrans("０１２３４５６７８９．／", "0123456789./")


@dataclass(frozen=True)
class Verdict:
    """What the judge said of one question in one order; without `grades` its reply could not be read."""

    question: Question
    swapped: bool
    reply: str
    grades: tuple[float, float] | None

    @property
    def reference_and_answer(self) -> tuple[float, float] | None:
        if self.grades is None:
            return None
        return (self.grades[1], self.grades[0]) if self.swapped else self.grades


def wording(language: str, rule: str | Path | None = None) -> Wording:
    """How the judge is asked about answers in `language`: in our own words, or with the prompts of a rule file.

    Raises `UserError` for a rule file without prompts.
    """
    own = own_wording(language)
    if rule is None:
        return own
    content = read_json(rule)
    try:
        rules = {str(category): str(entry["prompt"]) for category, entry in content.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"'{rule}' is no rule file: it needs {{category: {{prompt: ...}}}}.") from error
    digest = hashlib.sha256(Path(rule).read_bytes()).hexdigest()
    return own.with_rules(rules, f"{Path(rule).name} ({digest[:12]})")


@dataclass(frozen=True)
class Judge:
    """A judge with its wording; what it said is kept in `folder` and never asked for again."""

    client: ChatClient
    wording: Wording
    folder: Path

    def estimate(
        self, questions: Sequence[Question], answers: Sequence[str], prices: Prices | None = None
    ) -> Estimate:
        """What is still to be asked, and what it will cost at most."""
        said = self._said()
        texts = [
            text
            for question, answer in zip(questions, answers, strict=True)
            for swapped in (False, True)
            if self._key(text := self.wording.ask(question, answer, swapped)) not in said
        ]
        return estimate(len(texts), sum(map(text_tokens, texts)), len(texts) * MAX_TOKENS, prices)

    def judge(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[Verdict]:
        """Both orders of every pair. Raises `UserError` when the judge cannot be reached; what it said is kept."""
        make_writable_folder(self.folder)
        said = self._said()
        pairs = [
            (question, swapped, self.wording.ask(question, answer, swapped))
            for question, answer in zip(questions, answers, strict=True)
            for swapped in (False, True)
        ]
        missing = list({text: None for _, _, text in pairs if self._key(text) not in said})
        advance(len(pairs) - len(missing))
        path = self.folder / CACHE
        with path.open("a", encoding="utf-8", newline="\n") as file:
            for place, reply in map_concurrently(self._ask, missing, self.client.concurrency):
                key = self._key(missing[place])
                said[key] = reply.text
                row = {"key": key, "reply": reply.text, "judge": reply.model or self.client.model}
                file.write(json_text(row) + "\n")
                file.flush()
                advance(1)
        verdicts = []
        for question, swapped, text in pairs:
            reply_text = said[self._key(text)]
            verdicts.append(Verdict(question, swapped, reply_text, read_grades(reply_text)))
        return verdicts

    def served(self) -> list[str]:
        """The names by which the server called the judge, over all that is kept."""
        rows = json_lines(self.folder / CACHE) if (self.folder / CACHE).exists() else ()
        return sorted({str(row["judge"]) for _, row in rows})

    def _ask(self, text: str) -> Any:
        return self.client.ask([{"role": "user", "content": text}], max_tokens=MAX_TOKENS)

    def _key(self, text: str) -> str:
        named = json.dumps([self.client.url, self.client.model, text], ensure_ascii=False)
        return hashlib.sha256(named.encode()).hexdigest()

    def _said(self) -> dict[str, str]:
        path = self.folder / CACHE
        if not path.exists():
            return {}
        whole = path.read_bytes()
        # A kill may leave half a line, which is asked anew.
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:
            os.truncate(path, len(kept))
        return {row["key"]: row["reply"] for _, row in json_lines(path)}


def read_grades(reply: str) -> tuple[float, float] | None:
    """The two grades of the first line that is not empty; None unless it has exactly two numbers from 1 to 10."""
    line = next((line for line in reply.splitlines() if line.strip()), "").translate(HALF_WIDTH)
    # "8/10 9/10" names the scale, and "Assistant 1: 8" the answer.
    line = regex.sub(r"/\s*10\b", " ", line)
    line = regex.sub(r"(?i)(?:assistant|answer|助手|助理|回答)\s*[12]\s*(?:is|的)?[^\d]*?[:：=]", " ", line)
    grades = [float(number) for number in NUMBER.findall(line)]
    if len(grades) != 2 or not all(LOWEST <= grade <= HIGHEST for grade in grades):
        return None
    return grades[0], grades[1]


@dataclass(frozen=True)
class JudgeScore:
    """100 x mean(answer) / mean(reference) over questions whose both verdicts could be read; `unparseable` counts
    replies that could not, and `preferred` how often the answer got the higher grade (a tie counts half).
    """

    score: Score | None
    reference: float
    answer: float
    preferred: float
    unparseable: int


def score_verdicts(verdicts: Sequence[Verdict], seed: int = 0) -> dict[str, JudgeScore]:
    """Over all questions ("all") and by category. A question with an unreadable reply is in no mean, so that the
    two orders stay balanced.
    """
    groups: dict[str, dict[str, list[Verdict]]] = {"all": {}}
    for verdict in verdicts:
        for name in ("all", verdict.question.category):
            groups.setdefault(name, {}).setdefault(verdict.question.id, []).append(verdict)
    return {name: _score(list(group.values()), seed) for name, group in groups.items()}


def _score(questions: Sequence[Sequence[Verdict]], seed: int) -> JudgeScore:
    unparseable = sum(verdict.grades is None for verdicts in questions for verdict in verdicts)
    means: list[Any] = []
    preferred: list[float] = []
    for verdicts in questions:
        pairs = [pair for verdict in verdicts if (pair := verdict.reference_and_answer) is not None]
        if len(pairs) == len(verdicts):
            means.append(np.mean(pairs, axis=0))
            preferred.append(
                float(
                    np.mean([(answer > reference) + (answer == reference) / 2 for reference, answer in pairs])
                )
            )
    if not means:
        return JudgeScore(None, float("nan"), float("nan"), float("nan"), unparseable)
    statistics = np.stack(means)
    score = bootstrap(statistics, lambda sums: 100 * sums[:, 1] / sums[:, 0], seed=seed)
    reference, answer = statistics.mean(0).tolist()
    return JudgeScore(score, reference, answer, float(np.mean(preferred)), unparseable)
