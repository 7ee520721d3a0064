import torch

from polylens.training.checkpoint import Checkpoint, CheckpointFolder, State


def checkpoint(stage: int, step: int, best: str | None = None) -> Checkpoint:
    state = State(stage, step, done=100 * stage + step, best=best, best_value=0.5, results={"loss": 0.5})
    return Checkpoint(state, {"w": torch.full((2,), float(step))}, {"w|exp_avg": torch.ones(2)})


def test_round_trip(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    assert folder.last() is None
    folder.save(checkpoint(0, 5))
    last = CheckpointFolder(tmp_path, keep=2).last()
    assert last.state == checkpoint(0, 5).state
    assert torch.equal(last.weights["w"], torch.full((2,), 5.0))
    assert torch.equal(last.optimizer["w|exp_avg"], torch.ones(2))


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in range(1, 6):
        folder.save(checkpoint(0, step, best="00-00000002" if step >= 2 else "00-00000001"))
    assert folder.names() == ["00-00000002", "00-00000004", "00-00000005"]
    folder.save(checkpoint(1, 0))
    assert folder.names() == ["00-00000005", "01-00000000"]


def test_a_checkpoint_can_be_written_again(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.save(checkpoint(0, 5))
    folder.save(checkpoint(0, 5, best="00-00000005"))
    assert folder.last().state.best == "00-00000005"
    assert folder.names() == ["00-00000005"]


def test_leftovers_of_a_kill_are_cleared_and_never_read(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.save(checkpoint(0, 5))
    (tmp_path / ".0123456789abcdef").mkdir()
    (tmp_path / ".0123456789abcdef" / "weights.safetensors").write_bytes(b"half")
    again = CheckpointFolder(tmp_path, keep=2)
    assert again.last().state.step == 5
    assert not list(tmp_path.glob(".*"))
