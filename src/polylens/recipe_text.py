"""Recipes as text: YAML, changed by dotted overrides, its keys and values compared with what there are."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from polylens.data.spec import Section
from polylens.errors import UserError

S = TypeVar("S", bound=Section)


def nearest(key: str, known: Iterable[str]) -> str:
    """The known key that looks most like `key`."""
    return difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)[0]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the one that was probably meant, or all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(names)}."


def parse_yaml(text: str, what: str) -> Any:
    """What a YAML text holds. Raises `UserError`, beginning with `what`, for one that is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not YAML: {' '.join(str(error).split())}.") from error


def override(tree: dict[str, Any], change: str) -> None:
    """Set one value in place; sections that are not there are made, list items must be.

    Raises `UserError` for a `change` that is not 'section.key=value', or has no place in the tree.
    """
    path, equals, text = change.partition("=")
    node: Any = tree
    rest = [quoted or bare for quoted, bare in re.findall(r'"([^"]+)"|([^."]+)', path)]
    if not equals or not rest:
        raise UserError(f"The override '{change}' must look like 'section.key=value'.")
    while rest:
        if isinstance(node, list):
            if not rest[0].isdigit() or int(rest[0]) >= len(node):
                raise UserError(f"The override '{change}': '{rest[0]}' must be a number below {len(node)}.")
            key: Any = int(rest.pop(0))
        elif isinstance(node, dict):
            # Keys may hold dots (`projector.*`): the longest one that is there counts; a new one is quoted.
            size = next((n for n in range(len(rest), 0, -1) if ".".join(rest[:n]) in node), 1)
            key, rest = ".".join(rest[:size]), rest[size:]
        else:
            raise UserError(f"The override '{change}': there is no section above '{'.'.join(rest)}'.")
        if not rest:
            node[key] = parse_yaml(text, f"The value of the override '{change}'")
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = node[key]


def validated(kind: type[S], tree: dict[str, Any], what: str) -> S:
    """The section that a tree describes. Raises `UserError`, beginning with `what`, for a key or value that is off."""
    _refuse_unknown_keys(kind, tree, what)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{what} is off: {_first_mistake(error)}.") from error


def _refuse_unknown_keys(annotation: Any, tree: Any, what: str, place: str = "") -> None:
    """Compare the keys of a tree with the fields of the sections that its place may hold."""
    inner = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(tree, dict):
        for key, value in tree.items():
            if key not in annotation.model_fields:
                known = [f"{place}{field}" for field in annotation.model_fields]
                hint = suggestion(f"{place}{key}", known)
                raise UserError(f"{what} has an unknown key '{place}{key}': {hint}")
            _refuse_unknown_keys(annotation.model_fields[key].annotation, value, what, f"{place}{key}.")
    elif get_origin(annotation) is list and isinstance(tree, list):
        for number, value in enumerate(tree):
            _refuse_unknown_keys(inner[0], value, what, f"{place}{number}.")
    elif get_origin(annotation) is dict and isinstance(tree, dict):
        for key, value in tree.items():
            _refuse_unknown_keys(inner[1], value, what, f"{place}{key}.")
    elif get_origin(annotation) not in (list, dict):
        for choice in inner:
            _refuse_unknown_keys(choice, tree, what, place)


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors()[0]
    place = ".".join(str(part) for part in mistake["loc"])
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    given = "" if isinstance(mistake["input"], dict | list) else f" (given: {mistake['input']!r})"
    return f"{place}: {message}{given}" if place else f"{message}{given}"
