"""`polylens recipes`."""

from typing import Annotated

import typer
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from polylens.commands.common import Json, consoles, print_json
from polylens.errors import UserError


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the packaged recipes, or print one: the beginning of a recipe of your own.

    \b
    Examples
      polylens recipes
      polylens recipes mblip-mt0-xl > mine.yaml
      polylens recipes --json
      polylens train mine.yaml
    """
    from polylens.recipe import packaged_recipes
    from polylens.recipe_text import suggestion

    known = packaged_recipes()
    console, _ = consoles()
    if name is None and as_json:
        print_json([{"name": each, "trains": summary(text)} for each, text in known.items()])
        return
    if name is None:
        table = Table(box=None, pad_edge=False)
        table.add_column("recipe")
        table.add_column("what it trains")
        for each, text in known.items():
            table.add_row(each, Text(summary(text)))
        console.print(table)
        return
    if name not in known:
        raise UserError(f"There is no packaged recipe '{name}': {suggestion(name, known)}")
    if as_json:
        from polylens.recipe_text import parse_yaml

        print_json(parse_yaml(known[name], f"The recipe '{name}'"))
    elif console.is_terminal:
        console.print(Syntax(known[name], "yaml", background_color="default", word_wrap=True))
    else:
        typer.echo(known[name], nl=False)


def summary(text: str) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    sentence, _, _ = " ".join(lines).partition(". ")
    return sentence.rstrip(".:") + "."
