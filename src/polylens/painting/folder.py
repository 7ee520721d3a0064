"""Painter folders: what was trained, and by path and content hash the parts that it stands on.

painter.json        config, parts, provenance
model.safetensors   bridge, and every tensor of the denoiser that differs from the denoiser's folder; its adapters
text/, space/       parts without a folder of their own, or all parts of a standalone folder
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polylens import __version__
from polylens.errors import UserError
from polylens.files import replacing_folder, sha256_file, sha256_folder, write_atomic
from polylens.models.checkpoints.build import fingerprint
from polylens.models.checkpoints.families import Stream
from polylens.models.checkpoints.registry import part_reference, resolve_model
from polylens.models.config import Quantization
from polylens.models.parts.lora import Lora, adapters, add_adapters
from polylens.painting.build import build_painter, denoiser_state
from polylens.painting.config import MANIFEST, PainterConfig
from polylens.painting.painter import Painter
from polylens.painting.parts import AUTOENCODERS, DENOISERS, Latents, part_folder
from polylens.painting.text import CpmBeeText

WEIGHTS = "model.safetensors"
FORMAT = 1
# Sub-folders of a pipeline that each part is looked for in; the language model is a folder of its own.
PLACES: dict[str, tuple[str, ...]] = {"text": (), "denoiser": DENOISERS, "space": AUTOENCODERS}


def save_painter(
    painter: Painter,
    folder: str | Path,
    provenance: Mapping[str, Any] | None = None,
    *,
    standalone: bool = False,
    dtype: torch.dtype | None = None,
) -> None:
    """Write `painter` to `folder`, all or nothing; an older painter there is replaced.

    Parts that were loaded from folders are written as path and content hash (with `standalone`, copied); the
    trained tensors in `dtype` if it is given. Raises `UserError` when the folder cannot be written, or holds
    something else.
    """
    with replacing_folder(folder, MANIFEST) as new:
        _write(painter, Path(folder), new, dict(provenance or {}), standalone, dtype)


def _write(
    painter: Painter,
    folder: Path,
    new: Path,
    provenance: dict[str, Any],
    standalone: bool,
    dtype: torch.dtype | None,
) -> None:
    config = painter.config.model_dump()
    parts: dict[str, dict[str, str]] = {}
    for part, places in PLACES.items():
        path = config[part]["path"]
        source = None if path is None else (part_folder(path, places) if places else resolve_model(path))
        inside = source is not None and source.resolve().is_relative_to(folder.resolve())
        if source is not None and not standalone and not inside:
            reference = part_reference(path, source, folder)
            config[part]["path"] = reference
            parts[part] = {"path": reference, "sha256": sha256_folder(source)}
        elif part == "denoiser":
            config[part] = {"path": None, "config": _denoiser_config(painter)}
        elif part == "text" or isinstance(painter.space, Latents):
            if source is not None:
                shutil.copytree(source, new / part)
            elif part == "space":
                assert isinstance(painter.space, Latents)
                painter.space.autoencoder.save_pretrained(new / part)
            else:
                _save_text(painter, new / part)
            config[part]["path"] = part
            parts[part] = {"path": part, "sha256": sha256_folder(new / part)}
    state = denoiser_state(painter)
    if "denoiser" in parts:
        known = painter.fingerprints
        state = {n: t for n, t in state.items() if known.get(n, {}).get(t.dtype) != fingerprint(t)}
    tensors = {f"bridge.{name}": tensor for name, tensor in painter.bridge.state_dict().items()}
    tensors |= {f"denoiser.{name}": tensor for name, tensor in state.items()}
    tensors |= {
        f"denoiser.{name}": tensor
        for name, tensor in painter.denoiser.state_dict().items()
        if ".lora_" in name
    }
    save_file(
        {n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in tensors.items()}, new / WEIGHTS
    )
    lora = adapters(painter.denoiser)
    manifest = {
        "format": FORMAT,
        "polylens": __version__,
        "config": config,
        "parts": parts,
        "weights_sha256": sha256_file(new / WEIGHTS),
        "tensors": sorted(tensors),
        "adapters": None if lora is None else lora.model_dump(),
        "provenance": provenance,
    }
    write_atomic(new / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _denoiser_config(painter: Painter) -> dict[str, Any]:
    settings = {key: value for key, value in painter.denoiser.config.items() if not key.startswith("_")}
    return {"_class_name": type(painter.denoiser).__name__} | settings


def _save_text(painter: Painter, folder: Path) -> None:
    text = painter.text
    if not isinstance(text, CpmBeeText):
        raise UserError("The language model of this painter has no folder: set text.path before saving.")
    text.model.save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)


def is_painter(folder: Path) -> bool:
    """Whether a folder is one that `save_painter` wrote."""
    return (folder / MANIFEST).is_file()


def identity(name_or_path: str | Path) -> str:
    """SHA-256 of a painter's `painter.json`, which names the content of all its parts."""
    return sha256_file(resolve_model(name_or_path) / MANIFEST)


