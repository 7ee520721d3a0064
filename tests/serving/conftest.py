"""One server for the tests that leave it as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.processes import Serving, save_endless, serving


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_endless(tmp_path_factory.mktemp("serving") / "model")


@pytest.fixture(scope="session")
def server(model_folder: Path) -> Iterator[Serving]:
    with serving(model_folder, "--max-batch", "4", "--max-queue", "6", "--max-body-mb", "2") as running:
        yield running
