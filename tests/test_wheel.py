"""The wheel alone, without the repository: what a user of pip gets."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.build import build_wheel; print(build_wheel(__import__('sys').argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment that has the wheel, and borrows what the wheel depends on from this one."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv, which installs the wheel, is not here")
    install = [
        str(uv),
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--python",
        str(python),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    found = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    borrowed = next(path for path in sys.path if path.endswith("site-packages"))
    return place / "bin" / "polylens", {"PYTHONPATH": f"{found}:{borrowed}"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--help", "Vision-language models"),
        ("recipes", "mblip-mt0-xl"),
        ("languages --known-to picto", "Swahili"),
        ("benchmarks", "xgqa"),
    ],
)
def test_the_wheel_runs_alone(environment, tmp_path, line, told):
    command, settings = environment
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | settings
    done = subprocess.run(
        [str(command), *line.split()], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_the_wheel_is_that_of_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "polylens/py.typed" in names
    assert "polylens/library.py" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "benchmarks/"))]
