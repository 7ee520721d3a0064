"""The judge: read from official files, asked in both orders over real HTTP, never averaged when unreadable."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.evaluation.chat_server import DROP, chat_server

from polylens.errors import UserError
from polylens.evaluation.judge import CACHE, read_grades, score_verdicts, wording
from polylens.evaluation.judge_questions import read_answers, read_questions
from polylens.evaluation.judge_run import judge_answers
from polylens.evaluation.peers.chat import ChatClient, Prices

pytest.importorskip("openai", reason="the extra 'endpoint' is not installed")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "qa90"
    folder.mkdir()
    kinds = ["conv", "detail", "complex"] * 2
    write_lines(
        folder / "qa90_questions.jsonl",
        [
            {
                "question_id": i,
                "image": f"{i // 3}.jpg",
                "text": f"What is {i}? Describe what the people in the picture are doing.",
                "category": kind,
            }
            for i, kind in enumerate(kinds)
        ],
    )
    write_lines(
        folder / "qa90_gpt4_answer.jsonl",
        [{"question_id": i, "text": f"reference {i}", "category": kind} for i, kind in enumerate(kinds)],
    )
    box = {"category": "cat", "bbox": [0.1, 0.25, 0.5, 1]}
    write_lines(
        folder / "caps_boxes_coco2014_val_80.jsonl",
        [
            {"id": str(i), "image": f"{i}.jpg", "captions": ["a cat", "one cat"], "instances": [box]}
            for i in (0, 1)
        ],
    )
    return folder


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [{"id": f"qa90:{i}", "prediction": f"answer {i}", "language": "en"} for i in range(6)]
    return write_lines(tmp_path / "predictions.jsonl", [{"fingerprint": {}}, *rows])


def grades_by_name(body: dict[str, Any]) -> str:
    """References are worth 8 and answers 6, wherever they stand."""
    text = body["messages"][0]["content"]
    first_is_reference = text.index("reference") < text.index("answer ")
    return "8 6\nbecause" if first_is_reference else "6 8\nbecause"


def run(server: Any, answers: Path, data: Path, out: Path, **settings: Any) -> Any:
    client = ChatClient(server.url, "judge", timeout=20, retries=2, concurrency=3)
    return judge_answers(client, answers, data, out, **settings)


def test_both_orders_are_judged_and_averaged(data: Path, answers: Path, tmp_path: Path) -> None:
    with chat_server(grades_by_name) as server:
        results = run(server, answers, data, tmp_path / "out")
        assert len(server.requests) == 12
    row = results["languages"]["en"]
    assert row["judge_score"] == pytest.approx(75.0)
    assert (row["reference_grade"], row["answer_grade"], row["judge_preferred"]) == (8, 6, 0)
    assert {name: group["en"]["n"] for name, group in results["groups"].items()} == {
        "conv": 2,
        "detail": 2,
        "complex": 2,
    }
    settings = results["settings"]
    assert (settings["judge"], settings["judge_served_as"]) == ("judge", ["judge-2026"])
    assert results["date"][:4].isdigit()
    saved = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert saved["languages"] == results["languages"]
    assert "LLaVA-QA90" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_judge_that_likes_the_first_answer_moves_nothing(data: Path, answers: Path, tmp_path: Path) -> None:
    with chat_server(lambda body: "9 5") as server:
        row = run(server, answers, data, tmp_path / "out")["languages"]["en"]
    assert row["judge_score"] == pytest.approx(100.0)
    assert row["judge_preferred"] == 0.5


def test_unreadable_replies_are_counted_and_in_no_mean(data: Path, answers: Path, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        text = body["messages"][0]["content"]
        return "I would rather not." if "What is 4?" in text else grades_by_name(body)

    with chat_server(reply) as server:
        results = run(server, answers, data, tmp_path / "out")
    row = results["languages"]["en"]
    assert (row["judge_score"], row["n"], row["unparseable"]) == (pytest.approx(75.0), 5, 2)
    assert results["groups"]["detail"]["en"]["unparseable"] == 2
    assert any("2 of 12 replies could not be read" in note for note in results["notes"])


def test_nothing_is_paid_for_twice(data: Path, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with chat_server(grades_by_name, [429, DROP, 500]) as server:
        first = run(server, answers, data, out)
        asked = len(server.requests)
        assert asked == 12 + 3
        assert run(server, answers, data, out)["languages"] == first["languages"]
        assert len(server.requests) == asked
        # A kill may leave half a line.
        lines = (out / CACHE).read_bytes().splitlines(keepends=True)
        (out / CACHE).write_bytes(b"".join(lines[:7]) + lines[7][:20])
        assert run(server, answers, data, out)["languages"] == first["languages"]
        assert len(server.requests) == asked + 5


def test_an_unreachable_judge_keeps_what_was_said(data: Path, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    client = {"timeout": 20, "retries": 0, "concurrency": 1}
    with chat_server(grades_by_name) as server:
        server.faults = ["", "", "", "", 503]
        with pytest.raises(UserError, match="HTTP 503"):
            judge_answers(ChatClient(server.url, "judge", **client), answers, data, out)
        judge_answers(ChatClient(server.url, "judge", **client), answers, data, out)
        assert len(server.requests) == 13


def test_costs_are_said_before_the_start(data: Path, answers: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    with chat_server(grades_by_name) as server:
        settings = {"prices": Prices(1000.0, 0.0), "only_estimate": True, "console": console}
        assert run(server, answers, data, tmp_path / "out", **settings) is None
        assert server.requests == []
    text = console.export_text()
    assert "12 requests" in text
    assert "$" in text


def test_the_judge_reads_all_that_it_needs(data: Path, answers: Path, tmp_path: Path) -> None:
    questions, language = read_questions(data)
    assert language == "en"
    said = read_answers(answers, questions)
    asked = wording("en").ask(questions[0], said[0], swapped=False)
    pieces = ["a cat\none cat", "cat: [0.1, 0.25, 0.5, 1]", "What is 0? Describe", "reference 0", "answer 0"]
    assert [asked.index(piece) for piece in pieces] == sorted(asked.index(piece) for piece in pieces)
    swapped = wording("en").ask(questions[0], said[0], swapped=True)
    assert swapped.index("answer 0") < swapped.index("reference 0")


def test_a_rule_file_takes_the_place_of_our_words(data: Path, answers: Path, tmp_path: Path) -> None:
    rule = tmp_path / "rule.json"
    rule.write_text(json.dumps({"conv": {"role": "Assistant", "prompt": "RULE FOR CONV"}}))
    questions, _ = read_questions(data)
    ruled = wording("en", rule)
    assert ruled.ask(questions[0], "x", False).endswith("RULE FOR CONV")
    assert ruled.ask(questions[1], "x", False) == wording("en").ask(questions[1], "x", False)
    assert ruled.name.startswith("rule.json (")
    rule.write_text("[1]")
    with pytest.raises(UserError, match="no rule file"):
        wording("en", rule)


@pytest.mark.parametrize(
    ("reply", "grades"),
    [
        ("8 7\nBoth are fine.", (8, 7)),
        ("\n 8.5, 10 \n", (8.5, 10)),
        ("8/10 9/10", (8, 9)),
        ("Assistant 1: 8, Assistant 2: 9.", (8, 9)),
        ("助手1：８分，助手2：９分", (8, 9)),
        ("8 7 6", None),
        ("8", None),
        ("0 5", None),
        ("5 11", None),
        ("Both are good.\n8 7", None),
        ("-3 5", None),
        ("", None),
        ("NaN inf", None),
    ],
)
def test_grades(reply: str, grades: tuple[float, float] | None) -> None:
    assert read_grades(reply) == grades


@given(st.text() | st.text(alphabet="0123456789 ./-,:\n助手１assistant"))
def test_grades_of_any_text(reply: str) -> None:
    grades = read_grades(reply)
    assert grades is None or all(1 <= grade <= 10 for grade in grades)


def test_no_readable_verdict_is_no_score(data: Path, answers: Path, tmp_path: Path) -> None:
    with chat_server(lambda body: "no") as server:
        results = run(server, answers, data, tmp_path / "out")
    assert results["languages"]["en"] == {"n": 0, "unparseable": 12}
    assert score_verdicts([])["all"].score is None


def test_files_that_do_not_fit_are_one_sentence(data: Path, answers: Path, tmp_path: Path) -> None:
    questions, _ = read_questions(data)
    write_lines(answers, [{"question_id": 0, "text": "a"}, {"question_id": 3, "text": "b"}])
    with pytest.raises(UserError, match="no answer to 4 of 6 questions: 1, 2, 4, 5"):
        read_answers(answers, questions)
    write_lines(answers, [{"question_id": 0, "text": "a"}, {"question_id": 0, "text": "b"}])
    with pytest.raises(UserError, match="line 2: question 0 is answered in line 1 already"):
        read_answers(answers, questions)
    write_lines(data / "qa90_gpt4_answer.jsonl", [{"question_id": 0, "text": "a"}] * 2)
    with pytest.raises(UserError, match=r"answer.jsonl, line 2: '0' comes a second time; .*line 1"):
        read_questions(data)
    write_lines(data / "qa90_gpt4_answer.jsonl", [{"question_id": 0, "text": "a"}])
    with pytest.raises(UserError, match="no reference or no context of question 1"):
        read_questions(data)
    (data / "qa90_questions.jsonl").unlink()
    with pytest.raises(UserError, match="has no 'qa90_questions"):
        read_questions(data)


@pytest.mark.official
def test_official_chinese_files() -> None:
    given = os.environ.get("POLYLENS_BENCHMARKS")
    folder = Path(given or Path(__file__).parents[3] / "shared" / "benchmarks") / "llava_qa90_zh"
    if not folder.is_dir():
        if given:
            pytest.fail(f"POLYLENS_BENCHMARKS is set, but {folder} is missing")
        pytest.skip(f"{folder} is not there")
    questions, language = read_questions(folder)
    assert (len(questions), language) == (90, "zh")
    assert all(question.captions and question.reference for question in questions)
    ruled = wording("zh", folder / "rule_zh.json")
    asked = ruled.ask(questions[0], "回答", False)
    assert "助理1" in asked
    assert questions[0].reference in asked


def test_answers_in_any_language_can_be_judged():
    asked = wording("sw")
    assert asked.name == "polylens, English, about Swahili"
    assert "The question is in Swahili" in asked.instruction
    assert wording("en").instruction in asked.instruction
    assert wording("zh").name == "polylens, Chinese"
