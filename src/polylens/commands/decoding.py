"""The options of `chat` and `caption` that say how an answer is searched or drawn."""

import inspect
from typing import Annotated, Any

import typer

from polylens.errors import UserError

PANEL = "Decoding (default: the model's own)"
NumBeams = Annotated[
    int | None,
    typer.Option(
        min=1, help="Beams of the search; VisCPM's own are 3, others' 1 (greedy).", rich_help_panel=PANEL
    ),
]
LengthPenalty = Annotated[
    float | None, typer.Option(help="Above 0 beams prefer longer answers.", rich_help_panel=PANEL)
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Above 1 repeated tokens are less likely.", rich_help_panel=PANEL)
]
Temperature = Annotated[
    float | None, typer.Option(help="Below 1 the likeliest tokens gain.", rich_help_panel=PANEL)
]
TopK = Annotated[
    int | None, typer.Option(help="Draw each token from so many likeliest ones.", rich_help_panel=PANEL)
]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw each token from the fewest that have this probability.", rich_help_panel=PANEL),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Draw the answer by this seed, with one beam.", rich_help_panel=PANEL),
]


def decoding(call: Any, name: str, **options: Any) -> dict[str, Any]:
    """The options that were given, as keywords for `call` of the model `name`; a seed, top_k or top_p mean sampling.

    Raises `UserError` for an option that this kind of model does not know.
    """
    settings = {key: value for key, value in options.items() if value is not None}
    if settings.keys() & {"seed", "top_k", "top_p"}:
        settings = {"num_beams": 1} | settings | {"sample": True}
    parameters = inspect.signature(call).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return settings
    unknown = next((key for key in settings if key not in parameters), None)
    if unknown:
        told = "sampling" if unknown == "sample" else f"--{unknown.replace('_', '-')}"
        raise UserError(f"'{name}' has no {told}: its answers are searched by beams; leave it out.")
    return settings
