"""Packages that tests install: a module, and the entry points that pip would leave beside it."""

from pathlib import Path

import pytest


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str, group: str, *points: str
) -> None:
    """Make `module` importable for one test, registered under `points` ("name = module:thing") of a group."""
    site = folder / "site"
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(source)
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *points, ""]))
    (info / "METADATA").write_text(f"Name: {module.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
