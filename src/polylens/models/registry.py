"""What a model's name stands for: a path, a packaged model, or a model on the hub."""

from importlib.metadata import entry_points
from pathlib import Path

from huggingface_hub import snapshot_download

from polylens.errors import UserError

ENTRY_POINTS = "polylens.models"
OTHER_FORMATS = [
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.ot",
    "*.gguf",
    "*.tflite",
    "onnx/*",
    "openvino/*",
    "coreml/*",
]


def packaged_models() -> list[str]:
    """Names of the models that installed packages bring along, sorted."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def resolve_model(name_or_path: str | Path, relative_to: Path | None = None) -> Path:
    """The folder that `name_or_path` stands for.

    In this order: an existing folder (of a relative path, one under `relative_to` first), a packaged
    model's name, a part of a packaged model ("picto/vision"), a hub id, downloaded once. Raises `UserError`
    when it is none of them.
    """
    name = str(name_or_path)
    for folder in ([relative_to / name] if relative_to else []) + [Path(name).expanduser()]:
        if folder.is_dir():
            return folder
    head, _, part = name.partition("/")
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == head:
            whole = Path(point.load()())
            if (whole / part).is_dir():
                return whole / part
            raise UserError(f"The packaged model '{head}' has no part '{part}': see its folder {whole}.")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/"):
        return _download(name)
    known = ", ".join(packaged_models()) or "none"
    raise UserError(f"No model '{name}': no folder, no packaged model ({known}) and no hub id (owner/name).")


def _download(hub_id: str) -> Path:
    try:
        return Path(snapshot_download(hub_id, ignore_patterns=OTHER_FORMATS))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"No folder '{hub_id}' exists, and the hub gave no such model ({reason}): check the path."
        ) from error
