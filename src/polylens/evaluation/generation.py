"""How answers are generated: the settings of one run. Needs no torch."""

from dataclasses import dataclass

from polylens.errors import UserError


@dataclass(frozen=True)
class Generation:
    """How answers are generated; greedy by default. `batch_size` moves speed and memory, never an answer."""

    num_beams: int = 1
    max_new_tokens: int = 32
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    batch_size: int = 64


def refuse_temperature(name: str, generation: Generation) -> None:
    """Raises `UserError` for a temperature, which a model without one would ignore."""
    if generation.temperature != 1.0:
        raise UserError(
            f"'{name}' takes no temperature in its search, and {generation.temperature:g} was asked for: leave it "
            "out, or choose another protocol."
        )
