"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models of tests are too small for more threads, and sums over another number of them differ in the last bit."""
    torch.set_num_threads(1)
