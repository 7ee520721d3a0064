"""Work shared out among processes: the same answers in the same order, errors and all."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from polylens.errors import UserError
from polylens.models.checkpoints.folder import load_model
from polylens.picto import measure
from polylens.picto.demo import progress
from polylens.picto.scenes import scenes
from polylens.picto.workers import each_part

CPU = torch.device("cpu")
forked = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@forked
@pytest.mark.usefixtures("two_threads")
def test_each_process_works_with_one_thread_and_answers_come_in_order() -> None:
    table = torch.arange(12.0).view(3, 4)

    def work(code: str) -> tuple[int, int, float]:
        return os.getpid(), torch.get_num_threads(), float((table * len(code)).sum())

    found = dict(each_part(work, ["de", "en", "yue"], CPU))
    assert list(found) == ["de", "en", "yue"]
    assert [value for _, _, value in found.values()] == [132.0, 132.0, 198.0]
    assert {threads for _, threads, _ in found.values()} == {1}
    assert os.getpid() not in {process for process, _, _ in found.values()}


def test_with_one_thread_nothing_is_forked() -> None:
    assert torch.get_num_threads() == 1
    assert dict(each_part(lambda code: os.getpid(), ["de", "en"], CPU)) == dict.fromkeys(
        ["de", "en"], os.getpid()
    )


def test_a_model_answers_in_processes_as_it_does_in_one() -> None:
    model = load_model("picto", torch.bfloat16).eval()
    shown = scenes("seen", 5)
    english = [scene.name("en") for scene in shown]

    def say(advance: measure.Advance = measure.silent) -> tuple[object, object]:
        blind = measure.describe(model, shown, ["de", "zh"], with_pictures=False, advance=advance)
        return blind, measure.translate(model, english, ["de", "zh"], advance=advance)

    alone = say()
    torch.set_num_threads(2)
    try:
        with progress(Console(file=io.StringIO(), force_terminal=True), "answers", 20) as advance:
            assert say(advance) == alone
    finally:
        torch.set_num_threads(1)


@forked
@pytest.mark.usefixtures("two_threads")
def test_processes_that_start_anew_may_train_after_their_parent_has() -> None:
    torch.ones(2, requires_grad=True).sum().backward()
    found = list(each_part(_trained, [2.0, 3.0], CPU, anew=True))
    assert [value for _, (_, value) in found] == [2.0, 3.0]
    assert {process for _, (process, _) in found}.isdisjoint({os.getpid()})


def _trained(slope: float) -> tuple[int, float]:
    weight = torch.zeros(1, requires_grad=True)
    (slope * weight).sum().backward()
    assert weight.grad is not None
    return os.getpid(), float(weight.grad)


@forked
@pytest.mark.usefixtures("two_threads")
def test_a_killed_process_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match="OMP_NUM_THREADS=1"):
        list(each_part(lambda code: os.kill(os.getpid(), signal.SIGKILL), ["de", "en"], CPU))


@pytest.mark.usefixtures("two_threads")
def test_a_users_error_arrives_as_it_was_raised_and_the_rest_is_not_waited_for() -> None:
    def work(code: str) -> str:
        if code == "de":
            raise UserError(f"no words in {code}")
        time.sleep(600)
        return code

    with pytest.raises(UserError, match="no words in de"):
        list(each_part(work, ["de", "en", "fr"], CPU))


@forked
def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, time, torch
from polylens.picto.workers import each_part

def work(code):
    pathlib.Path({str(tmp_path)!r}, code).write_text(str(os.getpid()))
    time.sleep(600)

torch.set_num_threads(2)
list(each_part(work, ["de", "en"], torch.device("cpu")))
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    numbers = [tmp_path / "de", tmp_path / "en"]
    _wait(lambda: all(path.exists() and path.read_text() for path in numbers))
    parent.kill()
    parent.wait()
    _wait(lambda: not any(_alive(int(path.read_text())) for path in numbers))


def _alive(process: int) -> bool:
    """A zombie that nobody has reaped has ended too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(done, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
