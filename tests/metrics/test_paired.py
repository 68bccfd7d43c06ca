"""Paired tests: against scipy and closed forms, that they are honest under the null, and as strong as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables, multitest

from cocabench.metrics import intervals, paired, power

RNG = np.random.default_rng


def ratio(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def hits(gained: int, lost: int, n: int) -> np.ndarray:
    """Per-image differences of a share of hits."""
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost]) / n


def test_mcnemar_by_hand() -> None:
    """Of 10 discordant images 1 is the first's: P(X >= 1) = 1 - 2^-10, P(X <= 1) = 11 / 2^10."""
    assert paired.mcnemar(1, 9) == pytest.approx((1 - 2**-10, 11 / 2**10))
    assert paired.mcnemar(0, 0) == (1.0, 1.0)


@pytest.mark.parametrize(("gained", "lost"), [(1, 9), (30, 12), (5, 5), (0, 7), (220, 260)])
def test_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    referee = contingency_tables.mcnemar([[50, gained], [lost, 50]], exact=True)
    assert paired.of_means(hits(gained, lost, 1000), RNG(0)).p_value == pytest.approx(referee.pvalue)


@pytest.mark.parametrize("seed", range(3))
def test_holm_equals_statsmodels(seed: int) -> None:
    p_values = RNG(seed).random(12) ** 4
    assert paired.holm(list(p_values)) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_hits_get_mcnemars_exact_test_at_any_size() -> None:
    found = paired.of_means(hits(30, 12, 50_000), RNG(0))
    assert found.p_value == pytest.approx(stats.binomtest(30, 42).pvalue)
    assert (found.value, found.changed) == (pytest.approx(18 / 50_000), 42)


def test_few_changes_are_enumerated_as_scipy_does() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.05, 0.4, -0.15, 0.0])
    found = paired.sign_flip(differences, RNG(0))
    pairs = (differences, np.zeros_like(differences))
    for p, side in zip(found, ("greater", "less"), strict=True):
        test = stats.permutation_test(
            pairs, lambda a, b, axis: (a - b).sum(axis), permutation_type="samples", vectorized=True, alternative=side
        )
        assert p == pytest.approx(test.pvalue)


def test_many_changes_agree_with_the_normal_limit() -> None:
    differences = RNG(1).normal(0.05, 1, 2000)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert paired.sign_flip(differences, RNG(0)).higher == pytest.approx(stats.norm.sf(z), abs=0.01)


def test_swapping_a_mean_is_the_sign_flip_of_its_differences() -> None:
    first, second = (np.column_stack([RNG(i).random(12), np.ones(12)]) for i in (0, 1))
    swapped = paired.swap(first, second, ratio, RNG(0))
    assert swapped == pytest.approx(paired.sign_flip((first - second)[:, 0] / 12, RNG(0)))


def test_sums_that_are_a_mean_agree_with_the_mean() -> None:
    first, second = (np.column_stack([RNG(i).random(400), np.ones(400)]) for i in (0, 1))
    influence = np.subtract(*((side[:, 0] - side[:, 0].mean()) / 400 for side in (first, second)))
    found = paired.of_sums(first, second, ratio, influence, RNG(2))
    closed = paired.of_means((first - second)[:, 0] / 400, RNG(2))
    assert found[:3] == pytest.approx(closed[:3], abs=2e-3)
    assert found.error == pytest.approx(closed.error, rel=0.03)


def test_swapped_models_get_the_mirrored_answer() -> None:
    differences = RNG(3).normal(0.02, 0.1, 12)
    one, other = paired.of_means(differences, RNG(0)), paired.of_means(-differences, RNG(0))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert (one.higher, one.lower) == pytest.approx((other.lower, other.higher))


def test_equal_outcomes_still_have_an_interval() -> None:
    """Bonett and Price's interval for 0 of 100 discordant pairs is about ±2.7 points, not ±0."""
    found = paired.of_means(np.zeros(100), RNG(0))
    assert found.p_value == 1.0
    assert found.high == -found.low == pytest.approx(1.96 * np.sqrt(2) / 100, abs=1e-4)


