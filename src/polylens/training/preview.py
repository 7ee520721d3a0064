"""What a recipe would train on, for people: counts, stages, and samples token by token."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polylens.data.mix import Mix
from polylens.data.sample import Picture, Sample, stored_at
from polylens.recipe import Recipe
from polylens.training.check import check_model, fit_table
from polylens.training.run import beginning
from polylens.training.stages import apply_stage
from polylens.training.trainable import Token, trainable


def show(recipe: Recipe, console: Console, num: int) -> None:
    """Print counts by language and task, the stages with parameter counts, and the first `num` samples.

    Raises `UserError` for whatever training would refuse before its first step.
    """
    if recipe.section is not None:
        return recipe.section.show(recipe, console, num)
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
    kind = trainable(model)
    shown = [row for sample in first for row in kind.show(model, sample, recipe.data.max_length)]
    for stage in recipe.stages:
        console.print(apply_stage(model, stage).table)
    if shown:
        console.print(Text.assemble(("+trained", "bold green"), "  ", ("only read", "dim")))
    for one in shown:
        console.print(heading(one.sample))
        console.print(render(one.read))
        if one.answered:
            console.print(Text("-> ").append_text(render(one.answered)))


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
