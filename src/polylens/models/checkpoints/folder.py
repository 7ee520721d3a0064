"""Checkpoint folders: what was trained, and by path and content hash the frozen parts that it stands on.

polylens.json              config, parts, provenance
model.safetensors          resampler, projector, and every tensor of a part that differs from the
                           part's folder
adapter/                   LoRA, as PEFT saves it (only with LoRA)
tokenizer/                 the tokenizer
preprocessor_config.json   how pictures are prepared
vision/, language_model/   parts without a folder of their own, or all parts of a standalone checkpoint
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Blip2QFormerConfig

from polylens import __version__
from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.files import replacing_folder, sha256_folder, write_atomic
from polylens.models.checkpoints.blip2 import load_blip2
from polylens.models.checkpoints.blip2_files import PREFIXES, Part, holding, is_blip2, weight_files
from polylens.models.checkpoints.build import (
    compose,
    fingerprint,
    load_language_model,
    load_vision,
    part_state,
    remember_parts,
)
from polylens.models.checkpoints.card import MANIFEST
from polylens.models.checkpoints.manifest import FORMAT, WEIGHTS, read_manifest
from polylens.models.checkpoints.registry import packaged_models, part_reference, resolve_model
from polylens.models.config import Quantization
from polylens.models.parts.lora import has_adapters, load_adapters, save_adapters
from polylens.models.parts.precision import is_quantized, quantized_weights
from polylens.models.parts.resamplers import QFormer
from polylens.models.vlm import VisionLanguageModel

ADAPTER = "adapter"
TOKENIZER = "tokenizer"
PARTS: tuple[Part, ...] = ("vision", "language_model")


def save_model(
    model: VisionLanguageModel,
    folder: str | Path,
    provenance: Mapping[str, Any] | None = None,
    standalone: bool = False,
) -> None:
    """Write `model` to `folder`, all or nothing; an older checkpoint there is replaced.

    A part that was loaded from a folder is written as that folder's path (relative where it lies beside the
    checkpoint), its content hash, and the tensors that have changed since; any other part, and with
    `standalone` every part, becomes a sub-folder. `provenance` is kept as it is. Raises `UserError` when
    the folder cannot be written, or holds something else.
    """
    with replacing_folder(folder, MANIFEST) as new:
        _write(model, Path(folder), new, dict(provenance or {}), standalone)


def _write(
    model: VisionLanguageModel, folder: Path, new: Path, provenance: dict[str, Any], standalone: bool
) -> None:
    config = model.config.model_dump()
    # Wherever the resampler was taken from, this checkpoint has it now.
    config["resampler"]["path"] = config["projector"]["path"] = None
    parts: dict[str, dict[str, str]] = {}
    tensors = {
        f"{part}.{name}": tensor
        for part in ("resampler", "projector")
        for name, tensor in getattr(model, part).state_dict().items()
    }
    for part in PARTS:
        state = part_state(model, part)
        source = None
        if config[part]["path"] is not None and not standalone:
            source = resolve_model(config[part]["path"], part=part)
        if source is None or source.resolve().is_relative_to(folder.resolve()):
            inner = model.vision.model if part == "vision" else model.lm
            if is_quantized(inner):
                raise UserError(
                    "A language model in 8 or 4 bits is not written again: load it in bfloat16, then save."
                )
            inner.save_pretrained(new / part, state_dict=state)
            (model.processor.save if part == "vision" else model.tokenizer.save_pretrained)(new / part)
            parts[part] = {"path": part, "sha256": sha256_folder(new / part)}
        else:
            reference = part_reference(config[part]["path"], source, folder)
            parts[part] = {"path": reference, "sha256": sha256_part(source, part)}
            tensors |= {
                f"{part}.{name}": tensor
                for name, tensor in state.items()
                if model.fingerprints.get(f"{part}.{name}", {}).get(tensor.dtype) != fingerprint(tensor)
            }
        config[part]["path"] = parts[part]["path"]
    if has_adapters(model.language_model):
        save_adapters(model.language_model, new / ADAPTER, parts["language_model"]["path"])
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _unshared(tensors).items()}
    save_file(tensors, new / WEIGHTS)
    model.tokenizer.save_pretrained(new / TOKENIZER)
    model.processor.save(new)
    resampler = model.resampler
    manifest = {
        "format": FORMAT,
        "polylens": __version__,
        "config": config,
        "qformer": _qformer_sizes(resampler) if isinstance(resampler, QFormer) else None,
        "parts": parts,
        "tensors": sorted(tensors),
        "adapter": has_adapters(model.language_model),
        "provenance": provenance,
    }
    write_atomic(new / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _qformer_sizes(qformer: QFormer) -> dict[str, Any]:
    return {"num_tokens": qformer.num_tokens, "config": qformer.model.config.to_diff_dict()}


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One name for each tensor: tied weights have several."""
    distinct: dict[Any, tuple[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        distinct.setdefault((tensor.data_ptr(), tensor.shape, tensor.dtype), (name, tensor))
    return dict(distinct.values())


def sha256_part(folder: Path, part: Part) -> str:
    """SHA-256 of a part's folder; of a BLIP-2 folder only the weight files that hold the part count."""
    if is_blip2(folder):
        return sha256_folder(folder, holding(weight_files(folder), PREFIXES[part]))
    return sha256_folder(folder)


def load_model(
    name_or_path: str | Path, dtype: torch.dtype = torch.float32, quantization: Quantization | None = None
) -> VisionLanguageModel:
    """The model of a checkpoint folder, a packaged name, a hub id, or a BLIP-2 folder, ready to be used.

    With `quantization` its language model is held in 8 or 4 bits, and `dtype` should be bfloat16.
    Raises `UserError` that names the part or tensor which is missing, or whose content is not what the
    checkpoint was trained on.
    """
    folder = resolve_model(name_or_path)
    if not (folder / MANIFEST).is_file():
        if is_blip2(folder):
            return load_blip2(folder, dtype, quantization).eval()
        raise UserError(
            f"'{name_or_path}' has no {MANIFEST}: it is neither a checkpoint nor a BLIP-2 folder."
        )
    manifest, config = read_manifest(folder)
    for part in PARTS:
        path = _find_part(folder, part, manifest["parts"][part], str(name_or_path))
        setattr(config, part, getattr(config, part).model_copy(update={"path": path}))
    vision = load_vision(config.vision, dtype)
    config.language_model.quantization = quantization
    language_model, tokenizer = load_language_model(config.language_model.path, dtype, quantization)
    if (folder / TOKENIZER).is_dir():
        tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
    sizes = manifest.get("qformer")
    resampler = QFormer(Blip2QFormerConfig(**sizes["config"]), sizes["num_tokens"]) if sizes else None
    model = compose(config, vision, language_model, tokenizer, ImageProcessor.from_folder(folder), resampler)
    remember_parts(model)
    _load_tensors(model, folder, manifest)
    if manifest["adapter"]:
        load_adapters(model.language_model, folder / ADAPTER)
    model.resampler.to(dtype)
    model.projector.to(dtype)
    return model.eval()


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """What was given as `provenance` when the checkpoint was saved."""
    return read_manifest(Path(folder))[0]["provenance"]


def _find_part(folder: Path, part: Part, entry: dict[str, str], name: str) -> str:
    """The part's path for this session: checked, and under a packaged model by that model's name."""
    try:
        source = resolve_model(entry["path"], relative_to=folder, part=part)
    except UserError as error:
        raise UserError(
            f"The {part} part of '{name}' is missing: {entry['path']} (sha256 {entry['sha256'][:12]}...) is "
            "neither beside the checkpoint nor elsewhere; put it there."
        ) from error
    found = sha256_part(source, part)
    if found != entry["sha256"]:
        raise UserError(
            f"The {part} part of '{name}', {source}, is not the one that the checkpoint was made with: "
            f"its sha256 is {found[:12]}..., not {entry['sha256'][:12]}...; restore it."
        )
    if name in packaged_models() and source.is_relative_to(folder):
        return f"{name}/{source.relative_to(folder).as_posix()}"
    return str(source) if (folder / entry["path"]).is_dir() else entry["path"]


def _load_tensors(model: VisionLanguageModel, folder: Path, manifest: dict[str, Any]) -> None:
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights '{folder / WEIGHTS}' are missing or damaged ({error}).") from error
    lost = sorted(set(manifest["tensors"]) - set(tensors))
    modules: dict[str, torch.nn.Module] = {
        "vision": model.vision.model,
        "resampler": model.resampler,
        "projector": model.projector,
        "language_model": model.language_model,
    }
    for part, module in modules.items():
        own = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")}
        if part == "language_model" and (trained := sorted(own.keys() & quantized_weights(module))):
            raise UserError(
                f"The language model of '{folder}' was trained itself ('{trained[0]}', {len(trained)} weights in all), "
                "and such weights cannot be put into 8 or 4 bits as they are loaded: write it in one folder first "
                "(polylens export --format polylens), or load it in bfloat16."
            )
        try:
            result = module.load_state_dict(own, strict=False)
        except RuntimeError as error:
            raise UserError(f"The weights '{folder / WEIGHTS}' do not fit the {part}: {error}") from error
        lost += [f"{part}.{name}" for name in result.unexpected_keys]
        if part not in PARTS:
            lost += [f"{part}.{name}" for name in result.missing_keys]
    if lost:
        raise UserError(
            f"'{folder / WEIGHTS}' does not fit its {MANIFEST}: see '{lost[0]}' ({len(lost)} in all)."
        )