def test_class_means_vary_within_classes_only() -> None:
    """Two classes that moved in opposite directions, every image alike: no variance but that of the added two."""
    differences, classes = np.repeat([0.01, -0.01], 50), np.repeat([0, 1], 50)
    weights = np.full(100, 0.01)
    assert paired.of_classes(differences, classes, weights).error == pytest.approx(np.sqrt(2) * 0.01)
    assert paired.of_means(differences, RNG(0)).error > 0.1
    single = paired.of_classes(differences, np.arange(100), weights)
    assert single.error == pytest.approx(np.sqrt(100 * 0.01**2 + 2 * 0.01**2))


@pytest.mark.parametrize("n", [0, 1, 12, 300])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_the_tail_of_the_binomial_equals_scipys(n: int, p: float) -> None:
    heads = np.arange(-1, n + 2)
    assert intervals.at_least(heads, n, p) == pytest.approx(stats.binom.sf(heads - 1, n, p), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("level", [0.05, 0.025 / 1960])
def test_mcnemars_power_equals_its_sum_by_scipy(level: float) -> None:
    n, changed, growth, more = 500, 40, 0.7, 25.0
    counts, differ = np.arange(1, n + 1), changed + growth * more
    found = stats.binom.sf(stats.binom.isf(level, counts, 0.5), counts, (1 + more / differ) / 2)
    whole = float(stats.binom.pmf(counts, n, differ / n) @ found)
    assert power.power_of_mcnemar(more, changed, growth, n, level=level) == pytest.approx(whole, rel=1e-12)


def test_holm_by_hand_and_never_above_one() -> None:
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]
    assert paired.holm([]) == []


def test_an_unpaired_test_agrees_with_its_interval() -> None:
    assert paired.of_independent(0.02, 0.0, 0.05).p_value == pytest.approx(0.05, abs=1e-6)
    assert paired.of_independent(-0.02, -0.05, 0.0).p_value == pytest.approx(0.05, abs=1e-6)
    assert paired.of_independent(0.0, 0.0, 0.0).p_value == 1.0


def test_detectable_accounts_for_few_changed_images() -> None:
    """At 5 %, 5 images must change one way (2^-5 = 0.031): 6.7 on average do so in 80 of 100 cases."""
    none = paired.of_means(np.zeros(100), RNG(0))
    drop = power.detectable(none, level=0.05)
    assert stats.binom.sf(4, 100, drop) == pytest.approx(0.8, abs=1e-3)


def test_zero_error_gives_an_exact_test() -> None:
    """Operations of a network: any difference is one, and none is none."""
    same, less = (paired.of_draws(value, np.full(200, value)) for value in (0.0, -3.0))
    assert (same.p_value, less.p_value) == (1.0, 0.0)
    assert power.detectable(same, level=0.05) == 0.0


def test_what_a_normal_test_detects() -> None:
    test = paired.of_error(0.0, 0.01)
    assert power.detectable(test, level=0.05) == pytest.approx(0.01 * (1.6449 + 0.8416), abs=1e-5)


def test_what_differs_more_with_a_drop_counts() -> None:
    """Of 1,000 images 40 differ, and each that is lost differs besides: (40 + m) differ where m more are lost."""
    test = paired.of_means(hits(20, 20, 1000), RNG(0), growth=1.0)
    more = power.detectable(test, level=0.05) * 1000
    assert power.power_of_mcnemar(more, 40, 1.0, 1000, level=0.05) == pytest.approx(0.8, abs=1e-3)
    assert more > (1.645 + 0.842) * np.sqrt(40)


