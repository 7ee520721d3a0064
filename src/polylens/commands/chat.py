"""`polylens chat` and `polylens convert`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from polylens.commands.common import (
    Device,
    Model,
    Precision,
    complain,
    consoles,
    open_model,
    quiet_libraries,
    say,
)
from polylens.commands.decoding import (
    LengthPenalty,
    NumBeams,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    decoding,
)
from polylens.errors import UserError
from polylens.languages import language

if TYPE_CHECKING:
    from polylens.models.decoding.chat import Chat
    from polylens.models.limits import Limits

PROMPT = "> "
COMMANDS = {
    "/image FILE ...": "show the model further images with your next question",
    "/lang CODE": "have answers in that language; /lang alone leaves it to the model",
    "/save FILE": "keep the conversation as JSON; --history FILE goes on with it",
    "/help": "this list",
    "/quit": "end; so does Ctrl-D",
}


def chat(
    model: Model,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An image to begin with; may be repeated.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="CODE", help="The language of the answers, as in zh.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A conversation kept by /save, to go on with.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Ask this and end, in place of a dialogue; may be repeated."),
    ] = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 256,
    precision: Precision = "float32",
    stream: Annotated[
        Literal["cpu", "disk"] | None,
        typer.Option(help="VisCPM and CPM-Bee: keep the layers there, and bring in each when it is needed."),
    ] = None,
    device: Device = None,
    check_image: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="An image classifier or safety checker that refuses images."),
    ] = None,
    unsafe_image: Annotated[
        str | None, typer.Option(metavar="LABELS", help="The image classifier's labels that refuse.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The classifier refuses above this probability.")
    ] = 0.5,
) -> None:
    """Talk with a model about images, in any of its languages.

    An empty line asks for a caption of the images. Ctrl-C stops an answer, and only that; /help lists what else
    there is. The question may come from a pipe as well, one on each line.

    \b
    Examples
      polylens chat picto --image cat.png --lang de
      polylens chat viscpm-chat --image street.jpg --precision bfloat16
      polylens chat viscpm-chat --image street.jpg --precision bfloat16 --stream disk     10B in a few GB
      echo 'What is this?' | polylens chat runs/mine/model --image a.jpg
      polylens chat viscpm-chat --image a.jpg --prompt 'What is this?' --temperature 0.9 --top-p 0.9 --seed 1
    """
    code = None if lang is None else language(lang).code
    quiet_libraries()
    from polylens.models.limits import limits_of

    console, stderr = consoles()
    messages = _read_history(history) if history else []
    opened = open_model(model, precision, stream, device)
    from polylens.models.asking import warn_of_unknown

    warn_of_unknown(opened, [code] if code else [], model)
    limits = limits_of(model)
    if limits is not None:
        complain(limits.note(model), "note")
    settings = decoding(
        opened.chat,
        model,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        length_penalty=length_penalty,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    talk = opened.chat(code, messages, **settings)
    check = _image_check(check_image, unsafe_image, threshold, limits)
    for path in image or []:
        check(path)
    if prompt:
        waiting = [*(image or [])]
        for line in prompt:
            _answer(talk, line, waiting, console, stderr)
        return
    _converse(talk, [*(image or [])], console, stderr, check)


def _image_check(
    model: str | None, labels: str | None, threshold: float, limits: "Limits | None"
) -> Callable[[Path], None]:
    """What looks at every image before the model does. It warns of one that the model does not know the kind of, and
    raises `UserError` for one that is unreadable or blocked.
    """
    from polylens.data.images import FilePicture

    guard = None
    if model is not None:
        from polylens.painting.guards import image_check

        guard = image_check(model, labels.split(",") if labels else None, threshold)

    def look(path: Path) -> None:
        picture = FilePicture(path).load()
        if guard is not None and (why := guard.refused([picture])[0]):
            raise UserError(f"The image '{path}' is refused: {why}.")
        if limits is not None and not limits.fits(picture):
            complain(limits.warning(str(path)), "warning")

    return look


def _read_history(path: Path) -> Any:
    from polylens.data.rows import read_json

    return read_json(path)


def _converse(
    talk: "Chat", waiting: list[Path], console: Console, stderr: Console, check: Callable[[Path], None]
) -> None:
    """Questions and answers until the input ends; `waiting` are images for the next question."""
    person = sys.stdin.isatty()
    if person:
        stderr.print("Ask away; /help says what else there is.", style="dim")
        import readline  # noqa: F401 (lines can be edited and recalled)
    while True:
        try:
            line = input(PROMPT if person else "").strip()
        except KeyboardInterrupt:  # at the prompt it forgets the line
            stderr.print()
            continue
        except EOFError:
            return
        try:
            if line.startswith("/"):
                if not _command(talk, line, waiting, console, check):
                    return
            else:
                _answer(talk, line, waiting, console, stderr)
        except UserError as error:
            complain(str(error))
            if not person:
                raise typer.Exit(2) from error


def _answer(talk: "Chat", line: str, waiting: list[Path], console: Console, stderr: Console) -> None:
    pieces = talk.stream(line, waiting)
    try:
        for piece in pieces:
            console.print(Text(piece), end="", soft_wrap=True)
            console.file.flush()
    except KeyboardInterrupt:
        pieces.close()
        stderr.print(" (stopped)", style="dim", end="")
    else:
        if talk.finish_reason == "length":
            stderr.print(" (cut: --max-new-tokens allows for more)", style="dim", end="")
    console.print()
    waiting.clear()


def _command(
    talk: "Chat", line: str, waiting: list[Path], console: Console, check: Callable[[Path], None]
) -> bool:
    """What a line that begins with `/` asks for; False ends the conversation."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/quit":
            return False
        case "/help":
            for command, meaning in COMMANDS.items():
                say(console, f"  {command:<17}{meaning}")
        case "/lang":
            from polylens.models.asking import warn_of_unknown

            talk.language = language(rest).code if rest else None
            warn_of_unknown(talk.model, [talk.language] if talk.language else [])
            say(console, f"answers in {language(talk.language).name if talk.language else 'any language'}")
        case "/image" if rest:
            paths = [Path(rest)] if Path(rest).exists() else [Path(word) for word in rest.split()]
            for path in paths:
                check(path)
            waiting += paths
            say(console, f"{len(waiting)} image{'s' * (len(waiting) > 1)} with the next question")
        case "/save" if rest:
            from polylens.files import write_atomic

            write_atomic(rest, json.dumps(talk.messages, ensure_ascii=False, indent=1) + "\n")
            say(console, f"{len(talk.messages) // 2} turns are in {rest}")
        case "/image" | "/save":
            raise UserError(f"{name} needs a file, as in: {name} FILE")
        case _:
            raise UserError(f"There is no {name}: /help lists what there is.")
    return True


