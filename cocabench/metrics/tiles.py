"""Counts and highest scores of one tile of the score matrix, taken while it is in the processor's cache.

A tile is the product of a few texts and a few images, float32 (r, c), both sides 32 · 2^j; what lies outside of the
data holds -inf.
"""

from __future__ import annotations

import numpy as np

from cocabench.core.scores import Candidates, Compared
from cocabench.metrics.ranking import Ints, Mask, Neighbours, Scores

BLOCKS = 32
"""Blocks that the elements of a line are folded into, to see where a high score may be."""
MAX_SIDE = 1024
"""Longest side of a tile (4 MiB of scores): BLOCKS · 2^j, and below 2,048 for per_row's bytes."""


def side(n: int) -> int:
    """Return the side of tiles for n rows or columns: BLOCKS · 2^j, MAX_SIDE at most."""
    return min(MAX_SIDE, BLOCKS << max(0, (n - 1) // BLOCKS).bit_length())


class Tile:
    """Buffers for the scores (r, c) of a tile and their comparisons, reused for every tile."""

    def __init__(self, rows: int, columns: int) -> None:
        self.scores = np.empty((rows, columns), np.float32)
        self._above, self._near = np.empty((2, rows, columns), bool)

    def compare_rows(self, low: Scores, high: Scores) -> Compared:
        """Compare each row with its threshold, which lies between low and high (r,)."""
        above, near = self._compare(low[:, None], high[:, None])
        return Compared(per_row(above), *_where(near))

    def compare_columns(self, low: Scores, high: Scores) -> Compared:
        """Compare each column with its threshold, which lies between low and high (c,)."""
        above, near = self._compare(low, high)
        return Compared(per_column(above), *_where(near))

    def _compare(self, low: Scores, high: Scores) -> tuple[Mask, Mask]:
        np.greater(self.scores, high, out=self._above)
        np.greater_equal(self.scores, low, out=self._near)
        return self._above, np.not_equal(self._above, self._near, out=self._near)


def _where(mask: Mask) -> tuple[Ints, Ints]:
    """Return the rows and columns of True in a contiguous mask; eight bools are tested at once, since few are True."""
    words = np.flatnonzero(mask.reshape(-1).view(np.uint64))
    word, byte = _nonzero(mask.reshape(-1, 8)[words])
    return np.divmod(words[word] * 8 + byte, mask.shape[1])


def _nonzero(mask: Mask) -> tuple[Ints, Ints]:
    """np.nonzero of two dimensions, several times as fast."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def per_row(mask: Mask) -> Ints:
    """Return how many are True in each row (r,) of a contiguous mask (r, c), c a multiple of 8 and below 2,048.

    Eight bools are added at a time as the bytes of one word, none of which overflows.
    """
    words = np.add.reduce(mask.view(np.uint64), axis=1)
    return np.asarray(words.view(np.uint8).reshape(len(mask), 8).sum(axis=1, dtype=np.int64))


def per_column(mask: Mask) -> Ints:
    """Return how many are True in each column (c,) of a contiguous mask (r, c), c a multiple of 8."""
    counts = np.zeros(mask.shape[1], np.int64)
    for start in range(0, len(mask), 255):
        counts += np.add.reduce(mask[start : start + 255].view(np.uint64), axis=0).view(np.uint8)
    return counts


def candidates(lines: Scores, beaten: Scores, k: int) -> Candidates:
    """Return a few elements of each line that hold its k highest scores above beaten (n,). lines: (n, m).

    The k-th highest of a line's block maxima is no higher than its k-th highest element.
    """
    maxima = _folded(lines)
    hot = np.flatnonzero(maxima.max(axis=1) > beaten)
    maxima, beaten = maxima[hot], beaten[hot]
    if k <= BLOCKS:
        beaten = np.maximum(beaten, np.nextafter(np.partition(maxima, -k, axis=1)[:, -k], np.float32(-np.inf)))
    line, block = _nonzero(maxima > beaten[:, None])
    positions = block[:, None] + np.arange(0, lines.shape[1], BLOCKS)
    scores = lines[hot[line, None], positions]
    hit, column = _nonzero(scores > beaten[line, None])
    return Candidates(hot[line[hit]], positions[hit, column], scores[hit, column])


def _folded(lines: Scores) -> Scores:
    """Return the maxima (n, BLOCKS) of lines (n, m): block b holds the elements b, b + BLOCKS, b + 2 · BLOCKS, …"""
    while (half := lines.shape[1] // 2) >= BLOCKS:
        lines = np.maximum(lines[:, :half], lines[:, half:])
    return lines


def no_neighbours(n: int, k: int) -> Neighbours:
    """Return k empty neighbours for each of n lines."""
    return Neighbours(np.full((n, k), -1), np.full((n, k), -np.inf, np.float32))


def merge(top: Neighbours, lines: Ints, indices: Ints, scores: Scores) -> None:
    """Put neighbours (m,) of ascending lines into top, in place: best first; of equal ones, those that are in it."""
    if not len(lines):
        return
    k = top.indices.shape[1]
    starts = np.flatnonzero(np.diff(lines, prepend=-1))
    touched, counts = lines[starts], np.diff(starts, append=len(lines))
    place = np.repeat(np.arange(len(touched)), counts), k + np.arange(len(lines)) - np.repeat(starts, counts)
    room = ((0, 0), (0, counts.max()))
    all_scores = np.pad(top.scores[touched], room, constant_values=-np.inf)
    all_indices = np.pad(top.indices[touched], room, constant_values=-1)
    all_scores[place], all_indices[place] = scores, indices
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
    top.scores[touched] = np.take_along_axis(all_scores, order, axis=1)
    top.indices[touched] = np.take_along_axis(all_indices, order, axis=1)
