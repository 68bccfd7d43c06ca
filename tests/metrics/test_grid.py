"""Exact scores: against whole-number arithmetic, in any order, for any scale."""

import numpy as np
import pytest

from cocabench.metrics.grid import STEPS_PER_SCALE, Grid, dots, error_bound, product


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("scale", [1.0, 300.0, 0.001])
def test_grid_products_are_exact(scale: float) -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(40, 512))) * np.float32(scale)
    grid = Grid(rows, "features")
    steps = grid[:]
    whole = [[int(value) for value in row] for row in steps]
    expected = [sum(a * b for a, b in zip(whole[0], row, strict=True)) for row in whole]
    assert [int(v) for v in product(steps[:1], steps)[0]] == expected
    assert [int(v) for v in dots(steps[:1].repeat(40, axis=0), steps)] == expected
    order = rng.permutation(512)
    assert (product(steps[:, order], steps[:, order]) == product(steps, steps)).all()


def test_grid_rounding_changes_cosines_by_less_than_1e_7() -> None:
    rows = unit(np.random.default_rng(1).normal(size=(200, 512)))
    grid = Grid(rows, "features")
    assert grid.step == 1 / STEPS_PER_SCALE
    real = rows.astype(np.float64) @ rows.astype(np.float64).T
    assert np.abs(product(grid[:], grid[:]) * grid.step**2 - real).max() < 1e-7


def test_float32_product_is_within_error_bound() -> None:
    rows = unit(np.random.default_rng(2).normal(size=(300, 768)))
    grid = Grid(rows, "features")
    error = np.abs(grid[:] @ grid[:].T - product(grid[:], grid[:])).max()
    assert 0 < error < error_bound(grid, grid)


def test_grid_accepts_rows_of_zeros() -> None:
    assert (Grid(np.zeros((3, 4), np.float32), "features")[:] == 0).all()
