"""Evaluation is a part of the core: no circle of files in it, no wing, no training, and no name of a demo."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
ROOM = SOURCE / "polylens" / "evaluation"
ABOVE = ("training", "picto", "painting", "viscpm", "serving", "commands")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in ROOM.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """All modules that a file imports anywhere, also inside functions and for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys() or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_no_circle_of_files() -> None:
    graph = {name: imported(path) & MODULES.keys() for name, path in MODULES.items()}
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()


def test_nothing_above_is_imported() -> None:
    for name, path in MODULES.items():
        above = {
            module for module in imported(path) if module.startswith(tuple(f"polylens.{r}" for r in ABOVE))
        }
        assert not above, f"{name} imports {above}"


def test_no_demo_is_named() -> None:
    commands = SOURCE / "polylens" / "commands"
    for path in (*MODULES.values(), commands / "describe.py", commands / "score_paintings.py"):
        code = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            ast.get_docstring(node, clean=False) for node in ast.walk(code) if isinstance(node, DOCUMENTED)
        }
        names = [
            node.value
            for node in ast.walk(code)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs
        ]
        assert not [text for text in names if re.search("picto(?!gram)", text, re.IGNORECASE)], path


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
