"""A stand-in task: a one-layer language model over letters, in float64 where exactness is what is tested."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polylens.errors import UserError
from polylens.recipe import Stage
from polylens.training.tasks import Task

LETTERS = 27
torch.set_num_threads(1)  # More only wait for each other in models this small.


@dataclass(frozen=True)
class Word:
    id: str
    text: str
    language: str = "en"
    task: str = "spell"


@dataclass
class LetterBatch:
    inputs: Tensor
    targets: Tensor
    sample_ids: list[str]
    num_targets: int

    def to(self, device: torch.device) -> "LetterBatch":
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


class Speller(nn.Module):
    """Predicts the next letter from the last one; dropout makes its random numbers matter."""

    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.embedding = nn.Embedding(LETTERS, 12, dtype=dtype)
        self.norm = nn.LayerNorm(12, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(12, LETTERS, dtype=dtype)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(self.embedding(ids))))


class Spelling(Task):
    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float64):
        torch.manual_seed(0)
        self.model = Speller(dropout, dtype)

    def collate(self, samples: Sequence[Word], epochs: Sequence[int] | None = None) -> LetterBatch:
        rows = [torch.tensor([ord(letter) - 96 for letter in word.text]) for word in samples]
        for word in samples:
            if len(word.text) < 2:
                raise UserError(f"Sample '{word.id}' has no target token: its text is '{word.text}'.")
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        targets = ids[:, 1:].clone()
        return LetterBatch(ids[:, :-1], targets, [word.id for word in samples], int((targets > 0).sum()))

    def loss(self, batch: LetterBatch, num_targets: int) -> Tensor:
        logits = self.model(batch.inputs).flatten(0, 1)
        return F.cross_entropy(logits, batch.targets.flatten(), ignore_index=0, reduction="sum") / num_targets


def words(count: int = 23) -> list[Word]:
    """Words of 2 to 9 letters, so that micro-batches have unequal numbers of targets."""
    draw = torch.Generator().manual_seed(3)
    made = []
    for number in range(count):
        length = int(torch.randint(2, 10, (1,), generator=draw))
        letters = torch.randint(1, LETTERS, (length,), generator=draw)
        made.append(Word(f"w{number}", "".join(chr(96 + int(x)) for x in letters), ("en", "de")[number % 2]))
    return made


def stage(**changes: object) -> Stage:
    settings = {"name": "main", "table": {"*": 0.01}, "batch_size": 8, "steps": 12, "warmup_steps": 2}
    return Stage.model_validate(settings | changes)
