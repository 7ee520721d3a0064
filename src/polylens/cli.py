"""The command `polylens`: thin commands over the rooms, which import heavy things only when run."""

import errno
import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polylens import __version__
from polylens.commands import data, describe, evaluation, picto, training
from polylens.commands.benchmarks import benchmarks
from polylens.commands.chat import chat, convert
from polylens.commands.check import check
from polylens.commands.common import complain
from polylens.commands.compare import compare
from polylens.commands.convert_data import convert_data
from polylens.commands.features import features
from polylens.commands.judge import judge
from polylens.commands.languages import languages
from polylens.commands.models import convert_mblip, export, info, merge
from polylens.commands.paint import paint
from polylens.commands.plan import plan
from polylens.commands.recipes import recipes
from polylens.commands.report import report
from polylens.commands.score_paintings import score_paintings
from polylens.commands.serve import serve
from polylens.commands.translate import plan_languages, translate, translate_prompts
from polylens.commands.verify import verify
from polylens.errors import UserError

WRONG_USE = 2
INTERRUPTED = 130
BROKEN_PIPE = 1  # as Rich has it
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
RESUMABLE = (
    "demo",
    "download",
    "features",
    "mix",
    "train",
    "translate",
    "translate-prompts",
    "evaluate",
    "judge",
    "picto",
)


class Commands(TyperGroup):
    """Ends what the user can mend, and what the user did, with one sentence on stderr and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except UserError as error:
            complain(str(error))
            raise typer.Exit(WRONG_USE) from error
        except KeyboardInterrupt as error:
            again = " Run the same command again to go on." if ctx.invoked_subcommand in RESUMABLE else ""
            complain(f"Interrupted.{again}", "stopped")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            _forget_output()
            raise typer.Exit(BROKEN_PIPE) from error
        except Exception as error:
            sentence = _about_files(error)
            if sentence is None:
                raise
            complain(sentence)
            _forget_output()
            raise typer.Exit(WRONG_USE) from error


def _about_files(error: Exception) -> str | None:
    """One sentence for a disk that is full or a file that is refused, wherever a library met it."""
    number = error.errno if isinstance(error, OSError) else None
    name = f"'{error.filename}'" if isinstance(error, OSError) and error.filename else "The output"
    # Libraries written in Rust give the text of the error only.
    if number in FULL or "No space left on device" in str(error):
        return f"{name} cannot be written, the disk is full: free some space and run the command again."
    if number in REFUSED:
        return f"{name} cannot be used ({os.strerror(number).lower()}): choose another place."
    return None


def _forget_output() -> None:
    """What is still in the buffer cannot be written: Python must not try again when it ends."""
    if sys.stdout is sys.__stdout__:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


app = typer.Typer(
    name="polylens",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"polylens {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Vision-language models for any language, out of parts that exist.

    \b
    Begin with
      [bold]polylens demo[/]                              the idea in minutes, no GPU
      [bold]polylens caption cat.png --lang de,sw,zh[/]   captions of a pictogram
      [bold]polylens train picto data.path=FOLDER[/]      your own pictures
      [bold]polylens evaluate MODEL --data FOLDER[/]      scores by language, a report

    RECIPE and MODEL are a path if it exists, else the name of a packaged one, else (MODEL) a hub id.
    Exit codes: 0 done; 1 something to mend, or a number that is off (check, verify); 2 a mistake in what was given,
    told in one sentence; 130 interrupted.
    """
    # Here, before anything imports it: what it has to say it says while it is imported.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


app.command()(picto.demo)
app.command()(training.train)
app.command()(evaluation.evaluate)
app.command()(benchmarks)
app.command()(score_paintings)
app.command()(compare)
app.command()(judge)
app.command()(report)
app.command()(describe.caption)
app.command()(chat)
app.command()(serve)
app.command()(paint)
app.command()(training.inspect)
app.command()(check)
app.command()(recipes)
app.command()(data.download)
app.command()(data.balance)
app.command()(data.mix)
app.command()(data.neighbours)
app.command()(convert_data)
app.command()(translate)
app.command()(translate_prompts)
app.command()(plan_languages)
app.command()(languages)
app.command()(plan)
app.command()(info)
app.command()(export)
app.command()(merge)
app.command()(features)
app.command()(verify)
app.command()(convert)
app.command()(convert_mblip)
app.add_typer(picto.app, name="picto")
