"""Nearest neighbours of pictures or words in the space of a CLIP-like dual encoder, for hard negatives.

    embed (any transformers model with image and text features) -> FAISS -> neighbours.jsonl

    {"id": "391895", "near": ["522418", "184613", ...]}

A line holds the neighbours at chosen ranks only: right beside (2), and farther off (9, 29, 99, 299), as mBLIP drew
its negatives (arXiv 2307.06930, appendix on data). Rank 0 is the thing itself.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polylens.data.rows import json_lines, list_field, text_field
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.files import write_atomic

RANKS = (2, 9, 29, 99, 299)
# Up to here every pair is compared; above, FAISS walks a graph of near ones.
EXACT_UP_TO = 50_000
GRAPH_LINKS = 32
GRAPH_SEARCH = 512


def read_neighbours(path: str | Path) -> dict[str, list[str]]:
    """{id: ids of its neighbours}. Raises `UserError`, with the line, for what is no such file."""
    near: dict[str, list[str]] = {}
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        name = text_field(row, "id", where)
        if name in near:
            raise UserError(f"{where}: the id '{name}' is there twice.")
        near[name] = [str(other) for other in list_field(row, "near", where)]
    return near


def write_neighbours(path: str | Path, names: Sequence[str], near: Sequence[Sequence[int]]) -> None:
    """Write the file that `read_neighbours` reads; `near` holds places in `names`."""
    rows = ({"id": name, "near": [names[i] for i in mine]} for name, mine in zip(names, near, strict=True))
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def nearest(vectors: np.ndarray, ranks: Sequence[int] = RANKS) -> list[list[int]]:
    """For each of N vectors (N, D) those at `ranks` by cosine, nearest first; ranks beyond N - 1 are left out.

    Raises `UserError` when FAISS is not installed, and for vectors without a length.
    """
    faiss = _faiss()
    vectors = np.ascontiguousarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise UserError("The encoder gives vectors without a length: is it a trained dual encoder?")
    vectors = vectors / lengths
    count, size = vectors.shape
    kept = [rank for rank in ranks if rank < count]
    if not kept:
        raise UserError(f"{count} things are too few for neighbours at the ranks {list(ranks)}.")
    if count <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(size)
    else:
        index = faiss.IndexHNSWFlat(size, GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = max(GRAPH_SEARCH, kept[-1] + 1)
    index.add(vectors)
    _, found = index.search(vectors, kept[-1] + 2)
    return [_at_ranks(row, i, kept) for i, row in enumerate(found.tolist())]


def _at_ranks(found: list[int], own: int, ranks: Sequence[int]) -> list[int]:
    """The thing itself may be found anywhere among its doubles, or not at all: it is always rank 0."""
    others = [i for i in found if i not in (own, -1)]
    return [others[rank - 1] for rank in ranks if rank - 1 < len(others)]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError("Neighbours need FAISS: pip install 'polylens[neighbours]'.") from error
    return faiss


class DualEncoder:
    """CLIP and its like: any transformers model with `get_image_features` and `get_text_features`."""

    def __init__(self, name: str | Path, device: str = "cpu"):
        """Raises `UserError` when there is no such model, or it is no dual encoder."""
        from transformers import AutoModel, AutoProcessor

        try:
            self._model = AutoModel.from_pretrained(name).to(device).eval()
            self._processor = AutoProcessor.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"'{name}' cannot be loaded as a dual encoder: {reason}") from error
        for kind in ("image", "text"):
            if not hasattr(self._model, f"get_{kind}_features"):
                raise UserError(
                    f"'{name}' is no dual encoder, it gives no {kind} features: give a CLIP or SigLIP."
                )
        self._device = device

    @torch.inference_mode()
    def embed(self, things: Sequence[Picture] | Sequence[str], kind: Literal["image", "text"]) -> np.ndarray:
        """(N, D) float32 of N pictures or texts."""
        if kind == "image":
            pictures = [thing.load() for thing in things if not isinstance(thing, str)]
            inputs = self._processor(images=pictures, return_tensors="pt")
            found = self._model.get_image_features(**inputs.to(self._device))
        else:
            limit = self._model.config.get_text_config().max_position_embeddings
            # SigLIP learnt with texts filled up to its limit; for others filling changes nothing.
            inputs = self._processor(
                text=list(things),
                padding="max_length",
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            found = self._model.get_text_features(**inputs.to(self._device))
        vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
        return vectors.float().cpu().numpy()


def embed_all(
    encoder: DualEncoder, things: Iterable[Any], kind: Literal["image", "text"], batch_size: int = 64
) -> Iterator[np.ndarray]:
    """Vectors of `things`, a batch at a time."""
    batch: list[Any] = []
    for thing in things:
        batch.append(thing)
        if len(batch) == batch_size:
            yield encoder.embed(batch, kind)
            batch = []
    if batch:
        yield encoder.embed(batch, kind)
