"""A judged benchmark from answers to report: estimate, verdicts, scores by category, results.json and page."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from polylens import __version__
from polylens.evaluation.judge import (
    Judge,
    JudgeScore,
    Verdict,
    score_verdicts,
    wording,
)
from polylens.evaluation.judge_questions import Question, read_answers, read_questions
from polylens.evaluation.peers.chat import ChatClient, Prices
from polylens.evaluation.report import write_report
from polylens.files import json_text, sha256_file, write_atomic
from polylens.progress import progress_bar

VERDICTS = "verdicts.jsonl"


def judge_answers(
    client: ChatClient,
    answers: str | Path,
    data: str | Path,
    out: Path,
    *,
    language: str | None = None,
    rule: str | Path | None = None,
    prices: Prices | None = None,
    only_estimate: bool = False,
    console: Console | None = None,
) -> dict[str, Any] | None:
    """Judge the answers and write results.json, verdicts.jsonl, results.csv and report.html into `out`.

    `language` is that of the questions, identified unless it is given. The estimate is printed before the first
    request; with `only_estimate` nothing is sent and None returned. Raises `UserError` for files that do not fit
    together and for a judge that cannot be reached.
    """
    console = console or Console(quiet=True)
    questions, language = read_questions(data, language)
    said = read_answers(answers, questions)
    judge = Judge(client, wording(language, rule), out)
    console.print(f"To ask {client.model}: {judge.estimate(questions, said, prices)}", highlight=False)
    if only_estimate:
        return None
    start = time.monotonic()
    with progress_bar(console) as bar:
        task = bar.add_task("verdicts", total=2 * len(questions))
        verdicts = judge.judge(questions, said, lambda count: bar.advance(task, count))
    scores = score_verdicts(verdicts)
    results: dict[str, Any] = {
        "title": "LLaVA-QA90, judged",
        "model": str(answers),
        "benchmark": "llava-qa90",
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len(questions),
        "languages": {language: _row(scores["all"])},
        "groups": {name: {language: _row(score)} for name, score in scores.items() if name != "all"},
        "notes": _notes(questions, verdicts, scores["all"], client),
        "seconds": {"verdicts": round(time.monotonic() - start, 1)},
        "settings": {
            "judge": client.model,
            "judge_served_as": judge.served(),
            "judge_endpoint": client.url,
            "wording": judge.wording.name,
            "orders": "both, averaged",
            "temperature": 0,
            "answers_sha256": sha256_file(answers),
            "tokens_this_time": dict(client.tokens),
        },
    }
    lines = [
        json_text(
            {
                "question_id": verdict.question.id,
                "category": verdict.question.category,
                "swapped": verdict.swapped,
                "reference_and_answer": verdict.reference_and_answer,
                "reply": verdict.reply,
            }
        )
        for verdict in verdicts
    ]
    write_atomic(out / VERDICTS, "".join(line + "\n" for line in lines))
    write_report(results, [], out)
    write_atomic(out / "results.json", json_text(results, indent=1))
    return results


def _row(score: JudgeScore) -> dict[str, Any]:
    if score.score is None:
        return {"n": 0, "unparseable": score.unparseable}
    found = score.score
    return {
        "judge_score": found.value,
        "judge_preferred": score.preferred,
        "reference_grade": score.reference,
        "answer_grade": score.answer,
        "unparseable": score.unparseable,
        "n": found.n,
        "intervals": {"judge_score": [found.low, found.high]},
    }


def _notes(
    questions: Sequence[Question], verdicts: Sequence[Verdict], score: JudgeScore, client: ChatClient
) -> list[str]:
    date = datetime.now(UTC).date().isoformat()
    notes = [
        f"Judged by {client.model} on {date}: another judge, or this one at another time, gives other numbers."
    ]
    if score.unparseable:
        left = len(questions) - (score.score.n if score.score else 0)
        notes.append(
            f"{score.unparseable} of {len(verdicts)} replies could not be read as two grades, so {left} of "
            f"{len(questions)} questions are in no score."
        )
    return notes
