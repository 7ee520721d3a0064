"""Folders of what was trained over a VisCPM: by path and content hash the model it stands on, and what differs.

viscpm.json                 base, tensors, provenance
trained.safetensors         tensors that differ from the base's
adapter_config.json         LoRA, as PEFT saves it (only with LoRA)
adapter_model.safetensors
vocab.txt
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from polylens import __version__
from polylens.errors import UserError
from polylens.files import replacing_folder, sha256_file, sha256_folder, write_atomic
from polylens.models.checkpoints.registry import part_reference, resolve_model
from polylens.models.parts.lora import has_adapters, load_adapters, plain_state, save_adapters
from polylens.models.parts.precision import is_quantized
from polylens.viscpm.files import read_tensors, released_file
from polylens.viscpm.model import VisCpmChat

MANIFEST = "viscpm.json"
WEIGHTS = "trained.safetensors"
FORMAT = 1
CARD = """---
language: [en, zh]
library_name: polylens
base_model: {base}
---

# Trained over {base} with Polylens

This folder holds what was trained, and needs the base model, which it names by its content hash.

```
polylens chat THIS_FOLDER --image photo.jpg
polylens export THIS_FOLDER --format polylens --out whole --precision float16
```
"""


def needs_base(model: VisCpmChat) -> bool:
    """Whether the model is saved as what differs from its base: with adapters, and over weights in 8 or 4 bits."""
    return has_adapters(model.model) or is_quantized(model.model)


def save_trained(model: VisCpmChat, folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write what differs from the model's base, all or nothing; an older such folder is replaced.

    Raises `UserError` for a model that was not loaded from files, or when the folder cannot be written.
    """
    if model.base is None:
        raise UserError("This VisCPM has no base: load it from its files, then train adapters.")
    base = model.base
    source = find_base(base)
    with replacing_folder(folder, MANIFEST) as new:
        tensors = _changed(model, source)
        save_file(tensors, new / WEIGHTS)
        reference = _reference(base, source, Path(folder))
        if has_adapters(model.model):
            save_adapters(model.model, new, reference)
        model.tokenizer.save_pretrained(new)
        (new / "README.md").write_text(CARD.format(base=reference), encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "polylens": __version__,
            "base": {"path": reference, "sha256": content_hash(source)},
            "tensors": sorted(tensors),
            "adapter": has_adapters(model.model),
            "provenance": dict(provenance),
        }
        write_atomic(new / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_trained(folder: Path) -> dict[str, Any]:
    """The folder's `viscpm.json`. Raises `UserError` when it is damaged or of a newer format."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UserError(
                f"'{folder}' is of format {manifest['format']}, this version reads {FORMAT}: update Polylens."
            )
        if not {"path", "sha256"} <= set(manifest["base"]) or "tensors" not in manifest:
            raise KeyError("base, tensors")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{folder / MANIFEST}' is damaged ({error!r}): save the model again.") from error


def base_of(folder: Path, *, check: bool = True) -> tuple[str, Path]:
    """(what the base is called, where it lies).

    Raises `UserError` for one that is missing, and with `check` for another one.
    """
    entry = read_trained(folder)["base"]
    beside = folder / entry["path"]
    name = str(beside.resolve()) if beside.exists() else entry["path"]
    try:
        source = find_base(name)
    except UserError as error:
        raise UserError(
            f"'{folder}' was trained over {entry['path']} (sha256 {entry['sha256'][:12]}...), which is missing: put "
            "it there."
        ) from error
    if check and (found := content_hash(source)) != entry["sha256"]:
        raise UserError(
            f"'{folder}' was trained over another base: the sha256 of {source} is {found[:12]}..., not "
            f"{entry['sha256'][:12]}...; restore it."
        )
    return name, source


def load_trained(model: VisCpmChat, folder: Path) -> VisCpmChat:
    """Put what `folder` holds into `model`, which is its base. Raises `UserError` where it does not fit."""
    manifest = read_trained(folder)
    if manifest["adapter"]:
        load_adapters(model.model, folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights '{folder / WEIGHTS}' are missing or damaged ({error}).") from error
    mine = plain_state(model.model)
    for name in manifest["tensors"]:
        if name not in tensors or name not in mine or tensors[name].shape != mine[name].shape:
            raise UserError(f"'{folder / WEIGHTS}' does not fit its base: see '{name}'.")
        if not mine[name].is_floating_point():
            raise UserError(f"'{name}' was trained and cannot be held in 8 or 4 bits: load it in bfloat16.")
        with torch.no_grad():
            mine[name].copy_(tensors[name])
    return model


def find_base(name: str) -> Path:
    """The file or folder of a base."""
    return Path(name) if Path(name).is_file() else resolve_model(name)


def content_hash(source: Path) -> str:
    """SHA-256 of a released file, or of a folder's content."""
    return sha256_file(source) if source.is_file() else sha256_folder(source)


def _changed(model: VisCpmChat, source: Path) -> dict[str, torch.Tensor]:
    """The tensors that are not the base's in their own type. The base is read tensor by tensor."""
    mine = plain_state(model.model)
    parameters = {name.replace(".base_layer.", ".") for name, _ in model.model.named_parameters()}
    wanted = {name for name, tensor in mine.items() if name in parameters and tensor.is_floating_point()}
    for name, tensor in _tensors(source):
        name = name if name in mine else name.removeprefix("llm.")  # CPM-Bee alone out of a VisCPM
        if name in wanted and torch.equal(tensor.to(mine[name].dtype), mine[name].cpu()):
            wanted.discard(name)
    return {name: mine[name].detach().cpu().contiguous() for name in sorted(wanted)}


def _tensors(source: Path) -> Iterator[tuple[str, torch.Tensor]]:
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    for file in files or [released_file(source)]:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (no iterator)
                    yield name, opened.get_tensor(name)
        else:
            yield from read_tensors(file).items()


def _reference(base: str, source: Path, folder: Path) -> str:
    """The base as a folder that may move with it names it: relative where it lies beside."""
    if source.is_file():
        return part_reference(str(source.parent), source.parent, folder) + f"/{source.name}"
    return part_reference(base, source, folder)
