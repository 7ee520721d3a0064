"""What a recipe would train on, for people: counts, stages, and samples token by token."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from polylens.data.collate import IGNORED
from polylens.data.conversations import unroll
from polylens.data.mix import Mix
from polylens.data.sample import Picture, Sample, stored_at
from polylens.models.vlm import VisionLanguageModel
from polylens.recipe import Recipe
from polylens.training.check import check_model, fit_table
from polylens.training.run import beginning
from polylens.training.stages import apply_stage
from polylens.viscpm.model import VisCpmChat

WORD_STARTS = "▁Ġ"
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Token:
    """One place of a row: a piece of text, or a visual token of the sample's picture number `picture` > 0."""

    text: str
    trained: bool
    picture: int = 0


def show(recipe: Recipe, console: Console, num: int) -> None:
    """Print counts by language and task, the stages with parameter counts, and the first `num` samples.

    Raises `UserError` for whatever training would refuse before its first step.
    """
    if recipe.painter:
        from polylens.painting.train import show_painter

        return show_painter(recipe, console, num)
    model, samples, held_out = beginning(recipe, write_shards=False)
    for title, part in (("to train on", samples), ("to validate on", held_out)):
        if part:
            console.print(counts_table(part, f"{len(part):,} samples {title}"))
    console.print(fit_table(check_model(model, samples, recipe.data.max_length)))
    first = samples[:num]
    if isinstance(samples, Mix):
        console.print(parts_table(samples))
        # Those of a mix that would be drawn first.
        first = [samples[number] for number, _ in samples.order(num, recipe.seed).batch(0)]
    shown: list[tuple[Sample, list[Token], list[Token]]]
    if isinstance(model, VisCpmChat):
        shown = [(turn, dictionary(model, turn), []) for sample in first for turn in unroll(sample)]
    else:
        shown = [(sample, *tokens(model, sample, recipe.data.max_length)) for sample in first]
    for stage in recipe.stages:
        console.print(apply_stage(model, stage).table)
    if shown:
        console.print(Text.assemble(("+trained", "bold green"), "  ", ("only read", "dim")))
    for sample, read, answered in shown:
        console.print(heading(sample))
        console.print(render(read))
        if answered:
            console.print(Text("-> ").append_text(render(answered)))


def tokens(
    model: VisionLanguageModel, sample: Sample, max_length: int | None = None
) -> tuple[list[Token], list[Token]]:
    """(what the model reads, what an encoder-decoder is to answer), as training sees the sample."""
    batch = model.collator(max_length, with_pictures=False)([sample])
    assert batch.labels is not None
    ids, images, labels = (row[0].tolist() for row in (batch.input_ids, batch.image_mask, batch.labels))
    targets = [False] * len(ids) if model.is_encoder_decoder else [label != IGNORED for label in labels]
    read, seen = [], 0
    for token, image, trained in zip(ids, images, targets, strict=True):
        seen += image
        picture = (seen - 1) // model.num_image_tokens + 1 if image else 0
        read.append(Token("" if image else _text(model.tokenizer, token), trained, picture))
    if not model.is_encoder_decoder:
        return read, []
    return read, [Token(_text(model.tokenizer, label), True) for label in labels]


def dictionary(model: VisCpmChat, sample: Sample) -> list[Token]:
    """What VisCPM reads and learns of the last turn of a sample: a dictionary, segment by segment."""
    row = model.encode_sample(sample, sample.turns[-1].answer)
    places = [at for begin, end in row.images for at in range(begin, end)]
    pictures = {at: 1 + number // model.num_image_tokens for number, at in enumerate(places)}
    read: list[Token] = []
    for at, pair in enumerate(zip(row.ids, row.subs, strict=True)):
        text = "" if at in pictures else row.words.get(pair) or model.tokenizer.decode([pair[0]])
        text = text.replace(" ", WORD_STARTS[0]).replace("\n", "\\n")
        # The token that an answer's segment begins with is given.
        goes_on = at > 0 and row.segments[at - 1] == row.segments[at]
        read.append(Token(text, goes_on and not row.context[at], pictures.get(at, 0)))
    return [*read, Token(model.tokenizer.decode([model.tokenizer.eos_id]), True)]


def render(row: Sequence[Token]) -> Text:
    """One line: trained tokens bold green with a '+', others dim, each picture as one slot."""
    line = Text()
    slots = Counter(token.picture for token in row)
    for place, token in enumerate(row):
        if token.picture:
            if place == 0 or row[place - 1].picture != token.picture:
                line.append(f"[picture {token.picture}: {slots[token.picture]} tokens] ", style="cyan")
        elif token.trained:
            line.append(f"+{token.text}", style="bold green").append(" ")
        else:
            line.append(token.text, style="dim").append(" ")
    line.rstrip()
    return line


def counts_table(samples: Sequence[Sample], title: str) -> Table:
    """Samples by language (rows) and task (columns)."""
    counts = Mix.of(samples).counts()
    tasks = list(dict.fromkeys(task for _, task in counts))
    table = Table(title=title, title_justify="left")
    table.add_column("language")
    for heading in [*tasks, "all"]:
        table.add_column(heading, justify="right")
    codes = list(dict.fromkeys(code for code, _ in counts))
    for code in codes:
        row = [counts[code, task] for task in tasks]
        table.add_row(code, *(f"{count:,}" for count in [*row, sum(row)]))
    if len(codes) > 1:
        totals = [sum(counts[code, task] for code in codes) for task in tasks]
        table.add_row("all", *(f"{count:,}" for count in [*totals, sum(totals)]), style="bold")
    return table


def parts_table(mix: Mix) -> Table:
    """The parts of a mix: how many samples they have, how many are drawn in an epoch, and so how often each."""
    table = Table(title="Parts of the mix", title_justify="left")
    table.add_column("part")
    for title in ("samples", "drawn in an epoch", "share", "times each"):
        table.add_column(title, justify="right")
    order = mix.order(1, 0)
    for part, size, quota in zip(mix.parts, order.sizes, order.quotas, strict=True):
        table.add_row(
            part.name, f"{size:,}", f"{quota:,}", f"{quota / order.draws:.1%}", f"{quota / size:.2f}"
        )
    return table


def heading(sample: Sample) -> Text:
    pictures = [f"{_name(picture)}, {' x '.join(map(str, picture.load().size))}" for picture in sample.images]
    facts = [f"\n{sample.id}", f"{sample.language} {sample.task}", *(pictures or ["no picture"])]
    return Text("  ".join(facts), style="bold")


def _name(picture: Picture) -> str:
    """The last part of a stored picture's path, or of the key of any other."""
    return stored_at(picture).rpartition("/")[2]


def _text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The token as text with '▁' for a space before it, or its raw form where it is no whole character."""
    raw = str(tokenizer.convert_ids_to_tokens(token))
    text = tokenizer.decode([token])
    if not text.strip() or REPLACEMENT in text:
        return raw
    return ("▁" if raw[:1] in WORD_STARTS else "") + text.strip()
