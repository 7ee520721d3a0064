"""How answers are generated: the settings of one run. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """How answers are generated; greedy by default. `batch_size` moves speed and memory, never an answer."""

    num_beams: int = 1
    max_new_tokens: int = 32
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    batch_size: int = 64
