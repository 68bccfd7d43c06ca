"""The gate is as honest as it says: false alarms within the level, power as printed, whatever the order of samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cocabench.core.types import Status
from cocabench.metrics import paired, statistics
from cocabench.metrics.base import Paired
from cocabench.results.gate import Rules, gate
from cocabench.results.records import read
from cocabench.results.store import Store
from tests.metrics.frames import EVERY
from tests.metrics.test_paired import hits, ratio
from tests.samples import classified


def of_pair(rng: np.random.Generator, n: int, discordant: float, drop: float = 0.0) -> Paired:
    """Return the test of two models on n images, of which a share is right with one of the two only."""
    shares = [(discordant + drop) / 2, (discordant - drop) / 2, 1 - discordant]
    gained, lost, _ = rng.multinomial(n, shares)
    return paired.of_means(hits(int(gained), int(lost), n), rng)


def rejected(tests: list[Paired], alpha: float = 0.05) -> list[bool]:
    return [p <= alpha for p in paired.holm([test.higher for test in tests])]


def three_sigma(share: float, n: int) -> float:
    return 3 * (share * (1 - share) / n) ** 0.5


@pytest.mark.parametrize(("n", "discordant"), [(2000, 0.2), (200, 0.1)])
def test_false_alarm_rate_is_at_most_the_level(n: int, discordant: float) -> None:
    rng = np.random.default_rng(0)
    alarms = [rejected([of_pair(rng, n, discordant)])[0] for _ in range(1000)]
    assert np.mean(alarms) <= 0.05 + three_sigma(0.05, 1000)
    assert np.mean(alarms) > 0.01  # a test that never rejects would pass the line above


def test_false_alarm_rate_of_ten_metrics_is_at_most_the_level() -> None:
    rng = np.random.default_rng(1)
    alarms = [any(rejected([of_pair(rng, 500, 0.2) for _ in range(10)])) for _ in range(400)]
    assert np.mean(alarms) <= 0.05 + three_sigma(0.05, 400)


def test_gate_of_40_tasks_detects_one_drop_of_5_points() -> None:
    """40 tasks of 2,000 images, 20 % discordant; the other 39 are equal."""
    rng = np.random.default_rng(2)
    found = [rejected([of_pair(rng, 2000, 0.2, 0.05 * (task == 0)) for task in range(40)])[0] for _ in range(60)]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize("family", [1, 10])
@pytest.mark.parametrize(("n", "discordant"), [(2000, 0.2), (500, 0.1), (100, 0.0), (300, 0.02)])
def test_detectable_drop_is_found_in_80_of_100_tests(n: int, discordant: float, family: int) -> None:
    """The smallest detectable drop of a pair without a drop is found in about 80 of 100 pairs that have it."""
    rng, level = np.random.default_rng(3), 0.05 / family
    lost = gained = round(discordant * n / 2)
    before = paired.of_means(hits(gained, lost, n), rng)
    drop = paired.detectable(before.error, level=level, step=before.step)
    tests = [of_pair(rng, n, max(discordant, drop), drop) for _ in range(1000)]
    assert 0.75 < np.mean([test.higher <= level for test in tests]) < 0.95


@pytest.mark.slow
def test_gate_of_40_tasks_a_thousand_times() -> None:
    rng = np.random.default_rng(4)
    alarms, found = [], []
    for _ in range(1000):
        tests = [of_pair(rng, 2000, 0.2) for _ in range(40)]
        alarms.append(any(rejected(tests)))
        found.append(rejected([of_pair(rng, 2000, 0.2, 0.05), *tests[1:]])[0])
    print(f"false alarms of a gate of 40: {np.mean(alarms):.3f}; a 5-point drop found: {np.mean(found):.3f}")
    assert np.mean(alarms) <= 0.05 + three_sigma(0.05, 1000)
    assert np.mean(found) >= 0.9


def skewed(rng: np.random.Generator) -> Paired:
    """Equal models on a metric whose differences are rarely large, as CIDEr's."""
    return paired.of_means(rng.standard_t(3, 200) / 200, rng)


def correlated(rng: np.random.Generator) -> Paired:
    """Equal models on five captions per image, which hit and miss mostly together."""
    image = rng.random((300, 1))
    first, second = (((image + 0.3 * rng.standard_normal((300, 5))) > 0.5).sum(axis=1) for _ in "ab")
    return paired.of_means((first - second) / 1500, rng)


def of_sums(rng: np.random.Generator) -> Paired:
    """Equal models on a ratio of summed counts, as BLEU's precisions."""
    totals = rng.integers(5, 15, 200)
    sides = (np.column_stack([rng.binomial(totals, 0.4), totals]).astype(float) for _ in "ab")
    return Paired(0, 0, 0, *paired.swap(*sides, ratio, rng), 0)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [skewed, correlated, of_sums])
def test_false_alarm_rate_of_other_statistics(pair: Callable[[np.random.Generator], Paired]) -> None:
    rng = np.random.default_rng(5)
    alarms = [pair(rng).higher <= 0.05 for _ in range(1000)]
    print(f"{pair.__name__}: false alarms {np.mean(alarms):.3f}")
    assert 0.02 < np.mean(alarms) <= 0.05 + three_sigma(0.05, 1000)


@pytest.mark.parametrize("name", EVERY)
def test_paired_test_does_not_depend_on_the_order_of_samples(name: str) -> None:
    metric, first, second = EVERY[name]
    straight = statistics.compare(metric, first, second)
    shuffled = statistics.compare(metric, first.sample(frac=1, random_state=1), second.sample(frac=1, random_state=2))
    assert shuffled == straight
    assert np.isfinite(straight.error)


@pytest.mark.parametrize("name", EVERY)
def test_paired_test_of_a_model_with_itself_finds_nothing(name: str) -> None:
    metric, samples, _ = EVERY[name]
    found = statistics.compare(metric, samples, samples)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.low <= 0 <= found.high


def test_verdicts_do_not_depend_on_the_order_of_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    classified(tmp_path / "old", "m", rng.random(300) < 0.7)
    new = classified(tmp_path / "new", "m", rng.random(300) < 0.5)
    before = gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules())
    store = Store(tmp_path / "new")
    store.put(new, store.samples(new).sample(frac=1, random_state=0))
    assert gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules()) == before
    assert before[0].status is Status.REGRESSED


def test_gate_does_not_pair_other_samples_with_the_same_fingerprint(tmp_path: Path) -> None:
    """Records say that the data are the same and the samples say otherwise: no pairing, and the reason is told."""
    classified(tmp_path / "old", "m", np.ones(300, bool), protocol={"data": 1})
    classified(tmp_path / "new", "m", np.ones(299, bool), protocol={"data": 1})
    (verdict,) = gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules())
    assert verdict.unpaired == "acc1: 1 samples are in one of the two only"


def test_gate_does_not_compare_other_fingerprints(tmp_path: Path) -> None:
    classified(tmp_path / "old", "m", np.ones(300, bool), protocol={"data": {"hash": "a"}})
    classified(tmp_path / "new", "m", np.zeros(300, bool), protocol={"data": {"hash": "b"}})
    (verdict,) = gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules())
    assert (verdict.status, verdict.detail) == (Status.INCOMPARABLE, "data.hash: a against b")
    assert verdict.p_value is None
