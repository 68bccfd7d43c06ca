"""Where a model stands among the published ones: hand-worked cases, scipy's line, and what cannot be placed."""

from __future__ import annotations

import doctest
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.special import expit, logit

from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.types import Estimate, Record
from cocabench.results import standing
from cocabench.results.records import read
from cocabench.results.standing import MIN_MODELS, Pool, fit, place, pool, standings
from tests.conftest import Command
from tests.report.records import estimate, record
from tests.samples import classified, right

MODELS = [f"M{i}:t" for i in range(11)]
REFERENCE = [0.3 + 0.05 * i for i in range(11)]


def on_line(accuracy: float, slope: float = 1.0, intercept: float = -0.5) -> float:
    return float(expit(intercept + slope * logit(accuracy)))


def among(tasks: Sequence[str] = ("imagenetv2",), noise: float = 0.0) -> Pool:
    """Published models whose shift accuracies lie on a line in logits, but for alternating noise."""
    table = {("imagenet1k", "acc1"): dict(zip(MODELS, REFERENCE, strict=True))}
    for task in tasks:
        values = [on_line(r) + noise * (-1) ** i for i, r in enumerate(REFERENCE)]
        table[task, "acc1"] = dict(zip(MODELS, values, strict=True))
    return table


def of(task: str, value: float, half: float | None = 0.01) -> Record:
    return record("mine", task, metrics={"acc1": estimate(value, half)})


def test_examples() -> None:
    assert doctest.testmod(standing) == (0, 3)


def test_percentile_by_hand() -> None:
    """Of ten, four are lower and one is equal: 45 %. Where lower is better, five are worse: 55 %."""
    others, own = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], Estimate(value=0.5, low=0.35, high=0.65, n=9)
    assert place(own, others) == (45, 30, 60)
    assert place(own, others, higher_is_better=False) == (55, 40, 70)
    assert place(Estimate(value=0.05, low=None, high=None, n=0), others) == (0, None, None)


def test_line_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, 40)
    y = expit(logit(x) * 0.9 - 0.3 + 0.1 * rng.standard_normal(40))
    line, referee = fit(list(x), list(y)), scipy.stats.linregress(logit(x), logit(y))
    assert (line.slope, line.intercept) == pytest.approx((referee.slope, referee.intercept))
    at_zero = line.error(0.5)  # logit 0: the error there is that of the intercept
    assert at_zero == pytest.approx(referee.intercept_stderr)


def test_effective_robustness_by_hand() -> None:
    """On the line it is 0; 5 points above it is 5. The line is exact, so the interval is that of both accuracies."""
    (found,) = standings([of("imagenet1k", 0.5), of("imagenetv2", on_line(0.5) + 0.05, 0.02)], among=among())
    (one,) = found.robustness
    assert one.value == pytest.approx(5.0)
    expected = on_line(0.5)
    half = math.hypot(2.0, 1.0 * expected * (1 - expected) / 0.25)
    assert (one.low, one.high) == pytest.approx((5 - half, 5 + half), abs=1e-6)
    assert one.scatter == pytest.approx(0, abs=1e-9)
    assert not one.extrapolated


def test_mean_robustness_counts_imagenet_once_for_all_sets() -> None:
    """Two equal sets: their own halves shrink by √2, that of ImageNet does not."""
    tasks = ("imagenetv2", "imagenet-r")
    records = [of("imagenet1k", 0.5), *(of(task, on_line(0.5) + 0.05, 0.02) for task in tasks)]
    (found,) = standings(records, among=among(tasks))
    mean = found.robustness[-1]
    expected = on_line(0.5)
    half = math.hypot(2.0 / math.sqrt(2), 1.0 * expected * (1 - expected) / 0.25)
    assert (mean.name, mean.value, mean.high) == ("", pytest.approx(5), pytest.approx(5 + half, abs=1e-6))


def test_published_models_about_their_line_are_zero_on_average() -> None:
    (found,) = standings([of("imagenet1k", 0.5), of("imagenetv2", on_line(0.5))], among=among(noise=0.02))
    assert found.robustness[0].scatter == pytest.approx(2.1, abs=0.2)


def test_extrapolation_is_said() -> None:
    (found,) = standings([of("imagenet1k", 0.1), of("imagenetv2", 0.05)], among=among())
    assert "outside the published ImageNet accuracies" in found.robustness[0].text


