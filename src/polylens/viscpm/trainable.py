"""How VisCPM-Chat and CPM-Bee are trained, saved, shown and planned.

Shapes: m samples of a micro-batch, one picture each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from polylens.data.conversations import unroll
from polylens.data.sample import Sample
from polylens.recipe import Recipe
from polylens.training.dry_run import kept_by_autograd
from polylens.training.stages import Plan
from polylens.training.trainable import DryRun, Length, Shown, Token, Trainable
from polylens.viscpm.cpm_bee.modeling import CpmBee
from polylens.viscpm.files import save_folder
from polylens.viscpm.model import VisCpmChat
from polylens.viscpm.task import VisCpmTask
from polylens.viscpm.trained import needs_base, save_trained

# Tokens of a VisCPM dictionary beside its pictures, texts and answer: keys, and the ends of segments.
FRAME = 22
SPACE = "▁"


class VisCpmTraining(Trainable):
    quantizes = True

    def task(self, model: VisCpmChat, recipe: Recipe, console: Console | None = None) -> VisCpmTask:
        return VisCpmTask(model, recipe.augmentation, recipe.data.max_length)

    def save(self, model: VisCpmChat, folder: Path, provenance: Mapping[str, Any]) -> None:
        if needs_base(model):
            save_trained(model, folder, provenance)
        else:
            save_folder(model.model, model.tokenizer, folder)

    def may_halve(self, model: VisCpmChat, parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
        # It is released in float16: nothing wider of its 10 billion weights is worth keeping.
        return list(parameters.values())

    def show(self, model: VisCpmChat, sample: Sample, max_length: int | None) -> list[Shown]:
        return [Shown(turn, dictionary(model, turn)) for turn in unroll(sample)]

    def dry_run(
        self, model: VisCpmChat, plan: Plan, m: int, length: Length, cached: bool, dtype: torch.dtype
    ) -> DryRun:
        return DryRun(
            lambda: _read_dictionaries(model, m, length, dtype), _recomputed(model, m, length, dtype)
        )


def dictionary(model: VisCpmChat, sample: Sample) -> list[Token]:
    """What VisCPM reads and learns of the last turn of a sample: a dictionary, segment by segment."""
    row = model.encode_sample(sample, sample.turns[-1].answer)
    places = [at for begin, end in row.images for at in range(begin, end)]
    pictures = {at: 1 + number // model.num_image_tokens for number, at in enumerate(places)}
    read: list[Token] = []
    for at, pair in enumerate(zip(row.ids, row.subs, strict=True)):
        text = "" if at in pictures else row.words.get(pair) or model.tokenizer.decode([pair[0]])
        text = text.replace(" ", SPACE).replace("\n", "\\n")
        # The token that an answer's segment begins with is given.
        goes_on = at > 0 and row.segments[at - 1] == row.segments[at]
        read.append(Token(text, goes_on and not row.context[at], pictures.get(at, 0)))
    return [*read, Token(model.tokenizer.decode([model.tokenizer.eos_id]), True)]


def _read_dictionaries(
    model: VisCpmChat, m: int, length: Length, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """(logits of the answers' tokens, how many numbers they are); layers are recomputed in the backward pass."""
    assert model.processor is not None, "a model that sees prepares pictures"
    lm = model.lm
    visual = model.model(torch.empty(m, 3, model.processor.height, model.processor.width, dtype=dtype))
    num_text = FRAME + length.prompt + length.answer
    ids = torch.empty(m, num_text, dtype=torch.long)
    x = torch.cat([visual, lm.input_embedding(ids, ids)], 1)
    lm.recompute = True
    try:
        states = lm.run_layers(x, _bias(lm, x), None)
    finally:
        lm.recompute = False
    extension = torch.empty(1, 2, dtype=torch.long)
    logits = lm.logits(states[:, -length.answer :].flatten(0, 1), extension)
    return logits, logits.numel()


def _bias(lm: CpmBee, x: torch.Tensor) -> torch.Tensor:
    places = torch.empty(len(x), x.shape[1], x.shape[1], dtype=torch.long)
    return lm.position_bias(places).transpose(0, 1).to(x.dtype)


def _recomputed(model: VisCpmChat, m: int, length: Length, dtype: torch.dtype) -> int:
    """Bytes kept where layers are recomputed: the input of each, and the states of one."""
    lm = model.lm
    shape = (m, model.num_image_tokens + FRAME + length.prompt + length.answer, lm.config.hidden_size)
    with torch.device("meta"):
        x = torch.empty(shape, dtype=dtype, requires_grad=True)
        bias = _bias(lm, x)
        with kept_by_autograd(model) as kept:
            lm.encoder.layers[0](x, bias, None, None, 0)
    return sum(kept.values()) + len(lm.encoder.layers) * x.nbytes


TRAINABLE = VisCpmTraining()
