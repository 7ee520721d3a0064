"""What a model's name stands for: a path, a packaged model, or a model on the hub."""

import os
from importlib.metadata import entry_points
from pathlib import Path

from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import Part

ENTRY_POINTS = "polylens.models"
FAMILIES = "polylens.families"
GGUF = ".gguf"


def packaged_models() -> list[str]:
    """Names of the models that installed packages bring along, sorted."""
    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def split_family(name_or_path: str | Path) -> tuple[str | None, str]:
    """(the family asked for, the rest) of a name such as `transformers:FOLDER`; the family is None without one."""
    head, colon, rest = str(name_or_path).partition(":")
    asked = bool(colon) and any(point.name == head for point in entry_points(group=FAMILIES))
    return (head, rest) if asked else (None, str(name_or_path))


def check_model(name_or_path: str | Path) -> None:
    """Raises `UserError` for a name that is no model: no path, no packaged model, no hub id. Downloads nothing."""
    _, name = split_family(name_or_path)
    if not Path(name).is_file():
        find_model(name)


def resolve_model(
    name_or_path: str | Path,
    relative_to: Path | None = None,
    *,
    part: Part | None = None,
    weights: bool = True,
) -> Path:
    """The folder that `name_or_path` stands for.

    In this order: an existing folder or GGUF file (of a relative path, one under `relative_to` first), a packaged
    model's name, a part of a packaged model ("NAME/PART"), a hub id (or a revision, "owner/name@v1"),
    downloaded once: whole, or of a BLIP-2 model no more than `part` needs, or without its weights. After a hub id may
    stand a folder or a file of the repository ("owner/name/folder", "owner/name/folder@v1"), which alone is fetched.
    Raises `UserError` when it is none of them.
    """
    found = find_model(name_or_path, relative_to)
    if found is not None and found.suffix == GGUF and found.is_file():
        from polylens.models.checkpoints.gguf import converted

        return converted(found)
    if found is not None:
        return found
    from polylens.models.checkpoints.hub import download

    path, mark, revision = str(name_or_path).partition("@")
    owner, repository, *inside = path.split("/")
    return download(f"{owner}/{repository}{mark}{revision}", part, weights, "/".join(inside))


def find_model(name_or_path: str | Path, relative_to: Path | None = None) -> Path | None:
    """The folder (or GGUF file) of a model that is here, or None for a hub id; nothing is downloaded.

    Raises `UserError` for a name that is no folder, no packaged model and no hub id.
    """
    name = str(name_or_path)
    for folder in ([relative_to / name] if relative_to else []) + [Path(name).expanduser()]:
        if folder.is_dir():
            return folder
        if folder.suffix == GGUF and folder.is_file():
            return folder
    head, _, rest = name.partition("/")
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == head:
            whole = Path(point.load()())
            if (whole / rest).is_dir():
                return whole / rest
            raise UserError(f"The packaged model '{head}' has no part '{rest}': see its folder {whole}.")
    owner, _, rest = name.partition("@")[0].partition("/")
    # A longer path that begins with a folder which is here was meant to be a path.
    local = name.startswith((".", "/", "~")) or name.endswith("/") or ("/" in rest and Path(owner).is_dir())
    if rest and not local:
        return None
    known = ", ".join(packaged_models()) or "none"
    raise UserError(
        f"No model '{name}': no folder, no packaged model ({known}) and no hub id (owner/name, owner/name@revision)."
    )


def part_reference(path: str, source: Path, folder: Path) -> str:
    """How a checkpoint in `folder` names the part that `path` led to `source`: by its name where that is no folder, by
    a relative path when it lies beside, or whole.
    """
    if not Path(path).expanduser().is_dir():
        return path
    source, folder = source.resolve(), folder.resolve()
    return os.path.relpath(source, folder) if source.is_relative_to(folder.parent) else str(source)
