"""Training: stages as tables, one loop for every task, exact resume."""

from polylens.training.run import train

__all__ = ["train"]
