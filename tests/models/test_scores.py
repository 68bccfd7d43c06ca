"""Ranks with scores from a device equal those of the CPU alone, here with torch's CPU as the device.

``Noisy`` is a device whose scores are as wrong as the bound of float32's rounding allows, up or down at random.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.ranks import lifelike
from cocabench.core.errors import NumericsError
from cocabench.core.scores import Bars, Proposed
from cocabench.metrics import matching
from cocabench.metrics.grid import Grid, error_bound
from cocabench.metrics.matching import Retrieval, rank_both_ways
from cocabench.models.scores import ScoresOnDevice

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MIN_WORK_ON_DEVICE", 0)
    monkeypatch.setattr(matching, "SCORES_PER_CHUNK", 1 << 13)


class Watched(ScoresOnDevice):
    """Torch's CPU as the device. calls: (captions, scores recomputed, None if the block is left to the CPU)."""

    def __init__(self, shape: tuple[int, int], images: Iterable[np.ndarray], calls: list[Any]) -> None:
        super().__init__(shape, images, device="cpu")
        self.calls = calls

    def __call__(self, texts: np.ndarray, *given: Any, **options: Any) -> Proposed | None:
        found = super().__call__(texts, *given, **options)
        self.calls.append((len(texts), found and len(found.rows.rows) + len(found.columns.rows)))
        return found


class Noisy(Watched):
    """Scores that differ from the exact ones by as much as the bound allows."""

    def __init__(self, shape: tuple[int, int], images: Iterable[np.ndarray], calls: list[Any], error: float) -> None:
        super().__init__(shape, images, calls)
        self.error, self.rng = error, np.random.default_rng(0)

    def product(self, texts: torch.Tensor) -> torch.Tensor:
        exact = (texts.double() @ self.images.double().T).numpy()
        noisy = (exact + self.error * self.rng.choice([-1, 1], exact.shape)).astype(np.float32)
        rounded_out = np.abs(noisy - exact) > self.error
        return torch.from_numpy(np.where(rounded_out, np.nextafter(noisy, exact.astype(np.float32)), noisy))


