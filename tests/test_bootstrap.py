"""tools/bootstrap: which torch it takes, and what it says of it. Its installer only notes what it is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLER = """#!/bin/sh
echo "$@" >>"$UV_NOTES"
case "$*" in *torch-backend*) exit "$INDEX_ANSWERS" ;; esac
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no build of torch has CUDA")


@pytest.fixture
def bootstrap(tmp_path):
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "bootstrap", tmp_path / "tools")
    (binaries / "python").symlink_to(sys.executable)
    (binaries / "uv").write_text(INSTALLER)
    (binaries / "uv").chmod(0o755)
    lock = "torch==2.15.0 \\\n    --hash=sha256:0\ntorchvision==0.29.2 \\\n    --hash=sha256:0\n"
    lock += "nvidia-cublas==1 \\\n    --hash=sha256:0\nuv==1 \\\n    --hash=sha256:0\n"
    (tmp_path / "requirements.lock").write_text(lock)
    (tmp_path / ".venv" / "uv.lock").write_text("uv==1 \\\n    --hash=sha256:0\n")

    def run(torch="", index=True, driver=False):
        (tmp_path / "bin").mkdir(exist_ok=True)
        if driver:
            (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\n")
            (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
        done = subprocess.run(
            [tmp_path / "tools" / "bootstrap"],
            env=os.environ
            | {"TORCH": torch, "UV_NOTES": str(tmp_path / "notes"), "INDEX_ANSWERS": "0" if index else "1"}
            | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        notes = tmp_path / "notes"
        done.kind = (tmp_path / ".venv" / "torch-kind").read_text().strip() if done.returncode == 0 else None
        done.told = notes.read_text().splitlines() if notes.exists() else []
        return done

    return run


no_driver = pytest.mark.skipif(
    any(Path(place).exists() for place in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))
    or shutil.which("nvidia-smi") is not None,
    reason="this machine has an NVIDIA driver",
)


@no_driver
def test_without_a_driver_it_takes_the_cpu_build(bootstrap):
    done = bootstrap()
    assert done.kind == "cpu"
    assert "torch: cpu (there is no NVIDIA driver)" in done.stdout
    installed = [line for line in done.told if "--torch-backend cpu" in line and "--dry-run" not in line]
    assert installed[0].endswith("torch==2.15.0 torchvision==0.29.2")
    again = bootstrap(index=False)  # what was chosen is kept
    assert (again.kind, again.stdout) == ("cpu", "")


@no_driver
def test_without_the_index_it_takes_the_locked_build_and_says_why(bootstrap):
    done = bootstrap(index=False)
    assert done.kind == "default"
    assert "does not answer" in done.stdout


def test_with_a_driver_it_takes_the_locked_build(bootstrap):
    done = bootstrap(driver=True)
    assert done.kind == "default"
    assert "there is an NVIDIA driver" in done.stdout
    assert not [line for line in done.told if "torch-backend" in line]


def test_the_cpu_build_without_the_index_ends_with_one_sentence(bootstrap):
    done = bootstrap("cpu", index=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "use TORCH=default" in done.stderr


def test_an_unknown_torch_is_refused(bootstrap):
    assert "TORCH=rocm is unknown" in bootstrap("rocm").stderr
