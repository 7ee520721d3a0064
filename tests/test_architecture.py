"""The layout of the program: layers, no circle of files, and nothing of a demo in the core."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "polylens"
WINGS = ("picto", "viscpm", "painting", "serving")


def test_imports_keep_the_contracts() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-2000:]


def test_the_core_names_no_wing() -> None:
    """Not even in strings, by which an import could be hidden; only the table of commands is above the wings."""
    core = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in (*WINGS, "commands", "cli.py", "__main__.py")
    ]
    assert len(core) > 100
    hidden = [
        path for path in core if re.search(rf"polylens\.({'|'.join(WINGS)})\b", path.read_text("utf-8"))
    ]
    assert hidden == []