class Careless(Noisy):
    """Compares without a margin: what ranks would be if a device had the last word."""

    def __call__(self, texts: np.ndarray, own: np.ndarray, *bars: Bars, **options: Any) -> Proposed | None:
        narrow = (Bars(*[(one.low + one.high) / 2] * 2, one.beaten) for one in bars)
        return super().__call__(texts, own, *narrow, **options)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def features(images: int, captions: int, terms: int, seed: int = 0, copies: float = 0.2) -> Data:
    """Rows of which a share are copies of others, so that scores tie; owners with one caption and with many."""
    rng = np.random.default_rng(seed)
    texts = max(1, captions - captions // 7)
    rows = [unit(rng.normal(size=(n, terms)) + 1) for n in (images, texts)]
    for one in rows:
        copied = rng.random(len(one)) < copies
        one[copied] = one[rng.integers(0, max(1, len(one) // 5), copied.sum())]
    skewed = (images * rng.random(captions - images) ** 3).astype(int)
    owner = np.sort(np.concatenate([np.arange(images), skewed]))
    return *rows, owner, rng.integers(0, texts, captions)


def bound(data: Data) -> float:
    return error_bound(Grid(data[0], "images"), Grid(data[1], "texts"))


def differ(found: Retrieval, data: Data) -> list[str]:
    """Return the fields of ranks that differ from those of the CPU alone."""
    alone = rank_both_ways(*data)
    pairs = [(f"{way}.{field}", way, field) for way in ("t2i", "i2t") for field in alone.t2i._fields]
    values = [(name, *(getattr(getattr(one, way), field) for one in (found, alone))) for name, way, field in pairs]
    return [name for name, a, b in values if not np.array_equal(a, b)]


SHAPES = ((1, 1, 1), (1, 40, 3), (40, 40, 512), (77, 400, 8), (300, 310, 64), (150, 900, 2), (33, 1000, 31))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_ranks_equal_those_of_the_cpu_alone(shape: tuple[int, int, int], seed: int) -> None:
    data, calls = features(*shape, seed=seed), []
    found = rank_both_ways(*data, device=partial(Watched, calls=calls))
    assert not differ(found, data)
    assert sum(n for n, _ in calls) == shape[1], "each caption is in one block"
    assert all(near is not None for _, near in calls)


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_ranks_are_equal_for_scores_as_wrong_as_the_bound_allows(shape: tuple[int, int, int]) -> None:
    data, calls = features(*shape), []
    found = rank_both_ways(*data, device=partial(Noisy, calls=calls, error=bound(data)))
    assert not differ(found, data)
    assert sum(near for _, near in calls) > 0


def test_scores_near_thresholds_are_recomputed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "MAX_SCORES_RECOMPUTED", 7)
    monkeypatch.setattr(matching, "MAX_SHARE_RECOMPUTED", 1)
    data, calls = features(77, 400, 8), []
    assert not differ(rank_both_ways(*data, device=partial(Noisy, calls=calls, error=bound(data))), data)
    assert max(near for _, near in calls) > 70


def test_ranks_are_equal_for_forty_random_shapes() -> None:
    rng = np.random.default_rng(3)
    for seed in range(40):
        images = int(rng.integers(1, 120))
        shape = images, images + int(rng.integers(0, 400)), int(rng.integers(1, 200))
        data, calls = features(*shape, seed=seed, copies=rng.choice([0, 0.1, 0.5])), []
        found = rank_both_ways(
            *data, wrong=int(rng.integers(1, 9)), device=partial(Noisy, calls=calls, error=bound(data))
        )
        assert not differ(found, data), (seed, shape)
        assert sum(n for n, _ in calls) == shape[1]


def test_without_the_margin_the_same_scores_give_wrong_ranks() -> None:
    data = features(300, 310, 64)
    found = rank_both_ways(*data, device=partial(Careless, calls=[], error=bound(data)))
    assert {"t2i.tied_negatives", "i2t.tied_negatives", "t2i.n_above", "i2t.n_above"} <= set(differ(found, data))


def test_neighbours_are_those_of_the_cpu_alone_to_the_last_digits() -> None:
    images, texts, owner, _ = features(150, 600, 32, copies=0)
    data = images, texts[:500], np.sort(np.concatenate([np.arange(150), owner[:350]])), np.arange(500)
    found, alone = rank_both_ways(*data, device=partial(Watched, calls=[])), rank_both_ways(*data)
    for mine, theirs in ((found.t2i_wrong, alone.t2i_wrong), (found.i2t_wrong, alone.i2t_wrong)):
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-6)
        apart = np.diff(theirs.scores, prepend=2, append=-2) < -1e-5
        clear = apart[:, :-1] & apart[:, 1:]
        clear[:, -1] = False  # the next one is not known
        assert clear.mean() > 0.7
        assert (mine.indices == theirs.indices)[clear].all()


def test_there_are_fewer_neighbours_where_there_are_fewer_wrong_candidates() -> None:
    data = features(3, 4, 8, copies=0)
    found = rank_both_ways(*data, device=partial(Watched, calls=[]))
    assert ((found.t2i_wrong.indices >= 0).sum(axis=1) == 2).all()
    assert ((found.i2t_wrong.indices >= 0).sum(axis=1) == 4 - np.bincount(data[2])).all()
    assert (np.isnan(found.i2t_wrong.scores) == (found.i2t_wrong.indices < 0)).all()


@pytest.mark.parametrize("equal", [1.0, 0.4])
def test_blocks_with_many_scores_at_their_thresholds_are_left_to_the_cpu(
    equal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All features equal, as those of a collapsed model, or those of the first captions and images."""
    monkeypatch.setattr(matching, "MAX_SCORES_RECOMPUTED", 256)
    images, texts, owner, _ = features(200, 500, 16, copies=0)
    items = np.arange(500) % len(texts)
    images[: int(equal * 200)], texts[: int(equal * len(texts))] = images[0], images[0]
    data, calls = (images, texts, owner, items), []
    found = rank_both_ways(*data, device=partial(Watched, calls=calls))
    assert not differ(found, data)
    left = [near is None for _, near in calls]
    assert all(left) if equal == 1 else 0 < sum(left) < len(left)


@pytest.mark.parametrize(
    ("memory", "sizes"),
    [([54, *[30] * 99], [54, 54, *[27] * 20, 6]), ([54, 54, 7, 7, 7], [54, 54, 54, 27, 13])],
    ids=["less", "nearly none"],
)
def test_blocks_are_halved_when_memory_runs_out_and_at_last_the_cpu_ranks_the_rest(
    memory: list[int], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """memory: how many captions fit at each call. sizes: how many are tried."""
    monkeypatch.setattr(matching, "MIN_ROWS_ON_DEVICE", 10)
    tried: list[int] = []

    class Small(Watched):
        def product(self, texts: torch.Tensor) -> torch.Tensor:
            tried.append(len(texts))
            if len(texts) > memory[len(tried) - 1]:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().product(texts)

    data = features(150, 600, 32)
    assert not differ(rank_both_ways(*data, device=partial(Small, calls=[])), data)
    assert tried == sizes


def test_images_that_do_not_fit_are_ranked_on_the_cpu() -> None:
    class Full(Watched):
        def __init__(self, shape: tuple[int, int], images: Iterable[np.ndarray], calls: list[Any]) -> None:
            super().__init__((shape[0], 1 << 50), images, calls)

    data, calls = features(40, 80, 8), []
    assert not differ(rank_both_ways(*data, device=partial(Full, calls=calls)), data)
    assert not calls


def test_another_error_of_the_device_ends_the_ranking() -> None:
    class Broken(Watched):
        def product(self, texts: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("unspecified launch failure")

    with pytest.raises(RuntimeError, match="launch failure"):
        rank_both_ways(*features(40, 80, 8), device=partial(Broken, calls=[]))


def test_products_of_less_than_float32_are_an_error() -> None:
    class Tf32(Watched):
        """Factors of 11 bits, as tensor cores take them."""

        def product(self, texts: torch.Tensor) -> torch.Tensor:
            left, right = ((one.view(torch.int32) & -(1 << 13)).view(torch.float32) for one in (texts, self.images))
            return left @ right.T

    with pytest.raises(NumericsError, match="times the bound of their rounding; wanted float32 without TF32"):
        rank_both_ways(*features(77, 400, 64), device=partial(Tf32, calls=[]))


def test_the_precision_that_the_caller_set_changes_nothing_and_stays() -> None:
    class Asked(Watched):
        def product(self, texts: torch.Tensor) -> torch.Tensor:
            assert torch.get_float32_matmul_precision() == "highest"
            return super().product(texts)

    data, before = features(77, 400, 64), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = rank_both_ways(*data, device=partial(Asked, calls=[]))
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert not differ(found, data)


def test_nan_is_refused_before_the_device_sees_it() -> None:
    data, calls = features(40, 80, 8), []
    data[1][17, 2] = np.nan
    with pytest.raises(NumericsError, match="row 17"):
        rank_both_ways(*data, device=partial(Watched, calls=calls))
    assert not calls


def test_small_products_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    calls: list[Any] = []
    rank_both_ways(*features(300, 1000, 64), device=partial(Watched, calls=calls))
    assert not calls


@pytest.mark.slow
def test_ranks_are_equal_at_the_size_of_coco(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(matching, "MIN_WORK_ON_DEVICE", 0)
    data, calls = (*lifelike(5000, 5), np.arange(25000) // 5, np.arange(25000)), []
    assert not differ(rank_both_ways(*data, device=partial(Watched, calls=calls)), data)
    assert sum(n for n, _ in calls) == 25000
    assert 1000 < sum(near for _, near in calls) < 100_000
