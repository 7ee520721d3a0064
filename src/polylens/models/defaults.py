"""The packaged models that commands use where no other is named: entry points of the group `polylens.defaults`."""

from importlib.metadata import entry_points

from polylens.errors import UserError

ENTRY_POINTS = "polylens.defaults"


def default_model(kind: str) -> str:
    """The name of the packaged model of that kind: "captioner" or "encoder".

    Raises `UserError` where no installed package brings one.
    """
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        return str(point.load())
    raise UserError(f"No installed package brings a default {kind}: name a model.")
