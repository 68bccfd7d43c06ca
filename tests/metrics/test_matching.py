"""Ranks of both directions against the whole matrix: any tile, repeated texts, ties, collapse, mapped files, NaN."""

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from cocabench.core.errors import NumericsError
from cocabench.metrics import tiles
from cocabench.metrics.matching import Retrieval, rank_both_ways
from cocabench.metrics.ranking import Neighbours, Ranks, highest, hits_at, positive_ranks


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def whole(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, items: np.ndarray, wrong: int = 5) -> Retrieval:
    """The same from one matrix."""
    scores = (texts.astype(np.float64) @ images.astype(np.float64).T)[items]
    positive = owner[:, None] == np.arange(len(images))
    return Retrieval(
        positive_ranks(scores, positive),
        highest(scores, ~positive, wrong),
        positive_ranks(scores.T, positive.T, items),
        highest(scores.T, ~positive.T, wrong),
    )


def assert_equal(found: Retrieval, data: tuple[np.ndarray, ...], wrong: int = 5) -> None:
    """Ranks are equal, and so are the neighbours' scores; of equal scores any neighbour may be told, none twice."""
    images, texts, owner, items = data
    expected = whole(*data, wrong=wrong)
    for mine, theirs in zip((found.t2i, found.i2t), (expected.t2i, expected.i2t), strict=True):
        for field, a, b in zip(Ranks._fields, mine, theirs, strict=True):
            assert a.tolist() == b.tolist(), field
    scores = (texts.astype(np.float64) @ images.astype(np.float64).T)[items]
    negative = np.where(owner[:, None] == np.arange(len(images)), np.nan, scores)
    for near, highest_ones, all_scores in (
        (found.t2i_wrong, expected.t2i_wrong, negative),
        (found.i2t_wrong, expected.i2t_wrong, negative.T),
    ):
        width = highest_ones.scores.shape[1]
        np.testing.assert_allclose(near.scores[:, :width], highest_ones.scores, rtol=1e-5, atol=2e-3)
        assert (near.indices[:, width:] == -1).all()
        for indices, values, row in zip(near.indices, near.scores, all_scores, strict=True):
            held = indices[indices >= 0]
            assert len(set(held)) == len(held)
            np.testing.assert_allclose(values[: len(held)], row[held], rtol=1e-5, atol=2e-3)


def small_integers(images: int, texts: int, captions: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Features that lie on the grid already, so that float64 has their exact products."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-9999, 9999, (n, 3)).astype(np.float32) / np.float32(64) for n in (images, texts)]
    owner = np.concatenate([np.arange(images), rng.integers(0, images, captions - images)])
    return *rows, np.sort(owner), rng.integers(0, texts, captions)


@pytest.mark.parametrize("side", [32, 64, 1024])
@pytest.mark.parametrize(("images", "texts", "captions"), [(1, 1, 1), (13, 30, 40), (70, 300, 350), (200, 90, 210)])
def test_rank_both_ways_equals_ranking_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, side: int, images: int, texts: int, captions: int
) -> None:
    monkeypatch.setattr(tiles, "MAX_SIDE", side)
    data = small_integers(images, texts, captions)
    assert_equal(rank_both_ways(*data), data)


@pytest.mark.parametrize("wrong", [1, 40])
def test_any_number_of_wrong_neighbours(wrong: int) -> None:
    data = small_integers(50, 120, 130)
    assert_equal(rank_both_ways(*data, wrong=wrong), data, wrong)


def test_ties_of_distinct_items_are_exact_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of equal bits tie though their products stand in different tiles; unit rows, so that bits do matter."""
    monkeypatch.setattr(tiles, "MAX_SIDE", 64)
    rng = np.random.default_rng(1)
    images = unit(rng.normal(size=(150, 48)))
    images[[7, 60, 149]] = images[3]
    texts = unit(rng.normal(size=(400, 48)))
    texts[[5, 200, 399]] = texts[9]
    owner, items = np.sort(np.concatenate([np.arange(150), rng.integers(0, 150, 250)])), np.arange(400)
    found = rank_both_ways(images, texts, owner, items)
    own = np.isin(owner, [3, 7, 60, 149])
    assert (found.t2i.tied_negatives == 3 * own).all()
    holders = owner[[5, 9, 200, 399]]
    assert found.i2t.tied_negatives.sum() >= found.t2i.tied_negatives[[5, 9, 200, 399]].sum()
    assert (found.i2t.identical == 0).all()
    assert len(set(holders)) == 4


def test_a_collapsed_model_ranks_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_SIDE", 32)
    rng = np.random.default_rng(2)
    one = unit(rng.normal(size=(1, 100)))
    found = rank_both_ways(one.repeat(77, axis=0), one.repeat(200, axis=0), np.arange(200) % 77, np.arange(200))
    assert hits_at(found.t2i, 10).sum() == 0
    assert hits_at(found.i2t, 10).sum() == 0
    assert (found.t2i.tied_negatives == 76).all()


def test_equal_texts_of_two_images_are_identical_items() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[0.9, 0.9, 0], [0, 0.8, 0.5], [0, 0, 0.7]], np.float32)
    found = rank_both_ways(images, texts, owner=np.array([0, 1, 1, 2]), items=np.array([0, 0, 1, 2]))
    assert found.i2t.identical.tolist() == [1, 1, 0]
    assert found.i2t.tied_negatives.tolist() == [1, 1, 0]
    assert found.t2i.tied_negatives.tolist() == [1, 1, 0, 0]
    assert found.i2t_wrong.indices[0].tolist() == [1, 2, 3, -1, -1]


def test_threads_and_memory_mapped_features_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_SIDE", 64)
    rng = np.random.default_rng(3)
    images, texts = unit(rng.normal(size=(300, 32))), unit(rng.normal(size=(500, 32)))
    owner, items = np.sort(np.concatenate([np.arange(300), rng.integers(0, 300, 250)])), rng.permutation(550) % 500
    for name, rows in (("images", images), ("texts", texts)):
        np.save(tmp_path / f"{name}.npy", rows)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "texts")]
    with threadpool_limits(1):
        alone = rank_both_ways(images, texts, owner, items)
    with threadpool_limits(3):
        together = rank_both_ways(*mapped, owner, items)
    for a, b in zip(alone, together, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("where", [0, 1])
def test_nan_is_an_error_and_says_where(where: int) -> None:
    data = small_integers(40, 60, 80)
    data[where][17, 2] = np.nan
    with pytest.raises(NumericsError, match="row 17"):
        rank_both_ways(*data)


def test_counts_of_full_rows_do_not_overflow() -> None:
    mask = np.ones((1024, 1024), bool)
    assert (tiles.per_row(mask) == 1024).all()
    assert (tiles.per_column(mask) == 1024).all()


def test_merging_keeps_the_best_and_the_first_of_equals() -> None:
    top = tiles.no_neighbours(3, 2)
    tiles.merge(top, np.array([1, 1]), np.array([2, 4]), np.array([0.5, 0.5], np.float32))
    tiles.merge(top, np.array([1, 1, 1, 2]), np.array([5, 9, 8, 7]), np.array([0.5, 0.9, 0.1, 0], np.float32))
    assert top.indices.tolist() == [[-1, -1], [9, 2], [7, -1]]
    assert isinstance(top, Neighbours)
