"""Options of a source, checked against the annotations of its function before anything is read.

read_coco(path: str | Path, *, images: str | Path, language: str = "en")
{"images": 2014, "langauge": "no"}  ->  error: did you mean 'language'?
"""

import inspect
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from polylens.data.spec import as_text
from polylens.errors import UserError


def checked_options(source: Callable[..., Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the source's annotations want them; a text may be given as a number.

    Raises `UserError` for an option that the source does not know, naming the nearest, for one that it lacks, and
    for a value of another type.
    """
    parameters = {
        key: each for key, each in inspect.signature(source).parameters.items() if key != "unreadable"
    }
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = {
        key: each
        for key, each in parameters.items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    for key in options:
        if key not in named and not open_ended:
            near = get_close_matches(key, named, n=1, cutoff=0.0)
            hint = f"; did you mean '{near[0]}'? It has {', '.join(named)}" if near else ""
            raise UserError(f"The source '{name}' cannot be read: it has no option '{key}'{hint}.")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise UserError(
                f"The source '{name}' cannot be read: missing '{key}'; give it in the part, or in its 'options'."
            )
    hints = get_type_hints(source)
    return {key: _value(name, key, hints.get(key, Any), value) for key, value in options.items()}


def _value(source: str, key: str, annotation: Any, value: Any) -> Any:
    try:
        return TypeAdapter(
            _with_text(annotation), config=ConfigDict(arbitrary_types_allowed=True)
        ).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise UserError(
            f"The source '{source}': its option '{key}' is {value!r}: {message[0].lower()}{message[1:]}."
        ) from error


def _with_text(annotation: Any) -> Any:
    """The annotation, with numbers and true or false taken for texts where it wants a text."""
    if annotation in (str, Path):
        return Annotated[annotation, BeforeValidator(as_text)]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return Union[tuple(_with_text(each) for each in inner)]  # noqa: UP007 (made at run time)
    if origin in (list, tuple, set) or getattr(origin, "__name__", "") == "Sequence":
        return list[_with_text(inner[0])] if inner else annotation  # type: ignore[misc]
    return annotation
