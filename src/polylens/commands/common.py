"""What commands share: options, consoles, and the way to a model that is ready to use."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text, TextType

from polylens.files import json_text

Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a packaged one.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, such as stages.0.steps=200."),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model folder, a packaged name, or a hub id (owner/name[@revision])."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and all else on stderr.")]
PIPED_WIDTH = 1000
PrecisionName = Literal["float32", "bfloat16", "int8", "nf4"]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="Of the weights; int8 and nf4 hold the language model in 8 or 4 bits, on a GPU only."),
]
Device = Annotated[
    str | None, typer.Option(metavar="cpu|cuda[:N]", help="Where the model runs; a GPU if there is one.")
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="The longest caption, in tokens.")]


def consoles(as_json: bool = False) -> tuple[Console, Console]:
    """(for results, for progress and notes): stdout is kept clean where a machine reads it."""
    stderr = _console(stderr=True)
    return (stderr if as_json else _console()), stderr


def _console(stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    piped = not console.is_terminal and "COLUMNS" not in os.environ
    return PipedConsole(stderr=stderr) if piped else console


class PipedConsole(Console):
    """What is piped has no width of its own: tables are as wide as they need, and nothing is drawn over the width."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, width=PIPED_WIDTH)

    def rule(self, title: TextType = "", **settings: Any) -> None:
        self.print(title)

    def print(self, *objects: Any, **settings: Any) -> None:
        if not any(isinstance(each, Table) for each in objects):
            return super().print(*objects, **settings)
        with self.capture() as captured:
            super().print(*objects, **settings)
        # The last column is padded to the whole width.
        self.file.write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def complain(sentence: str, kind: str = "error") -> None:
    """One line on stderr, however narrow the terminal; `kind` is what stands before it."""
    line = " ".join(sentence.split())
    style = {"error": "bold red", "warning": "bold yellow"}.get(kind, "bold")
    Console(stderr=True).print(
        Text(f"{kind}: ", style=style).append(line, style="default not bold"), soft_wrap=True
    )


def say(console: Console, line: str) -> None:
    """One line as it is: names of files may hold what Rich takes for markup."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def print_json(value: Any) -> None:
    typer.echo(json_text(value, indent=1))


def quiet_libraries() -> None:
    """Keep transformers' bars, hints and deprecations out of the output; show our own warnings as one line each."""
    # transformers takes 0.7 s to import, and may not be needed: it reads these when it is.
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="transformers|peft")
    handler = _Complaints(logging.WARNING)
    logger = logging.getLogger("polylens")
    logger.handlers, logger.propagate = [handler], False


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage(), "warning")


def open_model(
    name: str,
    precision: PrecisionName = "float32",
    stream: Literal["cpu", "disk"] | None = None,
    device: str | None = None,
) -> Any:
    """That model, a `VisionLanguageModel` or a `VisCpmChat`; see `polylens.load`."""
    from polylens.library import load

    return load(name, precision=precision, device=device, stream=stream)


def folder_name(*parts: str | Path) -> str:
    """A folder name that tells what it is about, out of paths and names."""
    words = ["".join(c if c.isalnum() or c in "-_." else "-" for c in str(part)) for part in parts]
    return "_".join(word.strip("-.") for word in words if word.strip("-."))