def test_simulated_intervals_of_robustness_cover() -> None:
    """A model on the line, measured on 2,000 and 500 images, 400 times."""
    rng, held = np.random.default_rng(1), []
    for _ in range(400):
        values = [rng.binomial(n, p) / n for n, p in ((2000, 0.5), (500, on_line(0.5)))]
        halves = [1.96 * math.sqrt(v * (1 - v) / n) for v, n in zip(values, (2000, 500), strict=True)]
        records = [of(t, v, h) for t, v, h in zip(("imagenet1k", "imagenetv2"), values, halves, strict=True)]
        (one,) = standings(records, among=among())[0].robustness
        assert one.low is not None
        assert one.high is not None
        held.append(one.low <= 0 <= one.high)
    assert np.mean(held) > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)


def test_neighbours_are_the_nearest_over_all_tasks() -> None:
    (found,) = standings([of("imagenet1k", 0.51), of("imagenetv2", on_line(0.51))], among=among())
    assert found.neighbours[0].spec == "M4:t"
    assert found.neighbours[0].distance == pytest.approx(100 * (0.01 + on_line(0.51) - on_line(0.5)) / 2)
    assert found.mean is not None
    lead = found.tasks[0].lead
    assert lead == pytest.approx(51 - 100 * np.mean([0.5, 0.55, 0.45]))


def test_languages_have_places_and_count_in_no_mean() -> None:
    """Two languages and two other tasks: mean and neighbours are those of the two others."""
    table = {(task, "acc1"): dict(zip(MODELS, REFERENCE, strict=True)) for task in ("a", "b", "s/de", "s/fr")}
    of_set = [
        record("mine", f"s/{code}", metrics={"acc1": estimate(0.9, 0.01)}, protocol={"language": code})
        for code in ("de", "fr")
    ]
    (found,) = standings([of("a", 0.31), of("b", 0.33), *of_set], among=table)
    assert [task.record.task for task in found.tasks] == ["a", "b", "s/de", "s/fr"]
    assert found.mean_value == pytest.approx(32)
    assert found.neighbours[0].spec == "M0:t"
    (alone,) = standings(of_set, among=table)
    assert alone.mean_value == pytest.approx(90)


def test_a_published_model_is_not_its_own_neighbour() -> None:
    records = [record("M4:t", "imagenet1k", metrics={"acc1": estimate(0.5)})]
    (found,) = standings(records, among=among())
    assert "M4:t" not in [one.spec for one in found.neighbours]
    assert len(found.tasks[0].others) == 10


def test_what_cannot_be_placed_says_why() -> None:
    few = {("cars", "acc1"): dict.fromkeys(MODELS[: MIN_MODELS - 1], 0.5)}
    limited = of("imagenet1k", 0.5).model_copy(update={"signature": record(protocol={"limit": 100}).signature})
    records = [limited, of("imagenetv2", 0.4), of("emoji", 0.4), of("cars", 0.4)]
    (found,) = standings(records, among={**among(), **few})
    assert found.left_out == (
        "imagenet1k: limited to 100 samples",
        "emoji: acc1 is not published",
        "cars: 9 published models, 10 are the fewest that tell",
    )
    assert found.robustness == ()
    with pytest.raises(UsageError, match="nothing to place: emoji: acc1 is not published; wanted tasks with"):
        standings([of("emoji", 0.4)], among=among())
    with pytest.raises(UnknownNameError, match="measured model: unknown 'other'"):
        standings([of("imagenet1k", 0.4)], ["other"], among=among())


def test_one_number_of_several_sources_and_costs() -> None:
    """open_clip's table comes first; the cost of ViT-B-32 is that of its profile."""
    assert pool()["imagenet1k", "acc1"]["ViT-B-32:openai"] == pytest.approx(0.6332, abs=2e-3)
    assert standing._cost("ViT-B-32:openai") == (151_280_000, 14.78)


def test_command(command: Command, tmp_path: Path) -> None:
    for task, n in (("imagenet1k", 300), ("imagenetv2", 275)):
        classified(tmp_path, "mine", right(n, 500), task)
    text = command("compare", tmp_path, "--published").out
    assert "effective robustness, imagenetv2: " in text
    assert "nearest published: " in text
    (found,) = json.loads(command("compare", tmp_path, "--published", "--json").out)
    assert found["tasks"][0]["value"] == pytest.approx(60)
    assert len(read(tmp_path)) == 2