@pytest.mark.parametrize("changed", [power.MAX_CHANGED_SUMMED, 1000])
def test_the_normal_limit_of_mcnemars_power_goes_on_from_the_exact_one(changed: int) -> None:
    test = paired.of_means(hits(changed // 2, changed // 2, 10_000), RNG(0), growth=0.9)
    more = power.detectable(test, level=0.01) * 10_000
    assert power.power_of_mcnemar(more, changed, 0.9, 10_000, level=0.01) == pytest.approx(0.8, abs=0.005)


def test_opposed_changes_of_very_unequal_classes_tell_nothing() -> None:
    """Three images of a class did not change, all of another did: random signs would be sure."""
    differences = np.r_[np.zeros(3), np.full(400, -1 / 2000), np.zeros(600)]
    classes, weights = np.repeat([0, 1], [3, 1000]), np.repeat([1 / 6, 1 / 2000], [3, 1000])
    assert paired.sign_flip(differences, RNG(0)).lower < 1e-9
    assert paired.of_classes(differences, classes, weights).lower > 0.05


def test_skewed_differences_are_judged_by_the_more_careful_test() -> None:
    differences = (RNG(0).exponential(1, 50) - 1.35) / 50
    flipped, found = paired.sign_flip(differences, RNG(1)), paired.of_means(differences, RNG(1))
    assert found.lower > flipped.lower
    assert found.higher >= flipped.higher


def test_an_image_that_tasks_share_counts_once() -> None:
    """Twice the same task is the task; two tasks of other images are a longer one."""
    gaps, images = RNG(0).choice([-1.0, 0.0, 1.0], 200) / 200, np.arange(200)
    one, both = paired.of_means(gaps, RNG(1)), paired.of_tasks([(images, gaps, 0.0)] * 2, RNG(1))
    assert both[:10] == pytest.approx(one[:10])
    apart = paired.of_tasks([(images, gaps, 0.0), (images + 200, gaps, 0.0)], RNG(1))
    assert apart[:10] == pytest.approx(paired.of_means(np.r_[gaps, gaps] / 2, RNG(1))[:10])


@pytest.mark.parametrize("discordant", [0.02, 0.2])
def test_intervals_of_differences_cover_what_they_claim(discordant: float) -> None:
    n, shift, rng = 200, 0.01, RNG(0)
    shares = [(discordant + shift) / 2, (discordant - shift) / 2, 1 - discordant]
    draws = rng.multinomial(n, shares, size=2000)
    found = [paired.of_means(hits(*map(int, d[:2]), n), rng) for d in draws]
    assert 0.94 < np.mean([f.low <= shift <= f.high for f in found]) < 0.985


def test_false_alarms_stay_below_their_level() -> None:
    """Equal models, captions of an image hit or miss together: the test must see images, not captions."""
    rng = RNG(0)
    together = rng.choice([-5.0, 0.0, 5.0], p=[0.1, 0.8, 0.1], size=(400, 300)) / 1500
    p_values = [paired.sign_flip(d, rng).lower for d in together]
    assert np.mean(np.array(p_values) < 0.05) < 0.075


@pytest.mark.parametrize("by_products", [True, False])
@pytest.mark.parametrize("n", [0, 1, 8, 13, 14, 16, 101, 5003])
def test_sums_under_signs_are_those_of_the_signs_one_by_one(
    n: int, by_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits of the generator in their order, by matrix products as by looking up bytes of them."""
    if not by_products:
        monkeypatch.setattr(paired, "_are_halves", lambda _: False)
    monkeypatch.setattr(paired, "RESAMPLES", 300)
    monkeypatch.setattr(paired, "CHUNK", 10 * 5003)
    monkeypatch.setattr(paired, "DRAWS_AT_ONCE", 25)
    values = RNG(0).integers(-9, 10, (n, 3)) / 2
    if n <= paired.EXACT:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n)[::-1] & 1)
    else:
        rng, size = RNG(1), 10 * 5003 // n
        rows = [min(size, 300 - start) for start in range(0, 300, size)]
        bits = [np.unpackbits(np.frombuffer(rng.bytes(-(-k * n // 8)), np.uint8), count=k * n) for k in rows]
        signs = 2 * np.concatenate(bits).astype(np.int64).reshape(300, n) - 1
    assert np.array_equal(paired._turned(values, RNG(1)), signs @ values)


def test_products_are_for_halves_whose_sums_are_exact() -> None:
    found = [paired._are_halves(np.array(values)) for values in ([0.5, -3], [1 / 3], [8192.5], [np.nan])]
    assert found == [True, False, False, False]
