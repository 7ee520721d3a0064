import pytest
from rich.console import Console
from tests.training.toys import Speller, stage
from torch import nn

from polylens.errors import UserError
from polylens.training.stages import apply_stage, check_patterns, never_trained, set_modes


class Eye(nn.Module):
    """Parts under the names that a model which sees has."""

    def __init__(self):
        super().__init__()
        self.vision = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        self.resampler = nn.Linear(3, 3)
        self.projector = nn.Linear(3, 3)


def text(table):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_last_matching_row_decides_and_others_are_frozen():
    model = Speller()
    plan = apply_stage(model, stage(table={"head.*": 0.1, "*.bias": 0.2}))
    assert plan.rows == {"norm.bias": "*.bias", "head.weight": "head.*", "head.bias": "*.bias"}
    assert [plan.learning_rate(name) for name in plan.rows] == [0.2, 0.1, 0.2]
    assert not model.embedding.weight.requires_grad
    assert model.head.weight.requires_grad


def test_the_table_shows_counts_per_row():
    plan = apply_stage(Speller(), stage(table={"*": "frozen", "head.weight": 0.1}))
    shown = text(plan.table)
    frozen, trained = 27 * 12 + 12 + 12 + 27, 27 * 12
    rows = [line.replace("│", " ").split() for line in shown.splitlines()]
    assert ["*", "frozen", "0", str(frozen)] in rows
    assert ["head.weight", "lr", "0.1", str(trained), str(trained)] in rows
    assert ["total", str(trained), str(frozen + trained)] in rows


def test_a_pattern_that_matches_nothing_is_an_error_naming_the_nearest():
    with pytest.raises(UserError, match=r"'haed\.\*' matches no parameter.*'head\."):
        apply_stage(Speller(), stage(table={"haed.*": 0.1}))


def test_a_later_stage_is_checked_before_the_first_begins():
    with pytest.raises(UserError, match="'nose' matches no parameter"):
        check_patterns(Speller(), [stage(), stage(name="second", table={"nose": 0.1})])


def test_a_row_without_effect_is_an_error():
    with pytest.raises(UserError, match=r"'head\.\*' decides nothing"):
        apply_stage(Speller(), stage(table={"head.*": 0.1, "*": 0.2}))


def test_a_stage_that_trains_nothing_is_an_error():
    with pytest.raises(UserError, match="trains nothing"):
        apply_stage(Speller(), stage(table={"*": "frozen"}))


def test_tied_parameters_answer_to_each_of_their_names():
    model = Speller()
    model.head.weight = model.embedding.weight
    plan = apply_stage(model, stage(table={"head.weight": 0.1}))
    assert plan.rows == {"embedding.weight": "head.weight"}


@pytest.mark.parametrize(
    ("pattern", "boundary"),
    [("vision.*", "pixels"), ("resampler.*", "patches"), ("projector.*", "queries"), ("*", "pixels")],
)
def test_boundary_is_the_deepest_that_never_changes(pattern, boundary):
    assert apply_stage(Eye(), stage(table={pattern: 0.1})).boundary == boundary


def test_a_model_without_eyes_has_no_boundary():
    assert apply_stage(Speller(), stage()).boundary is None


def test_frozen_parts_are_in_evaluation_mode():
    model = Eye().train()
    apply_stage(model, stage(table={"projector.*": 0.1}))
    assert [model.training, model.vision.training, model.projector.training] == [True, False, True]
    assert not any(module.training for module in model.vision)
    apply_stage(model, stage(table={"vision.0.*": 0.1}))
    assert [module.training for module in model.vision] == [True, True, False]
    model.eval()
    set_modes(model)
    assert model.vision[1].training


def test_what_no_stage_trains():
    stages = [stage(table={"norm.*": 0.1}), stage(table={"*": "frozen", "head.weight": 0.1})]
    assert set(never_trained(Speller(), stages)) == {"embedding.weight", "head.bias"}
