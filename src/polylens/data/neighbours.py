"""Nearest neighbours of pictures or words in the space of a CLIP-like dual encoder, for hard negatives.

    embed (any transformers model with image and text features) -> FAISS -> neighbours.jsonl

    {"id": "391895", "near": ["522418", "184613", ...]}

A line holds the neighbours at chosen ranks only: right beside (2), and farther off (9, 29, 99, 299), as mBLIP drew
its negatives (arXiv 2307.06930, appendix on data). Rank 0 is the thing itself.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polylens.data.rows import json_lines, list_field, text_field
from polylens.data.sample import Picture
from polylens.data.sources import read_part
from polylens.data.spec import Part
from polylens.data.unreadable import Policy, Unreadable
from polylens.errors import UserError
from polylens.files import write_atomic
from polylens.pretrained import load_whole

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
            self._model = load_whole(AutoModel, name).to(device).eval()
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

    def embed(self, things: Sequence[Picture] | Sequence[str], kind: Literal["image", "text"]) -> np.ndarray:
        """(N, D) float32 of N pictures or texts."""
        import torch

        if kind == "image":
            pictures = [thing.load() for thing in things if not isinstance(thing, str)]
            inputs = self._processor(images=pictures, return_tensors="pt")
            features = self._model.get_image_features
        else:
            positions = self._model.config.get_text_config().max_position_embeddings
            limit = min(positions, self._processor.tokenizer.model_max_length)
            # SigLIP learnt with texts filled up to its limit; for others filling changes nothing.
            inputs = self._processor(
                text=list(things),
                padding="max_length",
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            features = self._model.get_text_features
        with torch.inference_mode():
            found = features(**inputs.to(self._device))
        vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
        return vectors.float().cpu().numpy()


def find_neighbours(
    part: Part,
    by: Literal["image", "label"],
    encoder: DualEncoder,
    out: str | Path,
    policy: Policy = "error",
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Write the neighbours of a part's pictures, or of its classes by their English labels; returns how many.

    `policy` says what becomes of pictures that cannot be read. Raises `UserError` for samples that name no picture or
    class, and for a part without any.
    """
    unreadable = Unreadable(policy)
    names: list[str] = []
    vectors: list[np.ndarray] = []
    batch: list[tuple[str, Any]] = []

    def embed() -> None:
        names.extend(name for name, _ in batch)
        vectors.append(encoder.embed([thing for _, thing in batch], "image" if by == "image" else "text"))
        advance(len(batch))
        batch.clear()

    for name, thing in _things(part, by, unreadable):
        batch.append((name, thing))
        if len(batch) == batch_size:
            embed()
    if batch:
        embed()
    unreadable.report(part.name)
    if not names:
        raise UserError(f"The part '{part.name}' has nothing to find neighbours of.")
    write_neighbours(out, names, nearest(np.concatenate(vectors)))
    return len(names)


def _things(part: Part, by: str, unreadable: Unreadable) -> Iterator[tuple[str, Any]]:
    """(id, picture or label) of everything in a part, each once."""
    seen: set[str] = set()
    field = "image" if by == "image" else "class"
    for sample in read_part(part):
        name = sample.extra.get(field)
        if not isinstance(name, str):
            raise UserError(f"Sample '{sample.id}' of {sample.source} names no '{field}' in its 'extra'.")
        if name in seen or (by == "label" and sample.language != "en"):
            continue
        if by == "label":
            seen.add(name)
            yield name, sample.turns[-1].answer
        elif unreadable.keep(sample, lambda sample: sample.images[0].load()):
            seen.add(name)
            yield name, sample.images[0]
