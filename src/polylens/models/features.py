"""Image features of a folder of pictures, in files that search engines and notebooks read.

    pictures in order of their names -> batches -> encoder (and resampler, projector) -> pooled or each token -> files

    OUT/features.json             what they are of: model, level, pooling, pictures
    OUT/features-00000.npz        names and features of the first pictures; also .safetensors or .parquet

A file is written whole. A run that was stopped goes on with the first file that is missing.

Shapes: N pictures, T states or tokens of each, D wide.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save

from polylens.batching import chunks
from polylens.data.images import FilePicture
from polylens.data.listing import PICTURES, pictures_below
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.files import make_writable_folder, write_atomic

Level = Literal["encoder", "tokens"]
FeatureFormat = Literal["npz", "safetensors", "parquet"]
MANIFEST = "features.json"


def find_pictures(folder: str | Path) -> dict[str, FilePicture]:
    """All pictures in a folder and below it, by name, in order. Raises `UserError` when there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}': give the one that holds the pictures.")
    found = {file.relative_to(folder).as_posix(): FilePicture(file) for file in pictures_below(folder)}
    if not found:
        raise UserError(f"The folder '{folder}' holds no pictures ({', '.join(PICTURES)}).")
    return dict(sorted(found.items()))


def image_features(model: Any, pictures: Sequence[Picture], level: Level, pooled: bool) -> torch.Tensor:
    """(N, D) means over what the model sees of each picture, or (N, T, D) all of it, in float32.

    `level` "encoder" is what the image encoder gives, before it is put into the language model's terms; "tokens" what
    the language model reads. Raises `UserError` for a model whose encoder alone cannot be asked.
    """
    with torch.inference_mode():
        if level == "tokens":
            tokens = model.encode_pictures(pictures, len(pictures))
            states = torch.stack([tokens[picture.key] for picture in pictures])
        else:
            encode: Callable[[torch.Tensor], torch.Tensor] | None = getattr(model, "encode", None)
            if encode is None:
                raise UserError("This model gives no states of its encoder alone: take the level 'tokens'.")
            pixels = model.processor([picture.load() for picture in pictures])
            weight = next(model.vision.parameters())
            states = encode(pixels.to(weight.device))
        states = states.float().cpu()
    return states.mean(1) if pooled else states


def write_features(
    model: Any,
    origin: Mapping[str, Any],
    pictures: dict[str, FilePicture],
    out: str | Path,
    *,
    level: Level = "encoder",
    pooled: bool = True,
    format: FeatureFormat = "npz",
    batch_size: int = 32,
    per_file: int = 4096,
    skip: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write the features of pictures, by name, into `out`; what is there already is gone on with.

    `origin` says which model they are of, in `features.json` and to tell one run from another.
    Pictures that cannot be read end it, or with `skip` are left out and named in `features.json`, which is returned.
    Raises `UserError` for a folder that holds features of something else.
    """
    out = make_writable_folder(out)
    names = list(pictures)
    identity = {
        **origin,
        "level": level,
        "pooled": pooled,
        "format": format,
        "per_file": per_file,
        "pictures": len(names),
        "pictures_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
    }
    manifest = _begin(out / MANIFEST, identity)
    for number, mine in enumerate(chunks(names, per_file)):
        path = out / f"features-{number:05d}.{format}"
        if not path.exists():
            kept, rows = [], []
            for batch in chunks(mine, batch_size):
                readable = [
                    name for name in batch if _readable(pictures[name], name, skip, manifest["left_out"])
                ]
                if readable:
                    rows.append(image_features(model, [pictures[name] for name in readable], level, pooled))
                    kept += readable
                advance(len(batch))
            # What was left out stands in the manifest before the file says that its part is done.
            write_atomic(out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            write_atomic(path, _encoded(kept, torch.cat(rows) if rows else torch.empty(0), format))
        else:
            advance(len(mine))
    return manifest


def read_features(folder: str | Path) -> tuple[list[str], np.ndarray]:
    """The names and features, (N, D) or (N, T, D), of all files that `write_features` wrote."""
    names: list[str] = []
    rows = []
    for path in sorted(Path(folder).glob("features-*")):
        found, features = _decoded(path)
        if found:
            names += found
            rows.append(features)
    return names, np.concatenate(rows) if rows else np.empty(0, np.float32)


def _begin(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return identity | {"left_out": {}}
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = next((key for key, value in identity.items() if before.get(key) != value), None)
    if changed is not None:
        raise UserError(
            f"'{path.parent}' holds features of other settings ({changed}: {before.get(changed)}, now "
            f"{identity[changed]}): choose another folder."
        )
    return before


def _readable(picture: FilePicture, name: str, skip: bool, left_out: dict[str, str]) -> bool:
    try:
        picture.load()
    except UserError as error:
        if not skip:
            raise UserError(f"{error} (To leave such pictures out, give --skip-unreadable.)") from error
        left_out[name] = str(error)
        return False
    return True


def _encoded(names: list[str], features: torch.Tensor, format: FeatureFormat) -> bytes:
    if format == "safetensors":
        return save({"features": features.contiguous()}, {"names": json.dumps(names, ensure_ascii=False)})
    buffer = io.BytesIO()
    if format == "npz":
        np.savez(buffer, names=np.array(names, dtype=str), features=features.numpy())
        return buffer.getvalue()
    pa, parquet = _arrow()
    flat = features.flatten(1).numpy() if names else np.empty((0, 0), np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel(), pa.float32()), max(flat.shape[1], 1))
    shape = json.dumps(list(features.shape[1:]))
    table = pa.table({"name": pa.array(names, pa.string()), "features": column}).replace_schema_metadata(
        {"shape": shape}
    )
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def _decoded(path: Path) -> tuple[list[str], np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            return found["names"].tolist(), found["features"]
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="np") as opened:
            return json.loads(opened.metadata()["names"]), opened.get_tensor("features")
    _, parquet = _arrow()
    table = parquet.read_table(path)
    shape = json.loads(table.schema.metadata[b"shape"])
    flat = np.array(table["features"].to_pylist(), np.float32)
    return table["name"].to_pylist(), flat.reshape(len(flat), *shape)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install 'polylens[parquet]'.") from error
    return pa, parquet
