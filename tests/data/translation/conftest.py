import pytest
from tests.data.translation.tiny_nllb import make_tiny_nllb


@pytest.fixture(scope="session")
def tiny_nllb(tmp_path_factory):
    """A folder with a tiny model of NLLB's architecture, made once."""
    return make_tiny_nllb(tmp_path_factory.mktemp("nllb"))
