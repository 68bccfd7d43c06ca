"""Recipes of several seeds: hand-worked cases, outside referees, and simulations of coverage and false alarms."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
import scipy.stats

from benchmarks import recipes
from benchmarks.recipes import SKEWED, World
from cocabench.metrics import paired, seeds
from cocabench.metrics.seeds import Moves, compare, permutation, share_of_seeds

THREE, FIVE = (3, 3), (5, 5)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_examples() -> None:
    assert doctest.testmod(seeds) == (0, 4)


def test_many_images_give_welchs_test_of_the_seeds() -> None:
    """Images add nothing where a seed has one value on all of them; scipy has the rest."""
    levels = np.array([0.60, 0.64, 0.62]), np.array([0.50, 0.52, 0.57])
    n = 100_000
    moves = [np.repeat(level[:, None], n, axis=1) / n for level in levels]
    found = compare([Moves(np.arange(n), *moves, classes=np.zeros(n, int), weights=np.full(n, 1 / n))], rng())
    referee = scipy.stats.ttest_ind(*levels, equal_var=False)
    assert found.test is not None
    assert found.test.p_value == pytest.approx(referee.pvalue, rel=1e-3)
    interval = referee.confidence_interval(0.95)
    assert (found.test.low, found.test.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
    assert found.share == pytest.approx(1, abs=1e-3)


def test_seeds_that_agree_leave_the_test_of_images() -> None:
    """Without any variance of seeds the test is that of one model of each, and seeds' share is 0."""
    hits = np.random.default_rng(1).random((2, 200)) < 0.7
    one, other = (np.repeat(side[None] / 200, 3, axis=0) for side in hits)
    found = compare([Moves(np.arange(200), one, other)], rng())
    assert found.share == pytest.approx(0, abs=1e-9)
    assert found.test is not None
    gained, lost = (int((hits[i] & ~hits[1 - i]).sum()) for i in (0, 1))
    assert found.test.p_value == pytest.approx(scipy.stats.binomtest(gained, gained + lost).pvalue)


def test_share_of_seeds_by_hand() -> None:
    """Levels 1, 2, 3 of both recipes have the variance 1, no interaction: seeds 1/3 + 1/3. Images differ by ±2 on two
    halves of 8: their variance is 32/7, over 8 it is 4/7. The share is (2/3) / (2/3 + 4/7) = 14/26."""
    level, image = np.array([[1.0], [2], [3]]), np.array([1.0, -1] * 4)
    first, second = (level + image) / 8, (level - image) / 8
    assert share_of_seeds(first, second) == pytest.approx(14 / 26)


def test_chance_in_single_images_is_not_due_to_seeds() -> None:
    """Equal recipes whose seeds differ by coin flips: over many draws, seeds have hardly a share."""
    draw = np.random.default_rng(2)
    shares = [share_of_seeds(*(draw.integers(0, 2, (2, 5, 400)) / 400)) for _ in range(50)]
    assert np.mean(shares) < 0.15


def test_permutation_by_hand() -> None:
    """4 and 4 seeds without overlap: 2 of 70 deals are as extreme. Of 3 and 3, 2 of 20 are: none can be below 0.05."""
    four = np.arange(4.0)
    assert permutation(four + 4, four, rng()) == 2 / 70
    assert permutation(four[:3] + 4, four[:3], rng()) is None


def test_permutation_is_scipys() -> None:
    first, second = np.array([3.0, 5, 1, 4, 8]), np.array([2.0, 2.5, 0, 1, 4.5])
    referee = scipy.stats.permutation_test(
        (first, second), lambda a, b: a.mean() - b.mean(), permutation_type="independent", n_resamples=np.inf
    )
    assert permutation(first, second, rng()) == pytest.approx(referee.pvalue)


def test_permutation_of_many_seeds_is_random_and_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.array([3.0, 5, 1, 4, 8, 2]), np.array([2.0, 2.5, 0, 1, 4.5, 1.5])
    exact = permutation(first, second, rng())
    monkeypatch.setattr(seeds, "MAX_ORDERS", 900)
    assert permutation(first, second, rng()) == pytest.approx(exact, abs=0.04)


@pytest.mark.parametrize("counts", [(2, 5), (5, 1), (2, 2)])
def test_too_few_seeds_have_no_test(counts: tuple[int, int]) -> None:
    moves = (np.random.default_rng(3).random((count, 50)) / 50 for count in counts)
    assert compare([Moves(np.arange(50), *moves)], rng()).test is None


def test_mean_over_tasks_on_the_same_images_is_no_surer_than_one() -> None:
    """Two tasks with all images and outcomes in common say what one says; on other images they say more."""
    part = recipes.drawn(World(FIVE, 0.05, lead=0.1), np.random.default_rng(4))
    one, twice = compare([part], rng()).test, compare([part, part], rng()).test
    apart = compare([part, part._replace(images=part.images + 1000)], rng()).test
    assert one
    assert twice
    assert apart
    assert twice.error == pytest.approx(one.error)
    assert apart.error < one.error


def test_error_is_that_of_the_hierarchical_bootstrap_with_more_seeds() -> None:
    """With 12 seeds the bootstrap's 11/12 matter little; its variance also counts chance in single images thrice."""
    moves = recipes.drawn(World((12, 12), 0.3, images=1000), np.random.default_rng(5))
    found = compare([moves], rng()).test
    assert found
    drawn = recipes.bootstrap(moves, 1000, rng())
    assert found.error * math.sqrt(11 / 12) == pytest.approx(drawn.std(), rel=0.1)


@pytest.fixture
def fewer_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let random signs be 1,000 in place of 10,000: a level of 0.05 over hundreds of worlds is no other by that."""
    monkeypatch.setattr(paired, "RESAMPLES", 1000)


def three_sigma(share: float, n: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / n)


@pytest.mark.usefixtures("fewer_signs")
def test_equal_recipes_in_short() -> None:
    found = recipes.simulate(World(THREE, 0.2, images=100), 60, rng())
    assert found.covered >= 0.93 - three_sigma(0.93, 60)
    assert found.alarms <= 0.06 + three_sigma(0.06, 60)


CASES = list(
    itertools.product(
        (THREE, FIVE, (3, 5)),
        ((0.0, 0.0, "normal"), (0.03, 0.0, "normal"), (0.2, 0.0, "normal"), (0.2, 0.1, "normal"), (0.1, 0.0, SKEWED)),
    )
)


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_signs")
@pytest.mark.parametrize(("counts", "world"), CASES)
def test_coverage_and_false_alarms(counts: tuple[int, int], world: tuple[float, float, str]) -> None:
    """At least 0.93 and at most 0.06, also of seeds that sometimes fail."""
    spread, lead, kind = world
    found = recipes.simulate(World(counts, spread, lead=lead, kind=kind), 300, rng())
    assert found.covered >= 0.93 - three_sigma(0.93, 300)
    assert found.alarms <= 0.06 + three_sigma(0.06, 300)


@pytest.mark.slow
def test_percentiles_of_the_bootstrap_cover_too_little_with_three_seeds() -> None:
    assert recipes.percentile_coverage(World(THREE, 0.2), 150, rng()) < 0.88


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_signs")
def test_a_large_difference_is_found_with_three_seeds() -> None:
    """The method would be of no use if it never said anything."""
    assert recipes.simulate(World(THREE, 0.03, images=1000, lead=0.3), 60, rng()).found > 0.9
