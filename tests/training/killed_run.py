"""Trains the stand-in task in a child that is killed (SIGKILL) again and again, then left to its end.

    python -m tests.training.killed_run OUT KILLS

The child is forked, so that only its training takes time, and is killed a random moment after a random step.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tests.training.toys import Spelling, stage, words

from polylens.recipe import Checkpoints, Validation
from polylens.training.loop import Trainer

STAGES = [
    stage(name="first", steps=80, table={"head.*": 0.02}, micro_batch=3),
    stage(name="second", steps=120, table={"*": 0.01}, batch_size=5),
]


def train(out: Path) -> None:
    Trainer(
        Spelling(dropout=0.3, dtype=torch.float32),
        STAGES,
        words(),
        out,
        seed=5,
        held_out=words(6),
        validation=Validation(every=10, patience=8),
        checkpoints=Checkpoints(every=3, keep=2),
    ).run()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(out: Path, kills: int) -> None:
    draw = random.Random(1)
    killed = 0
    log = out / "log.jsonl"
    while True:
        child = os.fork()
        if child == 0:
            train(out)
            os._exit(0)
        if killed < kills:
            target = lines(log) + draw.randint(0, 5)
            while (
                lines(log) < target
                and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            ):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(f"killed {killed} times, status {os.waitstatus_to_exitcode(status)}")
            sys.exit(os.waitstatus_to_exitcode(status))
        killed += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
