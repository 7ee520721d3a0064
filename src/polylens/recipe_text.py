"""Recipes as text: YAML, changed by dotted overrides, its keys and values compared with what there are."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, TypeVar, get_args, get_origin

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
    """What a YAML text holds. Raises `UserError`, beginning with `what`, for bad YAML and for equal keys."""
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not YAML: {' '.join(str(error).split())}.") from error


def parse_value(text: str, what: str) -> Any:
    """What the right side of `key=value` holds: YAML, or the text itself where YAML would take it for something else.

    `*.tar` is no alias, `a: b` no mapping and `a #1` no comment. Raises `UserError` as `parse_yaml` does.
    """
    bare = text.strip()
    if bare[:1] in set("*&!@%`|>") or (bare[:1] not in set("[{'\"") and (": " in bare or " #" in bare)):
        return bare
    return parse_yaml(text, what)


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.1 as people mean it: `no` is Norwegian, 007 and 2014-01-01 are texts, and no key is there twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # none of the base's

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), list(_first)
    )


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
            node[key] = parse_value(text, f"The value of the override '{change}'")
        else:
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = node[key]


def validated(kind: type[S], tree: dict[str, Any], what: str) -> S:
    """The section that a tree describes. Raises `UserError`, beginning with `what`, for a key or value that is off."""
    _refuse_strangers(kind, tree, what)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{what} is off: {_first_mistake(error)}.") from error


def _refuse_strangers(annotation: Any, tree: Any, what: str, place: str = "") -> None:
    """Compare the keys of a tree with the fields of the sections that its place may hold, and true with numbers."""
    inner = get_args(annotation)
    if isinstance(tree, bool):
        kinds = set(_leaves(annotation))
        # Pydantic would take them for 1 and 0.
        if kinds & {int, float} and not kinds & {bool, str, Any}:
            raise UserError(f"{what} is off: {place.rstrip('.')}: {str(tree).lower()} is no number.")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(tree, dict):
        for key, value in tree.items():
            if key not in annotation.model_fields:
                known = [f"{place}{field}" for field in annotation.model_fields]
                hint = suggestion(f"{place}{key}", known)
                raise UserError(f"{what} has an unknown key '{place}{key}': {hint}")
            _refuse_strangers(annotation.model_fields[key].annotation, value, what, f"{place}{key}.")
    elif get_origin(annotation) is list and isinstance(tree, list):
        for number, value in enumerate(tree):
            _refuse_strangers(inner[0], value, what, f"{place}{number}.")
    elif get_origin(annotation) is dict and isinstance(tree, dict):
        for key, value in tree.items():
            _refuse_strangers(inner[1], value, what, f"{place}{key}.")
    elif get_origin(annotation) not in (list, dict):
        for choice in inner:
            _refuse_strangers(choice, tree, what, place)


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for choice in inner:
        # What pydantic adds to a type may not be hashable.
        if isinstance(choice, type) or choice is Any or get_args(choice):
            yield from _leaves(choice)


def _first_mistake(error: ValidationError) -> str:
    mistake = error.errors()[0]
    place = ".".join(str(part) for part in mistake["loc"])
    message = mistake["msg"][0].lower() + mistake["msg"][1:]
    given = "" if isinstance(mistake["input"], dict | list) else f" (given: {mistake['input']!r})"
    return f"{place}: {message}{given}" if place else f"{message}{given}"
