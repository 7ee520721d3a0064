"""LoRA merged shard by shard: weights pass through memory a few at a time, so that a model of any size can be merged.

    base folder, a tensor at a time --+ scale * B @ A--> shards of a new folder

What a shard holds is all that is in memory, beside the adapter. The new weight is computed in float32 and stored in the
type of the old one.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from polylens.errors import UserError
from polylens.files import WEIGHT_SUFFIXES, replacing_folder, sha256_folder, write_atomic
from polylens.models.checkpoints.blip2_files import PREFIXES, is_blip2, weight_files
from polylens.models.checkpoints.blip2_parts import read_config
from polylens.models.checkpoints.card import MANIFEST
from polylens.models.checkpoints.manifest import WEIGHTS, read_manifest
from polylens.models.checkpoints.registry import part_reference, resolve_model
from polylens.models.parts.lora import PEFT_PREFIX, SETTINGS, read_adapter_tensors

SHARD_BYTES = 2 << 30
ADAPTER = "adapter"
INDEX = "model.safetensors.index.json"
# Settings of PEFT that change what an adapter adds: none of them is LoRA as it is merged here.
REFUSED = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "use_rslora",
)


@dataclass
class Adapter:
    """The pairs (A, B) of a LoRA adapter by the name of the linear layer, and what they are scaled by."""

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    scale: float
    transposed: bool
    used: set[str] = field(default_factory=set)

    def merged(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor called `name` in the base folder, with what was learnt beside it."""
        module = self._module(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if module is None:
            return tensor
        down, up = self.pairs[module]
        delta = self.scale * (up.float() @ down.float())
        delta = delta.T if self.transposed else delta
        if delta.shape != tensor.shape:
            raise UserError(
                f"The adapter of '{module}' is {tuple(delta.shape)}, and the weight is {tuple(tensor.shape)}: "
                "is it of another model?"
            )
        self.used.add(module)
        return (tensor.float() + delta).to(tensor.dtype)

    def _module(self, name: str) -> str | None:
        """The layer of that name; folders may leave out the first part, as BLOOM's do ("h.0" for "transformer.h.0")."""
        if name in self.pairs:
            return name
        return next((module for module in self.pairs if module.partition(".")[2] == name), None)


def read_adapter(folder: Path) -> Adapter:
    """A LoRA adapter as PEFT saves it. Raises `UserError` for what is no such folder, or more than plain LoRA."""
    try:
        config = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        tensors = read_adapter_tensors(folder)
    except Exception as error:
        raise UserError(
            f"'{folder}' holds no LoRA adapter that can be read ({error}): check the path."
        ) from error
    for setting in REFUSED:
        if config.get(setting):
            raise UserError(
                f"The adapter '{folder}' has '{setting}', which is not merged here: merge it with PEFT."
            )
    pairs: dict[str, list[torch.Tensor | None]] = {}
    for key, tensor in tensors.items():
        module, mark, kind = key.removeprefix(PEFT_PREFIX).partition(".lora_")
        place = {"A": 0, "B": 1}.get(kind[:1]) if mark else None
        if place is None:
            raise UserError(
                f"The adapter '{folder}' holds '{key}', which is no matrix of LoRA: merge it with PEFT."
            )
        pairs.setdefault(module, [None, None])[place] = tensor
    whole = {
        module: (down, up) for module, (down, up) in pairs.items() if down is not None and up is not None
    }
    if len(whole) != len(pairs) or not whole:
        raise UserError(f"The adapter '{folder}' lacks matrices: copy it again.")
    return Adapter(whole, alpha / rank, bool(config.get("fan_in_fan_out")))


def merge_folder(
    base: str | Path, adapter: str | Path, out: str | Path, shard_bytes: int = SHARD_BYTES
) -> int:
    """Write the language model, or the BLIP-2 model, `base` to `out` with an adapter merged into it; how many layers.

    All other files are copied. Raises `UserError` for an adapter that is of another model.
    """
    folder, learnt = resolve_model(base), read_adapter(Path(adapter))
    inside = PREFIXES["language_model"][0] if is_blip2(folder) else ""
    with replacing_folder(out) as new:
        tensors = (
            (name, learnt.merged(name.removeprefix(inside), tensor) if name.startswith(inside) else tensor)
            for name, tensor in _tensors(folder)
        )
        _write_shards(tensors, new, shard_bytes)
        _check_used(learnt)
        for file in folder.iterdir():
            if file.is_file() and not _is_weight(file):
                shutil.copyfile(file, new / file.name)
    return len(learnt.used)


def merge_checkpoint(checkpoint: str | Path, out: str | Path, shard_bytes: int = SHARD_BYTES) -> int:
    """Write a checkpoint to `out` with its adapter merged: its language model is then a folder of its own in it.

    Returns how many layers were merged. Raises `UserError` for a checkpoint that carries no adapter.
    """
    folder = resolve_model(checkpoint)
    manifest, _ = read_manifest(folder)
    if not manifest["adapter"]:
        raise UserError(f"'{checkpoint}' carries no LoRA adapter: there is nothing to merge.")
    entry = manifest["parts"]["language_model"]
    base = resolve_model(entry["path"], relative_to=folder, part="language_model")
    learnt = read_adapter(folder / ADAPTER)
    own = load_file(folder / WEIGHTS)
    inside = PREFIXES["language_model"][0]
    changed = {name.removeprefix(inside): tensor for name, tensor in own.items() if name.startswith(inside)}
    with replacing_folder(out) as new:
        target = new / "language_model"
        target.mkdir()
        _write_shards(_language_model(base, changed, learnt), target, shard_bytes)
        _check_used(learnt)
        _copy_beside(base, target)
        kept = {name: tensor for name, tensor in own.items() if not name.startswith(inside)}
        save_file(kept, new / WEIGHTS)
        for file in folder.iterdir():
            if file.name not in (WEIGHTS, MANIFEST, ADAPTER, "language_model"):
                (shutil.copytree if file.is_dir() else shutil.copyfile)(file, new / file.name)
        manifest["adapter"] = False
        manifest["tensors"] = sorted(kept)
        if not (new / "vision").is_dir():
            path = manifest["parts"]["vision"]["path"]
            source = resolve_model(path, relative_to=folder, part="vision")
            reference = part_reference(
                str(folder / path) if (folder / path).is_dir() else path, source, Path(out)
            )
            manifest["parts"]["vision"]["path"] = manifest["config"]["vision"]["path"] = reference
        manifest["parts"]["language_model"] = {"path": "language_model", "sha256": sha256_folder(target)}
        manifest["config"]["language_model"]["path"] = "language_model"
        write_atomic(new / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return len(learnt.used)


def _language_model(
    base: Path, changed: Mapping[str, torch.Tensor], learnt: Adapter
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the language model in `base`, as the checkpoint has them, merged."""
    inside = PREFIXES["language_model"][0] if is_blip2(base) else ""
    for name, tensor in _tensors(base):
        if name.startswith(inside):
            own = name.removeprefix(inside)
            yield own, learnt.merged(own, changed.get(own, tensor))


def _copy_beside(base: Path, target: Path) -> None:
    """The config, of a BLIP-2 folder its language model's, and the tokenizer."""
    for file in base.iterdir():
        if file.is_file() and not _is_weight(file):
            shutil.copyfile(file, target / file.name)
    if is_blip2(base):
        read_config(base).text_config.save_pretrained(target)


def _is_weight(file: Path) -> bool:
    return file.suffix in WEIGHT_SUFFIXES or file.name.endswith(".index.json")


def _check_used(learnt: Adapter) -> None:
    lost = sorted(set(learnt.pairs) - learnt.used)
    if lost:
        raise UserError(
            f"The model has no layer '{lost[0]}' ({len(lost)} in all), which the adapter was trained beside: give the "
            "model that it was trained on."
        )


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a folder's weight files, one at a time; nothing pickled is executed."""
    for file in weight_files(folder):
        path = folder / file
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as opened:
                    for name in opened.keys():  # noqa: SIM118 (no iterator)
                        yield name, opened.get_tensor(name)
            else:
                yield from torch.load(
                    path, map_location="cpu", weights_only=True, mmap=is_zipfile(path)
                ).items()
        except OSError as error:
            raise UserError(
                f"The weights '{path}' are missing or damaged ({error}): load them again."
            ) from error


def _write_shards(tensors: Iterator[tuple[str, torch.Tensor]], folder: Path, shard_bytes: int) -> None:
    """Files of at most `shard_bytes` (or of one larger tensor), named as transformers names them, and their index."""
    shards: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    sizes = [0, 0]  # of the shard at hand, and of all

    def write() -> None:
        save_file(held, folder / f"{len(shards)}.tmp", metadata={"format": "pt"})
        shards.append(list(held))
        held.clear()
        sizes[0] = 0

    for name, tensor in tensors:
        if held and sizes[0] + tensor.nbytes > shard_bytes:
            write()
        held[name] = tensor.contiguous().clone()
        sizes[0] += tensor.nbytes
        sizes[1] += tensor.nbytes
    write()
    weight_map: dict[str, Any] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"{number}.tmp").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sizes[1]}, "weight_map": weight_map}
    write_atomic(folder / INDEX, json.dumps(index, indent=2) + "\n")