def load_painter(
    name_or_path: str | Path,
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    stream: Stream | None = None,
) -> Painter:
    """The painter of a folder, a packaged name or a hub id, ready to draw; see `build_painter`.

    Raises `UserError` that names the part or tensor which is missing, or whose content is not what the painter was
    trained on.
    """
    folder = resolve_model(name_or_path)
    if not is_painter(folder):
        raise UserError(f"'{name_or_path}' has no {MANIFEST}: it is no painter that Polylens saved.")
    manifest, config = _read_manifest(folder)
    for part, entry in manifest["parts"].items():
        place = getattr(config, part)
        setattr(
            config,
            part,
            place.model_copy(update={"path": _find_part(folder, part, entry, str(name_or_path))}),
        )
    painter = build_painter(config, dtype, quantization, stream)
    if manifest["adapters"] is not None:
        add_adapters(painter.denoiser, Lora.model_validate(manifest["adapters"]))
    _load_tensors(painter, folder, manifest)
    return painter.requires_grad_(False).eval()


def _read_manifest(folder: Path) -> tuple[dict[str, Any], PainterConfig]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(
                f"'{folder}' is of format {manifest['format']}, this version reads {FORMAT}: update Polylens."
            )
        return manifest, PainterConfig.model_validate(manifest["config"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"'{folder / MANIFEST}' is damaged ({error!r}): save the painter again.") from error


def _find_part(folder: Path, part: str, entry: Mapping[str, str], name: str) -> str:
    """The part's path for this session, its content checked."""
    beside = folder / entry["path"]
    path = str(beside) if beside.is_dir() else entry["path"]
    try:
        source = part_folder(path, PLACES[part]) if PLACES[part] else resolve_model(path)
    except UserError as error:
        raise UserError(
            f"The {part} part of '{name}' is missing: {entry['path']} (sha256 {entry['sha256'][:12]}...) is "
            "neither beside the painter nor elsewhere; put it there."
        ) from error
    found = sha256_folder(source)
    if found != entry["sha256"]:
        raise UserError(
            f"The {part} part of '{name}', {source}, is not the one that the painter was made with: "
            f"its sha256 is {found[:12]}..., not {entry['sha256'][:12]}...; restore it."
        )
    return path


def _load_tensors(painter: Painter, folder: Path, manifest: Mapping[str, Any]) -> None:
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights '{folder / WEIGHTS}' are missing or damaged ({error}).") from error
    adapted = {n.replace(".base_layer.", "."): n for n in painter.denoiser.state_dict()}
    lost = sorted(set(manifest["tensors"]) - set(tensors))
    for part, module in {"bridge": painter.bridge, "denoiser": painter.denoiser}.items():
        own = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
        if part == "denoiser":
            own = {adapted.get(name, name): tensor for name, tensor in own.items()}
        try:
            result = module.load_state_dict(own, strict=False)
        except RuntimeError as error:
            raise UserError(f"The weights '{folder / WEIGHTS}' do not fit the {part}: {error}") from error
        lost += [f"{part}.{name}" for name in result.unexpected_keys]
        if part not in manifest["parts"]:
            lost += [f"{part}.{name}" for name in result.missing_keys]
    if lost:
        raise UserError(
            f"'{folder / WEIGHTS}' does not fit its {MANIFEST}: see '{lost[0]}' ({len(lost)} in all)."
        )
