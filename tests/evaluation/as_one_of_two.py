"""The command `polylens` as one of two processes, which torchrun starts as `accelerate launch` does on GPUs."""

from accelerate import PartialState

from polylens.cli import app

if __name__ == "__main__":
    assert PartialState().num_processes == 2
    app()
