"""What holds for every test."""

import pytest
import torch
from hypothesis import settings

# The same examples in every run, and no limit of time: machines are shared.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models of tests are too small for more threads, and sums over another number of them differ in the last bit."""
    torch.set_num_threads(1)
