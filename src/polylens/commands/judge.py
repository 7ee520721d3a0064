"""`polylens judge`."""

from pathlib import Path
from typing import Annotated

import typer

from polylens.commands.common import Json, complain, consoles, folder_name, print_json, say
from polylens.errors import UserError
from polylens.languages import language


def judge(
    answers: Annotated[
        Path,
        typer.Argument(
            metavar="ANSWERS", help="predictions.jsonl of an evaluation, or rows of question_id and text."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="LLaVA-QA90 in one language: questions, references and contexts."
        ),
    ],
    by: Annotated[
        str,
        typer.Option(metavar="URL#MODEL", help="The judge, as in https://HOST/v1#MODEL.", show_default=False),
    ],
    lang: Annotated[
        str | None, typer.Option(metavar="CODE", help="The language of the questions; else it is identified.")
    ] = None,
    rule: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An official rule file instead of our own wording.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where results are written; by default runs/judge_ANSWERS_MODEL.")
    ] = None,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="IN OUT", help="Dollars for a million tokens read and written, to estimate costs."
        ),
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it would cost, and stop.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a reply.")] = 120,
    retries: Annotated[int, typer.Option(min=0, help="Further tries after a fault.")] = 6,
    as_json: Json = False,
) -> None:
    """Have a language model grade answers to LLaVA-QA90 against the reference answers.

    Every pair is judged in both orders. What the judge said is kept, so that a run that was stopped goes on where it
    was and no reply is paid for twice. A key is read from POLYLENS_API_KEY or OPENAI_API_KEY.

    \b
    Examples
      polylens judge runs/x/predictions.jsonl --data llava_qa90_zh --by https://HOST/v1#MODEL --estimate
      polylens judge answers.jsonl --data llava_qa90 --by http://localhost:8000/v1#MODEL --rule rule.json
    """
    from polylens.evaluation.judge_run import judge_answers
    from polylens.evaluation.peers.chat import ChatClient, Prices
    from polylens.evaluation.report import print_table

    console, stderr = consoles(as_json)
    if price and min(price) < 0:
        raise UserError(f"The prices {price[0]:g} and {price[1]:g} must not be negative.")
    client = ChatClient.named(by, timeout=timeout, retries=retries, concurrency=concurrency)
    out = out or Path("runs") / folder_name(
        "judge", answers.resolve().parent.name, answers.stem, client.model
    )
    results = judge_answers(
        client,
        answers,
        data,
        out,
        language=None if lang is None else language(lang).code,
        rule=rule,
        prices=Prices(*price) if price else None,
        only_estimate=estimate,
        console=stderr,
    )
    if results is None:
        return
    print_table(results, console)
    for note in results["notes"]:
        complain(note, "note")
    say(console, f"The report is {out / 'report.html'}")
    if as_json:
        print_json(results)
