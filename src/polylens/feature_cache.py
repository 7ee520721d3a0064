"""Features of images, computed once and kept on disk.

A cache is found by what its features depend on, and a feature by the picture's content and view:

    ROOT/<hash of weights, processor, precision, augmentation>/
        origin.json               what was hashed, for people
        <hash of keys>.json       keys of the rows, shape and type of one row
        <hash of keys>.bin        the rows, memory-mapped

A shard counts once its .json is there, which is written last: a kill loses the shard being computed, nothing
else.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polylens.batching import chunks, read_ahead
from polylens.files import make_writable_folder, write_atomic, writing

SHARD_BYTES = 128 << 20
# NumPy has no bfloat16: its bits are stored.
STORED: dict[torch.dtype, np.dtype] = {
    torch.float32: np.dtype(np.float32),
    torch.bfloat16: np.dtype(np.int16),
}


def hash_weights(modules: Iterable[nn.Module]) -> str:
    """SHA-256 over names, types and values of all parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256()
    for number, module in enumerate(modules):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{number} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


class FeatureCache:
    """Rows of one shape and type, by key. `origin` is all that the features depend on beside the pictures."""

    def __init__(self, root: Path, origin: dict[str, Any]):
        text = json.dumps(origin, sort_keys=True, indent=1)
        self.folder = make_writable_folder(root / hashlib.sha256(text.encode()).hexdigest()[:32])
        write_atomic(self.folder / "origin.json", text)
        self._shards: list[np.memmap] = []
        self._rows: dict[str, tuple[int, int]] = {}
        self._dtype = torch.float32
        for path in sorted(self.folder.glob("*.json")):
            if path.name != "origin.json":
                self._open(path)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def fill(
        self,
        keys: Iterable[str],
        compute: Callable[[Any], Tensor],
        batch_size: int,
        advance: Callable[[int], None] = lambda count: None,
        *,
        read: Callable[[Sequence[str]], Any] = lambda keys: keys,
    ) -> None:
        """Compute the rows that are missing, `batch_size` at a time; `advance` hears how many were added.

        `compute(read(keys))` gives (N, ...) features, float32 or bfloat16; a batch is read in a thread while the one
        before it is computed. Raises `UserError` on a full disk.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._rows]
        pending: list[Tensor] = []
        pending_keys: list[str] = []
        for batch, given in read_ahead(chunks(missing, batch_size), read):
            features = compute(given).detach().cpu().contiguous()
            pending.append(features)
            pending_keys += batch
            if sum(rows.numel() * rows.element_size() for rows in pending) >= SHARD_BYTES:
                self._add(pending_keys, torch.cat(pending))
                pending, pending_keys = [], []
            advance(len(batch))
        if pending:
            self._add(pending_keys, torch.cat(pending))

    def get(self, keys: Sequence[str]) -> Tensor:
        """The rows of `keys`, (N, ...), in their order. KeyError for a key that was never filled in."""
        places = np.array([self._rows[key] for key in keys])
        shape = self._shards[places[0, 0]].shape[1:]
        rows = np.empty((len(keys), *shape), STORED[self._dtype])
        for shard in np.unique(places[:, 0]):
            mine = places[:, 0] == shard
            rows[mine] = self._shards[shard][places[mine, 1]]
        return torch.from_numpy(rows).view(self._dtype)

    def _add(self, keys: list[str], features: Tensor) -> None:
        stem = self.folder / hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        temporary = self.folder / f".{secrets.token_hex(8)}"
        stored = features.view(torch.int16) if features.dtype is torch.bfloat16 else features
        with writing(self.folder):
            try:
                with open(temporary, "wb") as file:
                    file.write(stored.numpy().astype(STORED[features.dtype], copy=False).data)
                os.replace(temporary, stem.with_suffix(".bin"))
            finally:
                temporary.unlink(missing_ok=True)
        header = {"keys": keys, "shape": list(features.shape[1:]), "dtype": str(features.dtype)}
        write_atomic(stem.with_suffix(".json"), json.dumps(header, ensure_ascii=False))
        self._open(stem.with_suffix(".json"))

    def _open(self, path: Path) -> None:
        header = json.loads(path.read_text(encoding="utf-8"))
        self._dtype = {str(dtype): dtype for dtype in STORED}[header["dtype"]]
        shape = (len(header["keys"]), *header["shape"])
        self._shards.append(np.memmap(path.with_suffix(".bin"), STORED[self._dtype], "r", shape=shape))
        number = len(self._shards) - 1
        self._rows |= {key: (number, row) for row, key in enumerate(header["keys"])}
