"""What a model folder is: its parts, their sizes on disk, and the memory it takes in each precision.

Told from configs and from the headers of the weight files; no weights are read.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import PREFIXES
from polylens.models.checkpoints.card import MANIFEST, card_languages
from polylens.models.checkpoints.families import match_family
from polylens.models.checkpoints.inventory import TensorInfo, read_headers
from polylens.models.checkpoints.manifest import WEIGHTS, read_manifest
from polylens.models.checkpoints.model_info import ModelInfo, PartInfo
from polylens.models.checkpoints.skeleton import blip2_skeleton, checkpoint_skeleton, language_model_skeleton
from polylens.models.checkpoints.weight_sizes import PRECISIONS, language_model_bytes, weight_bytes
from polylens.models.vlm import VisionLanguageModel


def describe(name_or_path: str | Path) -> ModelInfo:
    """What the model is. Raises `UserError` for a folder that is no model, or whose files are damaged.

    Of a model on the hub only its small files are fetched, so nothing is said of its weight files.
    """
    family, path = match_family(name_or_path, weights=False)
    return family.describe(path) if family else describe_part(path)


def describe_blip2(folder: Path) -> ModelInfo:
    path = str(folder)
    model = blip2_skeleton(path)
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = read_headers(folder)
    parts = _parts(model, tensors, {str(part): prefixes for part, prefixes in PREFIXES.items()})
    notes = []
    if raw.get("image_token_index", raw.get("image_token_id")) is None:
        notes.append(
            "has no image token: saved by transformers 4, whose successors cannot run it; Polylens can"
        )
    notes += _head_notes(model, tensors)
    if not tensors:
        notes.append("its weight files are not here")
    memory = {p: weight_bytes(model, p) for p in PRECISIONS}
    kind = f"BLIP-2 (mBLIP) over {_kind_of_lm(model)}"
    return ModelInfo(path, kind, parts, memory, card_languages(folder), notes)


def describe_checkpoint(folder: Path) -> ModelInfo:
    manifest, config = read_manifest(folder)
    model = checkpoint_skeleton(folder)
    tensors = read_headers(folder / WEIGHTS)
    prefixes = {part: (f"{part}.",) for part in ("vision", "resampler", "projector", "language_model")}
    parts = _parts(model, tensors, prefixes, {n: entry["path"] for n, entry in manifest["parts"].items()})
    notes = [f"written by Polylens {manifest['polylens']}"]
    if manifest["adapter"]:
        adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
        count = sum(tensor.count for tensor in read_headers(folder / "adapter"))
        notes.append(f"carries LoRA adapters of rank {adapter['r']} ({count:,} numbers)")
    memory = {p: weight_bytes(model, p) for p in PRECISIONS}
    kind = f"Polylens checkpoint: {config.resampler.kind} over {_kind_of_lm(model)}"
    return ModelInfo(str(folder), kind, parts, memory, config.language_model.languages, notes)


def describe_part(folder: Path) -> ModelInfo:
    """A language model or an image encoder alone, as transformers saves it."""
    tensors = read_headers(folder)
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = raw["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{folder}' is no model folder: it has neither {MANIFEST} nor a config.json that names a model."
        ) from error
    count, size, types = _sums(tensors)
    decoders = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if decoders or model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        lm = language_model_skeleton(raw)
        kind = "encoder-decoder language model" if lm.config.is_encoder_decoder else "decoder language model"
        count = sum(p.numel() for p in lm.parameters())
        memory = {p: {"language_model": language_model_bytes(lm, p)} for p in PRECISIONS}
        part = PartInfo("language_model", type(lm).__name__, count, len(tensors), size, types)
        return ModelInfo(str(folder), f"{kind} ({model_type})", [part], memory, card_languages(folder))
    memory = {"float32": {"weights": 4 * count}, "bfloat16": {"weights": 2 * count}}
    part = PartInfo("weights", model_type, count, len(tensors), size, types)
    return ModelInfo(str(folder), f"model of type {model_type}", [part], memory, card_languages(folder))


def describe_names(
    path: Path, kind: str, prefixes: Mapping[str, tuple[str, ...]], languages: list[str] | None = None
) -> ModelInfo:
    """A model whose files have no config: `prefixes` are the beginnings of the tensor names of each part."""
    tensors = read_headers(path)
    parts = []
    for name, starts in prefixes.items():
        own = [tensor for tensor in tensors if tensor.name.startswith(starts)]
        if own:
            count, size, types = _sums(own)
            parts.append(PartInfo(name, "", count, len(own), size, types))
    memory = {
        precision: {part.name: each * part.parameters for part in parts}
        for precision, each in (("float32", 4), ("bfloat16", 2))
    }
    return ModelInfo(str(path), kind, parts, memory, languages)


def _parts(
    model: VisionLanguageModel,
    tensors: Sequence[TensorInfo],
    prefixes: Mapping[str, tuple[str, ...]],
    sources: dict[str, str] | None = None,
) -> list[PartInfo]:
    inner = {
        "vision": model.vision.model,
        "resampler": model.resampler,
        "projector": model.projector,
        "language_model": model.lm,
    }
    parts = []
    for name, module in inner.items():
        own = [tensor for tensor in tensors if tensor.name.startswith(prefixes[name])]
        _, size, types = _sums(own)
        count = sum(p.numel() for p in module.parameters())
        source = (sources or {}).get(name)
        parts.append(PartInfo(name, type(module).__name__, count, len(own), size, types, source))
    return parts


def _sums(tensors: Sequence[TensorInfo]) -> tuple[int, int, tuple[str, ...]]:
    types = tuple(sorted({tensor.dtype for tensor in tensors}))
    return sum(t.count for t in tensors), sum(t.size for t in tensors), types


def _kind_of_lm(model: VisionLanguageModel) -> str:
    kind = "encoder-decoder" if model.is_encoder_decoder else "decoder"
    return f"{model.lm.config.model_type}, {kind}"


def _head_notes(model: VisionLanguageModel, tensors: Sequence[TensorInfo]) -> list[str]:
    apart = model.lm.get_output_embeddings().weight is not model.lm.get_input_embeddings().weight
    has_head = any(tensor.name.endswith("lm_head.weight") for tensor in tensors)
    return ["its output head is apart from the embeddings, and stays so"] if apart and has_head else []
