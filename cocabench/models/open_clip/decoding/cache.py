"""Keys and values that are kept between steps.

Shapes: r rows, n new entries per row, c capacity, m kept entries.
"""

import torch
from torch import Tensor


class Cache:
    """The keys and values of every layer of a tower: a pool of entries per row, written in place.

    Shapes change in `select` only, so that the steps between two of them can be captured and replayed.
    slots: (n,) where the next n entries go; whoever writes moves it on.
    """

    def __init__(self, layers: int, slots: Tensor) -> None:
        self.slots = slots
        self._pools: list[Tensor | None] = [None] * layers

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put entries k, v (r, n, width) into the slots; return the layer's pool: (r, c, width) each.

        What is written first is all that the pool has room for, until `select` makes more.
        """
        pool = self._pools[layer]
        if pool is None:
            self._pools[layer] = pool = torch.stack([k, v])
        else:
            pool[0].index_copy_(1, self.slots, k)
            pool[1].index_copy_(1, self.slots, v)
        return pool[0], pool[1]

    def select(self, rows: Tensor, entries: Tensor, room: int) -> None:
        """Keep these rows (s,) and of each these entries (s, m), in this order; make room for more to come."""
        for layer, pool in enumerate(self._pools):
            if pool is not None:
                self._pools[layer] = _selected(pool, rows, entries, room)


def _selected(pool: Tensor, rows: Tensor, entries: Tensor, room: int) -> Tensor:
    _, _, capacity, width = pool.shape
    kept = (rows[:, None] * capacity + entries).flatten()
    # Zeros, since what is masked still enters attention with weight 0, and 0 * NaN is NaN.
    found = pool.new_zeros(2, len(rows), entries.shape[1] + room, width)
    for new, old in zip(found, pool, strict=True):
        new[:, : entries.shape[1]] = old.flatten(0, 1)[kept].unflatten(0, entries.shape)
    return found
