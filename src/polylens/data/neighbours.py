"""Nearest captions of pictures, or nearest words, in the space of a CLIP-like dual encoder, for hard negatives.

    embed (any transformers model with image and text features) -> FAISS -> neighbours.jsonl

    {"id": "391895", "near": ["522418", "184613", ...]}

A line holds the neighbours at chosen ranks only: right beside (2), and farther off (9, 29, 99, 299), as mBLIP drew
its negatives (arXiv 2307.06930, appendix on data): captions of other pictures that the encoder finds near a picture.
Rank 0 is the picture's own caption, or the word itself. What stands in `near` are the pictures of those captions.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polylens.batching import chunks
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
    vectors = _unit(vectors)
    kept = _reachable(ranks, len(vectors))
    found = _search(vectors, vectors, kept[-1] + 2)
    return [_at_ranks([i for i in row if i != own], kept) for own, row in enumerate(found)]


def nearest_captions(
    pictures: np.ndarray, captions: np.ndarray, owners: Sequence[int], ranks: Sequence[int] = RANKS
) -> list[list[int]]:
    """For each of N pictures (N, D) the pictures whose captions (M, D) are at `ranks` by cosine, nearest first.

    `owners` (M,) are the pictures of the captions; a picture's own captions are rank 0 together. Errors are those of
    `nearest`.
    """
    pictures, captions = _unit(pictures), _unit(captions)
    kept = _reachable(ranks, len(captions))
    # So many of what is found may be its own.
    most = int(np.bincount(np.asarray(owners), minlength=len(pictures)).max())
    found = _search(captions, pictures, min(kept[-1] + 1 + most, len(captions)))
    return [
        _at_ranks([owner for owner in (owners[i] for i in row) if owner != own], kept)
        for own, row in enumerate(found)
    ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise UserError("The encoder gives vectors without a length: is it a trained dual encoder?")
    return vectors / lengths


def _reachable(ranks: Sequence[int], count: int) -> list[int]:
    kept = [rank for rank in ranks if rank < count]
    if not kept:
        raise UserError(f"{count} things are too few for neighbours at the ranks {list(ranks)}.")
    return kept


def _search(indexed: np.ndarray, queries: np.ndarray, count: int) -> list[list[int]]:
    """The places of the `count` nearest of the indexed vectors to each query."""
    faiss = _faiss()
    if len(indexed) <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(indexed.shape[1])
    else:
        index = faiss.IndexHNSWFlat(indexed.shape[1], GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = max(GRAPH_SEARCH, count)
    index.add(indexed)
    _, found = index.search(queries, count)
    return [[place for place in row if place != -1] for row in found.tolist()]


def _at_ranks(others: list[int], ranks: Sequence[int]) -> list[int]:
    """The thing itself may be found anywhere among its doubles, or not at all: it is always rank 0."""
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
    by: Literal["caption", "label"],
    encoder: DualEncoder,
    out: str | Path,
    policy: Policy = "error",
    batch_size: int = 64,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Write what lies near a part's pictures among its captions, or near its classes among their English labels.

    Returns how many pictures or classes there are. `policy` says what becomes of pictures that cannot be read. Raises
    `UserError` for samples that name no picture or class, and for a part without any.
    """
    unreadable = Unreadable(policy)
    names: dict[str, int] = {}
    texts: list[str] = []
    owners: list[int] = []
    pictures: list[np.ndarray] = []

    def embed(batch: list[Picture]) -> None:
        if batch:
            pictures.append(encoder.embed(batch, "image"))
            advance(len(batch))
            batch.clear()

    batch: list[Picture] = []
    for name, text, picture in _things(part, by, names, unreadable):
        if name not in names:
            names[name] = len(names)
            if picture is not None:
                batch.append(picture)
        texts.append(text)
        owners.append(names[name])
        if len(batch) == batch_size:
            embed(batch)
    embed(batch)
    unreadable.report(part.name)
    if not names:
        raise UserError(f"The part '{part.name}' has nothing to find neighbours of.")
    words = []
    for mine in chunks(texts, batch_size):
        words.append(encoder.embed(mine, "text"))
        advance(len(mine))
    near = (
        nearest_captions(np.concatenate(pictures), np.concatenate(words), owners)
        if by == "caption"
        else nearest(np.concatenate(words))
    )
    write_neighbours(out, list(names), near)
    return len(names)


def _things(
    part: Part, by: str, names: Mapping[str, int], unreadable: Unreadable
) -> Iterator[tuple[str, str, Picture | None]]:
    """(picture's name, caption, picture) of every sample in a part, or (class, English label, None) of every class."""
    field = "image" if by == "caption" else "class"
    lost: set[str] = set()
    for sample in read_part(part):
        name = sample.extra.get(field)
        if not isinstance(name, str):
            raise UserError(f"Sample '{sample.id}' of {sample.source} names no '{field}' in its 'extra'.")
        if by == "label":
            if name not in names and sample.language == "en":
                yield name, sample.turns[-1].answer, None
        elif name not in lost:
            if name in names or unreadable.keep(sample, lambda sample: sample.images[0].load()):
                yield name, sample.turns[-1].answer, sample.images[0]
            else:
                lost.add(name)
