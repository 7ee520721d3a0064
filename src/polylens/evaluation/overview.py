"""One page over many benchmarks of one model: languages against benchmarks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polylens import __version__
from polylens.data.rows import read_json
from polylens.errors import UserError
from polylens.evaluation.report import write_report
from polylens.files import json_text, write_atomic


def overview(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Results of several runs put side by side, each by its main measure.

    Raises `UserError` for a folder without results, and for two runs of one benchmark.
    """
    benchmarks: dict[str, dict[str, Any]] = {}
    models: dict[str, None] = {}
    codes: dict[str, None] = {}
    notes: list[str] = []
    for folder in map(Path, folders):
        if not (folder / "results.json").is_file():
            raise UserError(f"'{folder}' has no results.json: give folders of finished evaluations.")
        results = read_json(folder / "results.json")
        name = str(results.get("benchmark") or results.get("title") or folder.name)
        if name in benchmarks:
            raise UserError(f"'{folder}' is a second run of {name}: compare two runs by `polylens compare`.")
        title = str(results.get("title") or name).removesuffix(f", protocol {results.get('protocol')}")
        benchmarks[name] = {"title": title, "languages": results.get("languages") or {}}
        models[str(results.get("model") or "")] = None
        codes |= dict.fromkeys(benchmarks[name]["languages"])
        notes += [f"{title}: {note}" for note in results.get("notes") or []]
    if len(models) > 1:
        notes.insert(0, f"These are runs of {len(models)} models: {', '.join(filter(None, models))}.")
    return {
        "title": f"{len(benchmarks)} benchmarks" if len(benchmarks) > 1 else "1 benchmark",
        "model": ", ".join(filter(None, models)),
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "languages": {code: {} for code in codes},
        "benchmarks": benchmarks,
        "notes": notes,
        "settings": {"runs": [str(folder) for folder in folders]},
    }


def write_overview(results: dict[str, Any], out: Path) -> Path:
    """overview.json and the page with its figures and CSV; returns the page's path."""
    page = write_report(results, [], out)
    write_atomic(out / "overview.json", json_text(results, indent=1))
    return page
