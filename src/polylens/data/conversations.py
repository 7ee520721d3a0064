"""Conversations of several turns as training examples of one answer each."""

from dataclasses import replace

from polylens.data.sample import Sample


def unroll(sample: Sample) -> list[Sample]:
    """One sample for every turn that has an answer, with the turns before it as context."""
    return [
        replace(sample, turns=sample.turns[:size])
        for size in range(1, len(sample.turns) + 1)
        if sample.turns[size - 1].answer
    ] or [sample]
