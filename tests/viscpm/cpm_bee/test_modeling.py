"""Parts of CPM-Bee that golden tests do not take apart."""

import pytest
import torch
from torch.nn import functional as F

from polylens.viscpm.cpm_bee.modeling import FEW_ROWS, project


@pytest.mark.parametrize("rows", [1, FEW_ROWS[0] - 1, FEW_ROWS[0], 12, FEW_ROWS[-1], FEW_ROWS[-1] + 1])
def test_states_times_weights_whatever_their_number(rows: int) -> None:
    torch.manual_seed(rows)
    weight = torch.randn(11, 7, requires_grad=True)
    for states in (torch.randn(rows, 7), torch.randn(rows, 1, 7), torch.randn(1, rows, 7).double()):
        made, wanted = project(states, weight.to(states.dtype)), F.linear(states, weight.to(states.dtype))
        assert made.shape == wanted.shape
        assert torch.allclose(made, wanted, atol=1e-5)
        (mine,) = torch.autograd.grad(made.square().sum(), weight, retain_graph=True)
        (theirs,) = torch.autograd.grad(wanted.square().sum(), weight)
        assert torch.allclose(mine, theirs, atol=1e-4)
