"""`polylens languages`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from polylens.commands.common import Json, consoles, print_json
from polylens.errors import UserError
from polylens.languages import LANGUAGES, language


def languages(
    known_to: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Only the languages that this model's language model knows."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the languages with their codes, scripts and shares of the mT5 corpus.

    Any spelling of a code is understood: iw is he, zh_Hans is zh, tl is fil; NLLB's codes too.

    \b
    Examples
      polylens languages
      polylens languages --known-to picto
      polylens languages --json
    """
    rows = list(LANGUAGES.values())
    if known_to is not None:
        from polylens.models.checkpoints.card import known_languages

        codes = known_languages(known_to)
        if codes is None:
            raise UserError(f"'{known_to}' does not say which languages it knows: see its model card.")
        rows = [language(code) for code in codes]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(title=f"{len(rows)} languages", title_justify="left")
    for heading in ("code", "language", "own name", "script", "family", "NLLB", "mT5 %"):
        table.add_column(heading, justify="right" if heading.endswith("%") else "left")
    for row in rows:
        share = "" if row.mt5_share is None else f"{row.mt5_share:.2f}"
        names = (row.code, row.name, row.own_name, row.script, row.family, row.nllb or "", share)
        table.add_row(*map(Text, names))
    consoles()[0].print(table)
