"""Exact scores: inner products of features rounded to a grid, fine enough not to matter and coarse enough for float64.

A float32 product depends in its last bit on where in the matrix it stands, and on the BLAS, so that equal features need
not tie. Here features are rounded to multiples of 2^-26 (of their scale, 1 for unit rows): then float64 holds every
partial sum of a product, in any order, and ranks are those of exact scores on every machine. The float32 product comes
first and decides all but the few comparisons that lie within its error bound.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cocabench.core.types import Features
from cocabench.metrics.ranking import ROWS_PER_CHECK, Floats, check_finite

STEPS_PER_SCALE = 2.0**26
"""Steps of the grid per scale: 2 · 26 bits and a factor below 2 make 53."""


class Grid:
    """Features (n, d), possibly memory-mapped, as integer multiples of a step. NaN raises NumericsError."""

    def __init__(self, rows: Features, what: str) -> None:
        check_finite(rows, what)
        self._rows, self.terms = rows, int(rows.shape[1])
        parts = (rows[start : start + ROWS_PER_CHECK] for start in range(0, len(rows), ROWS_PER_CHECK))
        longest = max((float(np.sqrt(np.einsum("nd,nd->n", p, p, dtype=np.float64).max())) for p in parts), default=0)
        scale = 2.0 ** math.ceil(math.log2(longest / 1.4)) if longest else 1.0
        self.step: float = scale / STEPS_PER_SCALE
        self.longest: float = longest / self.step + math.sqrt(self.terms)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> Features:
        """Return rows (k, d) in steps: whole numbers, as float32."""
        return np.asarray(np.rint(self._rows[which] * np.float32(1 / self.step)), np.float32)


def dots(left: Features, right: Features) -> Floats:
    """Return the exact inner products (k,) of rows in steps, pair by pair. left, right: (k, d)."""
    return np.asarray(np.einsum("kd,kd->k", left, right, dtype=np.float64))


def product(left: Features, right: Features) -> Floats:
    """Return all exact inner products (n, m) of rows in steps. left: (n, d). right: (m, d)."""
    return left.astype(np.float64) @ right.astype(np.float64).T


def error_bound(left: Grid, right: Grid) -> float:
    """Return how far a float32 inner product, summed in any order, may be from the exact one, in steps²."""
    return 1.01 * 2.0**-24 * left.terms * left.longest * right.longest
