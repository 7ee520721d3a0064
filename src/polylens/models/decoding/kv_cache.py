"""Keys and values with room for the tokens to come: one is appended in place, and beams are reordered by a single copy.

transformers' own layers copy all that they hold for every token, and once more whenever beams change places.
Shapes: R rows, H heads, T tokens, D width of a head.
"""

from typing import Any

import torch
from transformers import Cache, DynamicLayer

# How many tokens there is room for at least, whenever there is none left.
ROOM = 32


def give_room(cache: Cache, room: int = ROOM) -> None:
    """Exchange the cache's plain layers for ones with room, in place; others (sliding windows, say) stay.

    `room` is how many tokens are to come, where that is known.
    """
    spare = _Spare(min(room, ROOM))
    for at, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[at] = RoomyLayer(layer, spare)


class RoomyLayer(DynamicLayer):
    """Does what `DynamicLayer` does. `keys` and `values` are views (R, H, T, D) of what has more room."""

    def __init__(self, layer: DynamicLayer, spare: "_Spare") -> None:
        super().__init__()
        self._spare = spare
        self._begin(layer.keys, layer.values)

    def _begin(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys, self.values = keys, values
        self._keys, self._values = _Store(keys, self._spare), _Store(values, self._spare)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.is_initialized:
            size = self.get_seq_length()
            self.keys = self._keys.append(size, key_states)
            self.values = self._values.append(size, value_states)
        else:
            self._begin(key_states, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        size = self.get_seq_length()
        self.keys, self.values = self._keys.select(size, indices), self._values.select(size, indices)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self.batch_select_indices(beam_idx.to(self.keys.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = torch.arange(len(self.keys), device=self.keys.device)
        self.batch_select_indices(rows.repeat_interleave(repeats))


class _Spare:
    """The one buffer that is not in use: the next to be reordered goes there, and leaves its own."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.held: torch.Tensor | None = None

    def exchange(self, own: torch.Tensor, rows: int, size: int) -> torch.Tensor:
        """A buffer (`rows`, at least `size`, H, D) like `own`, which becomes the spare one."""
        other, self.held = self.held, own
        if (
            other is None
            or (other.shape[2:], other.dtype, other.device) != (own.shape[2:], own.dtype, own.device)
            or len(other) < rows
            or other.shape[1] < size
        ):
            return own.new_empty(rows, size + self.room, *own.shape[2:])
        return other[:rows]


class _Store:
    """What keys or values lie in: (R, T and more, H, D), so that a row's tokens are one piece of memory."""

    def __init__(self, states: torch.Tensor, spare: _Spare) -> None:
        self.held, self.spare = states.transpose(1, 2), spare

    def append(self, size: int, states: torch.Tensor) -> torch.Tensor:
        end = size + states.shape[2]
        if end > self.held.shape[1]:
            grown = self.held.new_empty(len(self.held), end + self.spare.room, *self.held.shape[2:])
            grown[:, :size] = self.held[:, :size]
            self.held = grown
        self.held[:, size:end] = states.transpose(1, 2)
        return self.held[:, :end].transpose(1, 2)

    def select(self, size: int, rows: torch.Tensor) -> torch.Tensor:
        target = self.spare.exchange(self.held, len(rows), size)
        torch.index_select(self.held[:, :size], 0, rows, out=target[:, :size])
        self.held = target
        return target[:, :size].transpose(1, 2)
