import itertools
import math

import pytest
import torch
from tests.training.toys import Speller, stage
from torch import nn

from polylens.training.optimizer import (
    build_optimizer,
    clip_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
    schedule,
    set_learning_rates,
)
from polylens.training.stages import apply_stage


def make(**changes):
    model = Speller()
    plan = apply_stage(model, stage(**changes))
    return model, build_optimizer(model, plan)


def test_norms_biases_and_vectors_do_not_decay():
    _, optimizer = make(table={"*": 1e-3, "head.*": 5e-3}, weight_decay=0.3)
    decay = {name: group["weight_decay"] for group in optimizer.param_groups for name in group["names"]}
    assert decay == {
        "embedding.weight": 0.3,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "head.weight": 0.3,
        "head.bias": 0.0,
    }
    rates = {name: group["peak"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["head.bias"] == 5e-3
    assert rates["norm.weight"] == 1e-3


def test_schedule_rises_to_the_peak_and_falls_to_nothing():
    factors = [schedule(step, 100, 10) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)
    assert all(one >= other for one, other in itertools.pairwise(factors[10:]))
    assert schedule(0, 1, 0) == 1
    assert math.isfinite(schedule(5, 5, 5))


def test_a_constant_schedule_stays_at_the_peak_and_betas_are_the_stages():
    assert [schedule(step, 9, 2, "constant") for step in (0, 1, 2, 8)] == [0.5, 1, 1, 1]
    _, optimizer = make(betas=[0.9, 0.98])
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}


def test_learning_rates_are_reported_by_pattern():
    _, optimizer = make(table={"*": 1e-3, "head.*": 4e-3})
    assert set_learning_rates(optimizer, 0.5) == {"*": 5e-4, "head.*": 2e-3}


def test_clipping_reports_the_norm_before():
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 3.0)
    assert clip_gradients([parameter], 1.5).item() == pytest.approx(6)
    assert parameter.grad.norm().item() == pytest.approx(1.5, rel=1e-5)


def test_state_survives_a_round_trip():
    model, optimizer = make()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()}
    other_model, other = make()
    other_model.load_state_dict(model.state_dict())
    load_optimizer_tensors(other, saved)
    for one in (model, other_model):
        for parameter in one.parameters():
            parameter.grad = torch.full_like(parameter, 2)
    optimizer.step()
    other.step()
    for one, two in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(one, two)
