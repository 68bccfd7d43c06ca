"""Rank images for texts and texts for images without holding the whole score matrix.

Scores are computed in tiles that fit into the processor's cache; both directions are counted from a tile before the
next one replaces it. Memory is that of the features and the result, and features may be memory-mapped. float32 scores
within rounding error of a threshold (the best positive's score) are recomputed exactly (grid.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from cocabench.core.types import Features
from cocabench.metrics import tiles
from cocabench.metrics.grid import Grid, dots, error_bound, product
from cocabench.metrics.ranking import Floats, Ints, Mask, Neighbours, Ranks, Scores

MAX_SCORES_RECOMPUTED = 1 << 14
"""If more scores of a tile are near their thresholds (a collapsed model), the whole tile is recomputed."""


class Retrieval(NamedTuple):
    """Both directions of a retrieval: a row per caption (n) of t2i, and per image (i) of i2t."""

    t2i: Ranks
    t2i_wrong: Neighbours
    i2t: Ranks
    i2t_wrong: Neighbours


def rank_both_ways(images: Features, texts: Features, owner: Ints, items: Ints, *, wrong: int = 5) -> Retrieval:
    """Rank images for each caption and captions for each image.

    images: (i, d). texts: (t, d) features of the *distinct* texts. owner: (n,) the image of each caption, every image
    owned at least once. items: (n,) the distinct text of each caption. Scores are inner products of features rounded to
    2^-26, exact, so that equal features tie; NaN or infinity raises NumericsError. wrong: how many of the highest
    negatives to return, in the order of their float32 scores.
    """
    search = _Search(Grid(images, "image features"), Grid(texts, "text features"), owner, items)
    captions = search.queries(search.own, wrong)
    with _threads() as (pool, threads):
        tasks = [(stretch, search.queries(search.best, wrong)) for stretch in search.stretches(threads)]
        list(pool.map(lambda task: search.read(captions, task[1], task[0]), tasks))
    whole = tasks[0][1]
    for _, part in tasks[1:]:
        whole.join(part)
    return search.found(captions, whole)


@contextmanager
def _threads() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Yield as many threads as BLAS would use, BLAS itself on one in each of them."""
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((info["num_threads"] for info in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield pool, threads


class _Queries:
    """The queries (n,) of one direction, counted against thresholds: the scores of their best positives."""

    def __init__(self, thresholds: Floats, error: float, wrong: int) -> None:
        self.thresholds = thresholds
        infinity = np.float32(np.inf)
        self.low = np.nextafter((thresholds - error).astype(np.float32), -infinity)
        self.high = np.nextafter((thresholds + error).astype(np.float32), infinity)
        self.above, self.tied = np.zeros((2, len(thresholds)), np.int64)
        self.near = tiles.no_neighbours(len(thresholds), wrong)

    def count_exact(self, queries: Ints, exact: Floats) -> None:
        """Count exact scores (k,) of candidates near the thresholds of queries (k,)."""
        np.add.at(self.above, queries, exact > self.thresholds[queries])
        np.add.at(self.tied, queries, exact == self.thresholds[queries])

    def join(self, other: _Queries) -> None:
        """Add the counts and neighbours of the same queries among other candidates, of higher index."""
        self.above += other.above
        self.tied += other.tied
        line, place = np.nonzero(other.near.indices >= 0)
        tiles.merge(self.near, line, other.near.indices[line, place], other.near.scores[line, place])


class _Search:
    """The search over images (i,) and captions (n,); scores are in steps² of the grids."""

    def __init__(self, images: Grid, texts: Grid, owner: Ints, items: Ints) -> None:
        self.images, self.texts, self.owner, self.items = images, texts, owner, items
        self.height, self.width = tiles.side(len(owner)), tiles.side(len(images))
        chunks = (slice(start, start + tiles.MAX_SIDE) for start in range(0, len(owner), tiles.MAX_SIDE))
        self.own = np.concatenate([dots(texts[items[chunk]], images[owner[chunk]]) for chunk in chunks])
        self.best = np.full(len(images), -np.inf)
        np.maximum.at(self.best, owner, self.own)

    def queries(self, thresholds: Floats, wrong: int) -> _Queries:
        return _Queries(thresholds, error_bound(self.images, self.texts), wrong)

    def stretches(self, n: int) -> list[Ints]:
        """Return the first captions of tiles, in n stretches at most."""
        starts = np.arange(0, len(self.owner), self.height)
        return np.array_split(starts, min(n, len(starts)))

    def read(self, captions: _Queries, images: _Queries, starts: Ints) -> None:
        """Count the tiles of a stretch of captions, which is this thread's own, for both directions."""
        tile = tiles.Tile(self.height, self.width)
        for start in starts:
            rows = np.arange(start, min(start + self.height, len(self.owner)))
            texts = self.texts[self.items[rows]]
            for first in range(0, len(self.images), self.width):
                columns = np.arange(first, min(first + self.width, len(self.images)))
                part = _Part(tile, rows, columns, texts, self.images[first : first + self.width])
                part.multiply(self.owner[rows])
                part.read_rows(captions)
                part.read_columns(images)

    def found(self, captions: _Queries, images: _Queries) -> Retrieval:
        """Return the ranks: a caption has one positive, an image as many as have its best score."""
        none, one = np.zeros_like(captions.above), np.ones_like(captions.above)
        best = self.own == self.best[self.owner]
        tied_positives = np.bincount(self.owner[best], minlength=len(self.best))
        return Retrieval(
            Ranks(captions.above, captions.tied, none, one),
            self._neighbours(captions),
            Ranks(images.above, images.tied, self._identical(best), tied_positives),
            self._neighbours(images),
        )

    def _identical(self, best: Mask) -> Ints:
        """Return per image how many captions of other images have the words of its (first) best caption."""
        first = np.flatnonzero(best)[::-1]
        item = np.empty(len(self.best), np.int64)
        item[self.owner[first]] = self.items[first]
        own = np.bincount(self.owner[self.items == item[self.owner]], minlength=len(item))
        return np.asarray(np.bincount(self.items)[item] - own)

    def _neighbours(self, queries: _Queries) -> Neighbours:
        scores = queries.near.scores * np.float32(self.images.step * self.texts.step)
        return Neighbours(queries.near.indices, np.where(queries.near.indices < 0, np.float32(np.nan), scores))


class _Part(NamedTuple):
    """Captions (r,) and images (c,) by index, their features in steps, and the tile for their scores."""

    tile: tiles.Tile
    rows: Ints
    columns: Ints
    texts: Features
    images: Features

    def multiply(self, owner: Ints) -> None:
        """Fill the tile with the product, and with -inf outside the data and at each caption's owner (r,)."""
        scores = self.tile.scores
        np.matmul(self.texts, self.images.T, out=scores[: len(self.rows), : len(self.columns)])
        scores[len(self.rows) :] = -np.inf
        scores[:, len(self.columns) :] = -np.inf
        mine = np.flatnonzero((owner >= self.columns[0]) & (owner <= self.columns[-1]))
        scores[mine, owner[mine] - self.columns[0]] = -np.inf

    def read_rows(self, captions: _Queries) -> None:
        """Count the tile for its captions."""
        scores, chosen = self.tile.scores, captions.near.scores[self.rows, -1]
        low, high, beaten = (
            _padded(v, len(scores)) for v in (captions.low[self.rows], captions.high[self.rows], chosen)
        )
        compared = self.tile.compare_rows(low, high)
        captions.above[self.rows] += compared.above[: len(self.rows)]
        captions.count_exact(self.rows[compared.rows], self.exact(compared))
        found = tiles.candidates(scores, beaten, captions.near.indices.shape[1])
        tiles.merge(captions.near, self.rows[found.lines], self.columns[found.positions], found.scores)

    def read_columns(self, images: _Queries) -> None:
        """Count the tile for its images."""
        scores, chosen = self.tile.scores.T, images.near.scores[self.columns, -1]
        low, high, beaten = (
            _padded(v, len(scores)) for v in (images.low[self.columns], images.high[self.columns], chosen)
        )
        compared = self.tile.compare_columns(low, high)
        images.above[self.columns] += compared.above[: len(self.columns)]
        images.count_exact(self.columns[compared.columns], self.exact(compared))
        found = tiles.candidates(scores, beaten, images.near.indices.shape[1])
        tiles.merge(images.near, self.columns[found.lines], self.rows[found.positions], found.scores)

    def exact(self, near: tiles.Compared) -> Floats:
        """Return the exact scores at the positions near their thresholds."""
        if len(near.rows) > MAX_SCORES_RECOMPUTED:
            return product(self.texts, self.images)[near.rows, near.columns]
        return dots(self.texts[near.rows], self.images[near.columns])


def _padded(values: Scores, n: int) -> Scores:
    """Return values padded with infinity to length n."""
    return np.concatenate([values, np.full(n - len(values), np.inf, np.float32)])
