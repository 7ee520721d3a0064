"""Checkpoints: folders that exist whole or not at all.

    checkpoints/01-00000200/     stage 1 (the second), 200 of its steps done
        weights.safetensors      every parameter trained so far, and the statistics beside them
        optimizer.safetensors    "parameter name|moment"
        state.json               what `State` holds

They are written under another name, flushed to the disk, and renamed.
"""

import json
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from safetensors.torch import load_file, save_file
from torch import Tensor

from polylens.files import make_writable_folder, writing

NAME = re.compile(r"\d{2}-\d{8}")


@dataclass(frozen=True)
class State:
    """Where a run is: the next step to do is `step` of `stage`, both from 0; `done` steps lie behind in all
    stages.

    `best` is the name of the best checkpoint, `best_value` its score in this stage, `results` its whole
    validation; `stale` counts the validations since. The position in the data and every random number follow
    from stage and step.
    """

    stage: int = 0
    step: int = 0
    done: int = 0
    best: str | None = None
    best_value: float | None = None
    results: dict[str, float] | None = None
    stale: int = 0

    @property
    def name(self) -> str:
        return f"{self.stage:02d}-{self.step:08d}"

    def next_step(self) -> Self:
        return replace(self, step=self.step + 1, done=self.done + 1)


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds."""

    state: State
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


class CheckpointFolder:
    """The checkpoints of one run. Keeps the last `keep` and the best."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = make_writable_folder(folder), keep
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def names(self) -> list[str]:
        """Names of the whole checkpoints, oldest first."""
        return sorted(path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it under its state's name, then remove what need not be kept. Raises `UserError` on a full
        disk.
        """
        name = checkpoint.state.name
        temporary = self.folder / f".{secrets.token_hex(8)}"
        with writing(self.folder):
            try:
                temporary.mkdir()
                save_file(checkpoint.weights, temporary / "weights.safetensors")
                save_file(checkpoint.optimizer, temporary / "optimizer.safetensors")
                (temporary / "state.json").write_text(json.dumps(asdict(checkpoint.state)), encoding="utf-8")
                for path in [*temporary.iterdir(), temporary]:
                    _flush(path)
                self.remove(name)
                os.replace(temporary, self.folder / name)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        for old in self.names()[: -self.keep]:
            if old != checkpoint.state.best:
                self.remove(old)

    def remove(self, name: str) -> None:
        """Take a checkpoint away; whatever kills us meanwhile, no half of it keeps its name."""
        if (self.folder / name).exists():
            doomed = self.folder / f".{secrets.token_hex(8)}"
            os.replace(self.folder / name, doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def weights(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / name / "weights.safetensors")

    def last(self) -> Checkpoint | None:
        """The newest checkpoint, None if there is none."""
        if not (names := self.names()):
            return None
        folder = self.folder / names[-1]
        state = State(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
        return Checkpoint(state, self.weights(names[-1]), load_file(folder / "optimizer.safetensors"))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
