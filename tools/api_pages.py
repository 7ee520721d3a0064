"""MkDocs hook: one reference page for every module of the package, so that none is forgotten or stale."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parent.parent / "src"


def _modules() -> list[str]:
    """Dotted names of the modules with something to show, in order of their rooms."""
    names = []
    for path in sorted((SOURCE / "polylens").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
            if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None:
                continue
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return names


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the reference to the navigation, a section for each room."""
    rooms: dict[str, list[dict[str, str]]] = {}
    for name in _modules():
        parts = name.split(".")
        is_room = (SOURCE / Path(*parts)).is_dir() and len(parts) > 1
        room = parts[1] if is_room or len(parts) > 2 else "polylens"
        rooms.setdefault(room, []).append({name.removeprefix("polylens."): f"reference/{name}.md"})
    config.nav.append({"Reference": [{room: pages} for room, pages in rooms.items()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the navigation names."""
    for name in _modules():
        page = f"# `{name}`\n\n::: {name}\n"
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files
