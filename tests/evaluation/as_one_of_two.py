"""The command `polylens` as one of two processes, which torchrun starts as `accelerate launch` does on GPUs."""

from polylens.cli import app
from polylens.evaluation.processes import state

if __name__ == "__main__":
    assert state().num_processes == 2
    app()
