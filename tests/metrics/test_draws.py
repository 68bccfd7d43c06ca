"""Few-shot probes: intervals and tests hold their level over test images and draws of training images, simulated."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cocabench.metrics.base import Metric, Paired, estimate
from cocabench.metrics.power import detectable
from cocabench.metrics.statistics import Drawn, Hits, compare

IMAGES, DRAWS, TRIALS = 150, 3, 300
METRIC = Metric("acc", "", Drawn("hit"), ("hit", "seed"))
ALONE = Metric("acc", "", Hits("hit"), ("hit", "seed"))


def drawn(rng: np.random.Generator, easy: np.ndarray, between: float) -> pd.DataFrame:
    """Return hits of images (n,) of some easiness in draws that are better or worse."""
    chances = expit(easy[:, None] + between * rng.standard_normal(DRAWS))
    frame = pd.DataFrame({"hit": (rng.random(chances.shape) < chances).astype(float).ravel()})
    image, seed = np.divmod(np.arange(len(frame)), DRAWS)
    names = image.astype(str)
    return frame.assign(seed=seed, image_id=names, id=[f"{i} {s}" for i, s in zip(names, seed, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 0.3, 1.0])
def test_intervals_cover_what_new_images_and_draws_would_give(between: float) -> None:
    """Must fail: without the draws, where they differ, intervals are much too short."""
    rng = np.random.default_rng(0)
    easy = 0.5 + 1.5 * rng.standard_normal(200_000)
    truth = float(expit(easy + between * rng.standard_normal(len(easy))).mean())
    covered = dict.fromkeys((METRIC, ALONE), 0)
    for _ in range(TRIALS):
        frame = drawn(rng, rng.choice(easy, IMAGES), between)
        for metric in covered:
            found = estimate(metric, frame)
            assert found.low is not None
            assert found.high is not None
            covered[metric] += found.low <= truth <= found.high
    assert covered[METRIC] / TRIALS > 0.92
    if between == 1.0:
        assert covered[ALONE] / TRIALS < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 1.0])
def test_equal_models_are_rarely_found_different(between: float) -> None:
    rng, trials = np.random.default_rng(1), TRIALS // 2
    alarms = dict.fromkeys((METRIC, ALONE) if between else (METRIC,), 0)
    for _ in range(trials):
        easy = 0.5 + 1.5 * rng.standard_normal(IMAGES)
        one, other = drawn(rng, easy, between), drawn(rng, easy, between)
        for metric in alarms:
            alarms[metric] += compare(metric, one, other).p_value < 0.05
    assert alarms[METRIC] / trials < 0.08
    if between:
        assert alarms[ALONE] / trials > 0.3


def test_the_variance_between_draws_by_hand() -> None:
    """Four images, draws with 1, 2 and 3 hits: 1/4, 2/4, 3/4 have the variance 1/16, their mean a third of it."""
    hits = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], float)
    names = [f"{i}" for i in range(4) for _ in range(3)]
    frame = pd.DataFrame({"hit": hits.ravel(), "seed": [0, 1, 2] * 4, "image_id": names, "id": range(12)})
    other = frame.assign(hit=0.0)
    found, alone = (compare(metric, frame, other) for metric in (METRIC, ALONE))
    assert found.value == alone.value == pytest.approx(0.5)
    assert found.error**2 - alone.error**2 == pytest.approx(1 / 16 / 3)
    same = compare(METRIC, frame, frame)
    assert (same.value, same.p_value) == (0.0, 1.0)


def test_the_detectable_difference_takes_the_quantiles_of_the_test() -> None:
    """By hand, of 2 degrees of freedom: Student's 4.303 for the level and 1.061 for the power, times the error."""
    few = Paired(0.0, -0.1, 0.1, 0.5, 0.5, 0.01, freedom=2)
    assert detectable(few, level=0.025) == pytest.approx((4.3027 + 1.0607) * 0.01, rel=1e-4)
    assert detectable(few._replace(freedom=np.inf), level=0.025) == pytest.approx((1.9600 + 0.8416) * 0.01, rel=1e-4)
