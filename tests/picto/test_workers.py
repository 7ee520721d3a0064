"""Languages shared out among processes: the same answers in the same order, errors and all."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
import torch

from polylens.errors import UserError
from polylens.picto.workers import each_language

CPU = torch.device("cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
@pytest.mark.usefixtures("two_threads")
def test_each_process_works_with_one_thread_and_answers_come_in_order() -> None:
    table = torch.arange(12.0).view(3, 4)

    def work(code: str) -> tuple[int, int, float]:
        return os.getpid(), torch.get_num_threads(), float((table * len(code)).sum())

    found = dict(each_language(work, ["de", "en", "yue"], CPU))
    assert list(found) == ["de", "en", "yue"]
    assert [value for _, _, value in found.values()] == [132.0, 132.0, 198.0]
    assert {threads for _, threads, _ in found.values()} == {1}
    assert os.getpid() not in {process for process, _, _ in found.values()}


def test_with_one_thread_nothing_is_forked() -> None:
    assert torch.get_num_threads() == 1
    assert dict(each_language(lambda code: os.getpid(), ["de", "en"], CPU)) == dict.fromkeys(
        ["de", "en"], os.getpid()
    )


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
@pytest.mark.usefixtures("two_threads")
def test_a_killed_process_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match="OMP_NUM_THREADS=1"):
        list(each_language(lambda code: os.kill(os.getpid(), signal.SIGKILL), ["de", "en"], CPU))


@pytest.mark.usefixtures("two_threads")
def test_a_users_error_arrives_as_it_was_raised() -> None:
    def work(code: str) -> str:
        raise UserError(f"no words in {code}")

    with pytest.raises(UserError, match="no words in de"):
        list(each_language(work, ["de", "en"], CPU))