def convert(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The released .pt or .bin of VisCPM-Chat, VisCPM-Paint or CPM-Bee."
        ),
    ],
    vocab: Annotated[Path, typer.Option(metavar="FILE", help="The vocab.txt of CPM-Bee.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder.")],
    text_only: Annotated[
        bool, typer.Option("--text-only", help="CPM-Bee alone, out of its own file or VisCPM's.")
    ] = False,
    sizes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of the model's sizes, where they are not those of the 10B."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For VisCPM-Paint: Stable Diffusion 2.1-base.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="See images of another size; positions are interpolated.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="The type of the weights that are written; the file's own by default."),
    ] = None,
) -> None:
    """Turn a released file of VisCPM into a folder of sharded safetensors, which all commands take.

    The file is mapped into memory, never copied whole, and nothing in it is executed.

    \b
    Examples
      polylens convert vlu.pt --vocab vocab.txt --out viscpm-chat
      polylens convert viscpm_paint_balance_checkpoint.pt --vocab vocab.txt --base sd-2.1-base --out viscpm-paint
      polylens convert cpm-bee-10b.bin --vocab vocab.txt --out cpm-bee --text-only
      polylens convert vlu.pt --vocab vocab.txt --out viscpm-448 --image-size 448
    """
    import torch

    from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
    from polylens.viscpm.files import (
        is_released_painter,
        read_released_cpm_bee,
        read_released_viscpm,
        save_folder,
        set_image_size,
    )

    if text_only and image_size is not None:
        raise UserError("CPM-Bee alone sees no images: leave out --image-size.")
    quiet_libraries()
    console, _ = consoles()
    paints = is_released_painter(weights) and not text_only
    if paints != (base is not None):
        told = "is VisCPM-Paint: give --base, a Stable Diffusion 2.1-base" if paints else "is no VisCPM-Paint"
        raise UserError(f"'{weights}' {told}{'' if paints else ', and --base is for that: leave it out'}.")
    if paints:
        from polylens.painting.folder import save_painter
        from polylens.painting.viscpm import read_released_painter

        painter = read_released_painter(
            weights, str(base), vocab, sizes=sizes, dtype=getattr(torch, precision or "float16")
        )
        save_painter(painter, out, {"converted_from": weights.name})
        say(console, f"{out} is ready. Try it: polylens paint {out} 'a dog in the snow'")
        return
    tokenizer = CpmBeeTokenizer.from_pretrained(vocab)
    dtype = None if precision is None else getattr(torch, precision)
    read = read_released_cpm_bee if text_only else read_released_viscpm
    model = read(weights, sizes, dtype)
    if image_size is not None:
        set_image_size(model, image_size)
    save_folder(model, tokenizer, out)
    say(console, f"{out} is ready. Try it: polylens chat {out}{'' if text_only else ' --image photo.jpg'}")
