"""Rank images for texts and texts for images without holding the whole score matrix.

Scores are computed in tiles that fit into the processor's cache; both directions are counted from a tile before the
next one replaces it. Memory is that of the features and the result, and features may be memory-mapped. float32 scores
within rounding error of a threshold (the best positive's score) are recomputed exactly (grid.py). A GPU computes and
compares them in larger blocks; what is near a threshold is recomputed here, so that ranks are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from cocabench.core.errors import NumericsError
from cocabench.core.scores import Bars, Compared, Device, Proposed
from cocabench.core.types import Features
from cocabench.metrics import tiles
from cocabench.metrics.grid import Grid, dots, error_bound, product
from cocabench.metrics.ranking import (
    ROWS_PER_CHECK,
    SCORES_PER_CHUNK,
    Floats,
    Ints,
    Mask,
    Neighbours,
    Ranks,
    Scores,
)

MAX_SCORES_RECOMPUTED = 1 << 14
"""If more scores of a tile are near their thresholds (a collapsed model), the whole tile is recomputed."""
MIN_WORK_ON_DEVICE = 1 << 37
"""Multiplications of a product that is worth a GPU: two seconds of two cores."""
MIN_ROWS_ON_DEVICE = 32
"""Blocks of a device are halved down to this many captions when its memory runs out; then the CPU ranks the rest."""
MAX_SHARE_RECOMPUTED = 1 / 256
"""A block of a device in which more scores are near their thresholds is left to the CPU, which is as fast there."""


class Retrieval(NamedTuple):
    """Both directions of a retrieval: a row per caption (n) of t2i, and per image (i) of i2t."""

    t2i: Ranks
    t2i_wrong: Neighbours
    i2t: Ranks
    i2t_wrong: Neighbours


def rank_both_ways(
    images: Features, texts: Features, owner: Ints, items: Ints, *, wrong: int = 5, device: Device | None = None
) -> Retrieval:
    """Rank images for each caption and captions for each image.

    images: (i, d). texts: (t, d) features of the *distinct* texts. owner: (n,) the image of each caption, every image
    owned at least once. items: (n,) the distinct text of each caption. Scores are inner products of features rounded to
    2^-26, exact, so that equal features tie; NaN or infinity raises NumericsError. wrong: how many of the highest
    negatives to return, in the order of their float32 scores. device: a GPU for large sets (models.scores); ranks are
    equal, of the negatives' scores the last digits may differ. NumericsError where its products are not of float32.
    """
    search = _Search(Grid(images, "image features"), Grid(texts, "text features"), owner, items)
    captions, whole = search.queries(search.own, wrong), search.queries(search.best, wrong)
    left = [np.arange(len(owner))]
    if device is not None and len(owner) * len(images) * images.shape[1] >= MIN_WORK_ON_DEVICE:
        left = list(search.propose(device, captions, whole))
    with _threads() as (pool, threads):
        tasks = [(strips, search.queries(search.best, wrong)) for strips in search.strips(left, threads)]
        list(pool.map(lambda task: search.read(captions, task[1], task[0]), tasks))
    for _, part in tasks:
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

    def bars(self, queries: Ints | slice) -> Bars:
        return Bars(self.low[queries], self.high[queries], self.near.scores[queries, -1])

    def join(self, other: _Queries) -> None:
        """Add the counts and neighbours of the same queries among other candidates."""
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
        self.error = error_bound(images, texts)

    def queries(self, thresholds: Floats, wrong: int) -> _Queries:
        return _Queries(thresholds, self.error, wrong)

    def propose(self, device: Device, captions: _Queries, images: _Queries) -> Iterator[Ints]:
        """Count blocks of captions with all images by a device, for both directions; yield what is left to the CPU."""
        n_images, start = len(self.images), 0
        chunks = (self.images[at : at + ROWS_PER_CHECK] for at in range(0, n_images, ROWS_PER_CHECK))
        height = max(MIN_ROWS_ON_DEVICE, SCORES_PER_CHUNK // n_images)
        try:
            proposer = device((n_images, self.images.terms), chunks)
        except MemoryError:
            height = 0
        while start < len(self.owner) and height >= MIN_ROWS_ON_DEVICE:
            rows = np.arange(start, min(start + height, len(self.owner)))
            texts = self.texts[self.items[rows]]
            most = max(MAX_SCORES_RECOMPUTED, int(MAX_SHARE_RECOMPUTED * len(rows) * n_images))
            bars, k = (captions.bars(rows), images.bars(slice(None))), captions.near.indices.shape[1]
            try:
                found = proposer(texts, self.owner[rows], *bars, k=k, most=most)
            except MemoryError:
                height //= 2
                continue
            if found:
                self._count(found, rows, texts, captions, images)
            else:
                yield rows
            start += len(rows)
        yield np.arange(start, len(self.owner))

    def _count(self, found: Proposed, rows: Ints, texts: Features, captions: _Queries, images: _Queries) -> None:
        """Count what a device found in a block, and recompute what is near a threshold."""
        if not (off := np.abs(found.own - self.own[rows])).max() <= self.error:
            got = f"float32 products off by {off.max() / self.error:.3g} times the bound of their rounding"
            raise NumericsError("scores", got, wanted="float32 without TF32 on the device", fix="use --device cpu")
        captions.above[rows] += found.rows.above
        images.above += found.columns.above
        for queries, names, near in (
            (captions, rows[found.rows.rows], found.rows),
            (images, found.columns.columns, found.columns),
        ):
            for at in range(0, len(names), MAX_SCORES_RECOMPUTED):
                some = slice(at, at + MAX_SCORES_RECOMPUTED)
                queries.count_exact(names[some], dots(texts[near.rows[some]], self.images[near.columns[some]]))
        tiles.merge(captions.near, rows[found.wrong_images.lines], *found.wrong_images[1:])
        top = found.wrong_texts
        tiles.merge(images.near, top.lines, rows[top.positions], top.scores)

    def strips(self, left: Sequence[Ints], n: int) -> list[list[Ints]]:
        """Return captions in strips as high as a tile, in n lists at most."""
        found = [rows[at : at + self.height] for rows in left for at in range(0, len(rows), self.height)]
        return [[found[i] for i in part] for part in np.array_split(np.arange(len(found)), min(n, max(1, len(found))))]

    def read(self, captions: _Queries, images: _Queries, strips: Sequence[Ints]) -> None:
        """Count the tiles of strips of captions, which are this thread's own, for both directions."""
        tile = tiles.Tile(self.height, self.width)
        for rows in strips:
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

    def exact(self, near: Compared) -> Floats:
        """Return the exact scores at the positions near their thresholds."""
        if len(near.rows) > MAX_SCORES_RECOMPUTED:
            return product(self.texts, self.images)[near.rows, near.columns]
        return dots(self.texts[near.rows], self.images[near.columns])


def _padded(values: Scores, n: int) -> Scores:
    """Return values padded with infinity to length n."""
    return np.concatenate([values, np.full(n - len(values), np.inf, np.float32)])
