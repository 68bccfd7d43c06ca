"""Verdicts of the gate, with and without samples, and its rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cocabench.core.errors import SpecError
from cocabench.core.types import Estimate, Record, Status, Verdict
from cocabench.results.gate import Limits, Rules, gate, read_rules, status_of
from cocabench.results.records import read
from cocabench.results.verdicts import difference_text, exit_code
from tests.report.records import estimate, record
from tests.samples import classified, right

SHARP = 0.0002
"""Half an interval so narrow that the test rejects whatever exceeds the tolerance."""


def only(baseline: Record, current: list[Record], **rules: object) -> Verdict:
    (verdict,) = gate([baseline], current, Rules.model_validate(rules))
    return verdict


def sharp(value: float | None, metric: str = "acc1") -> dict[str, Estimate]:
    return {metric: estimate(value, SHARP)}


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (0.500, Status.PASS),
        (0.498, Status.PASS),  # exactly the tolerance of 0.2 points
        (0.497, Status.REGRESSED),
        (0.502, Status.PASS),
        (0.503, Status.IMPROVED),
        (None, Status.MISSING),
        (float("nan"), Status.MISSING),
    ],
)
def test_gate_compares_fractions_in_points(now: float | None, status: Status) -> None:
    assert only(record(metrics=sharp(0.5)), [record(metrics=sharp(now))]).status is status


@pytest.mark.parametrize(
    ("gain", "p_drop", "p_gain", "detectable", "status"),
    [
        (-1.0, 0.01, 0.99, 0.1, Status.REGRESSED),
        (-1.0, 0.05, 0.99, 0.1, Status.REGRESSED),  # at alpha the test rejects
        (-1.0, 0.06, 0.99, 5.0, Status.WITHIN_NOISE),
        (-0.2, 0.01, 0.99, 0.1, Status.PASS),  # certain, but within the tolerance
        (-0.2, 0.40, 0.60, 0.3, Status.CANNOT_TELL),
        (-0.2, 0.40, 0.60, 0.2, Status.PASS),
        (1.0, 0.99, 0.01, 0.1, Status.IMPROVED),
        (1.0, 0.90, 0.10, 5.0, Status.CANNOT_TELL),
        (-1.0, None, None, None, Status.CANNOT_TELL),  # nothing to test with
    ],
)
def test_status_follows_from_difference_and_p_values(
    gain: float, p_drop: float | None, p_gain: float | None, detectable: float | None, status: Status
) -> None:
    limits = Limits(tolerance=0.2, confidence=0.95, required=True, cannot_tell=0)
    assert status_of(gain, limits, p_drop=p_drop, p_gain=p_gain, detectable=detectable) is status


def test_gate_has_a_direction() -> None:
    good, bad = record(metrics=sharp(0.6)), record(metrics=sharp(0.5))
    assert only(good, [bad]).status is Status.REGRESSED
    assert only(bad, [good]).status is Status.IMPROVED


@pytest.mark.parametrize(("now", "status"), [(5.0, Status.REGRESSED), (2.0, Status.IMPROVED), (3.1, Status.PASS)])
def test_gate_takes_higher_ranks_as_worse(now: float, status: Status) -> None:
    before, after = (record(metrics={"t2i_median_rank": estimate(v, 0.05)}) for v in (3.0, now))
    assert only(before, [after]).status is status


def test_gate_compares_cider_in_points() -> None:
    before, after = (record(metrics=sharp(v, "CIDEr")) for v in (1.253, 1.240))
    assert only(before, [after], defaults={"tolerance": 1.0}).status is Status.REGRESSED
    assert only(before, [after], defaults={"tolerance": 1.5}).status is Status.PASS


def test_gate_rejects_a_drop_paired_that_is_noise_unpaired(tmp_path: Path) -> None:
    """10 of 500 images lost and none gained: certain on the same images, nothing between two independent samples."""
    old, new = tmp_path / "old", tmp_path / "new"
    classified(old, "m", right(300, 500))
    classified(new, "m", right(290, 500))
    (verdict,) = gate(read(old), read(new), Rules())
    assert (verdict.status, verdict.unpaired, verdict.exit_code) == (Status.REGRESSED, "", 1)
    assert verdict.p_value == pytest.approx(2**-10)
    assert verdict.difference == pytest.approx(-2.0)
    (alone,) = gate(read(old).records, read(new).records, Rules())
    assert (alone.status, alone.exit_code) == (Status.WITHIN_NOISE, 0)
    assert "no samples" in alone.unpaired


def test_gate_interval_is_now_minus_baseline(tmp_path: Path) -> None:
    classified(tmp_path / "old", "m", right(300, 500))
    classified(tmp_path / "new", "m", right(290, 500))
    (verdict,) = gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules())
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low < verdict.difference < verdict.high < 0  # type: ignore[operator]


def test_gate_passes_if_no_outcome_changed(tmp_path: Path) -> None:
    classified(tmp_path / "old", "m", right(6, 10))
    classified(tmp_path / "new", "m", right(6, 10))
    (verdict,) = gate(read(tmp_path / "old"), read(tmp_path / "new"), Rules())
    assert verdict.status is Status.PASS
    assert verdict.detectable is not None
    assert verdict.detectable > 20


def test_cannot_tell_exits_with_the_rules_code(tmp_path: Path) -> None:
    swapped = np.roll(right(6, 10), 1)  # one gained, one lost
    classified(tmp_path / "old", "m", right(6, 10))
    classified(tmp_path / "new", "m", swapped)
    sides = read(tmp_path / "old"), read(tmp_path / "new")
    for code in (0, 1, 2):
        (verdict,) = gate(*sides, Rules.model_validate({"defaults": {"cannot_tell": code}}))
        assert (verdict.status, exit_code([verdict])) == (Status.CANNOT_TELL, code)


def test_gate_corrects_p_values_for_all_metrics(tmp_path: Path) -> None:
    """p = 2^-5 = 0.031 alone is below 0.05, and not as one of three."""
    for task in ("t1", "t2", "t3"):
        classified(tmp_path / "old", "m", right(50, 100), task)
        classified(tmp_path / "new", "m", right(45 if task == "t1" else 50, 100), task)
    sides = read(tmp_path / "old"), read(tmp_path / "new")
    first, *others = gate(*sides, Rules())
    assert first.status is Status.WITHIN_NOISE
    assert first.p_value == pytest.approx(3 * 2**-5)
    assert {v.status for v in others} == {Status.PASS}
    (alone,) = gate([r for r in sides[0] if r.task == "t1"], [r for r in sides[1] if r.task == "t1"], Rules())
    assert alone.family == 1


def test_gate_with_lower_confidence_rejects_more(tmp_path: Path) -> None:
    classified(tmp_path / "old", "m", right(50, 100))
    classified(tmp_path / "new", "m", right(46, 100))  # p = 2^-4
    sides = read(tmp_path / "old"), read(tmp_path / "new")
    assert gate(*sides, Rules())[0].status is Status.WITHIN_NOISE
    assert gate(*sides, Rules.model_validate({"defaults": {"confidence": 0.9}}))[0].status is Status.REGRESSED


def test_missing_numbers_fail_with_the_reason() -> None:
    before = record()
    skipped = record(metrics={"acc5": estimate(0.5)}, skipped_metrics={"acc1": "no Java"})
    details = {
        "no result of this model and task in the current run": [record("other"), record("another")],
        "skipped: no Java": [skipped],
        "undefined in the current run (n=0)": [record(metrics=None)],
    }
    for detail, current in details.items():
        (verdict,) = gate([before], current, Rules())
        assert (verdict.status, verdict.detail, verdict.exit_code) == (Status.MISSING, detail, 1)
    assert only(record(metrics=None), [record()]).exit_code == 1  # a baseline of nothing protects nothing


def test_missing_numbers_pass_if_not_required() -> None:
    verdict = only(record(), [], rule=[{"task": "imagenet*", "required": False}])
    assert (verdict.status, verdict.exit_code) == (Status.MISSING, 0)
    assert verdict.detail.endswith("; not required")


def test_gate_prefers_comparable_records_and_names_the_differing_part() -> None:
    other = record(metrics=sharp(0.5), protocol={"data": {"images": 8000}}, created="2026-01-01")
    verdict = only(record(metrics=sharp(0.5)), [other])
    assert (verdict.status, verdict.detail) == (Status.INCOMPARABLE, "data.images: 1000 against 8000")
    assert only(record(metrics=sharp(0.5)), [other, record(metrics=sharp(0.5))]).status is Status.PASS


def test_exit_code_is_1_for_failures_and_2_for_incomparable_or_nothing() -> None:
    good, other = record(), record(protocol={"data": {"images": 2}})
    assert exit_code(gate([good], [good], Rules())) == 0
    assert exit_code(gate([good], [other], Rules())) == 2
    assert exit_code(gate([good, record("b")], [other], Rules())) == 1
    assert exit_code([]) == 2


def test_gate_compares_single_models_whatever_their_names() -> None:
    before, after = record("run/epoch_1.pt", metrics=sharp(0.5)), record("run/epoch_2.pt", metrics=sharp(0.1))
    assert only(before, [after]).status is Status.REGRESSED


def test_gate_does_not_compare_other_skipped_images() -> None:
    after = record().model_copy(update={"skipped_images": ("x",)})
    verdict = only(record(), [after])
    assert verdict.status is Status.INCOMPARABLE
    assert "skipped images: 0 against 1" in verdict.detail


def test_baseline_without_its_primary_metric_is_missing() -> None:
    assert only(record(primary="acc9", metrics={}), [record()]).status is Status.MISSING


def test_gate_takes_intervals_without_width_as_exact() -> None:
    """A count has an interval without width: any drop beyond the tolerance is real."""
    exact = {v: record(metrics={"acc1": estimate(v, 0.0)}) for v in (0.5, 0.499, 0.4)}
    assert [only(exact[0.5], [exact[v]]).status for v in exact] == [Status.PASS, Status.PASS, Status.REGRESSED]


def test_costs_without_an_interval_pass_only_if_equal() -> None:
    """Differences of costs are printed with the decimals of the costs."""
    mib = record().definitions["acc1"].model_copy(update={"unit": "mib", "higher_is_better": False})
    made = {v: record(metrics={"acc1": estimate(v, n=1)}, definitions={"acc1": mib}) for v in (0.0309, 0.05)}
    assert only(made[0.0309], [made[0.0309]], defaults={"tolerance": 0.0}).status is Status.PASS
    worse = only(made[0.0309], [made[0.05]], defaults={"tolerance": 0.01})
    assert (worse.status, difference_text(worse)) == (Status.CANNOT_TELL, "+0.0191")


COCA = "coca_ViT-L-14:laion2b_s13b_b90k"


@pytest.mark.parametrize(
    ("value", "status"),
    [(0.7561, Status.CANNOT_TELL), (0.7540, Status.WITHIN_NOISE), (0.74, Status.REGRESSED), (0.77, Status.IMPROVED)],
)
def test_published_baseline_is_unpaired_and_checks_measured_tasks(value: float, status: Status) -> None:
    """75.61 % of 50,000 images: an interval of ±0.38 points on each side."""
    ours = record(COCA, metrics={"acc1": estimate(value, 0.0038, n=50_000)})
    (verdict,) = gate(read(f"published:{COCA}"), [ours], Rules())
    assert (verdict.task, verdict.metric, verdict.status) == ("imagenet1k", "acc1", status)
    assert "without samples" in verdict.unpaired
    assert verdict.difference == pytest.approx(100 * (value - 0.7561), abs=0.01)


def test_published_number_of_other_counts_is_incomparable() -> None:
    ours = record(COCA, metrics={"acc1": estimate(0.75, 0.02, n=1000)}, protocol={"limit": 1000})
    (verdict,) = gate(read(f"published:{COCA}"), [ours], Rules())
    assert (verdict.status, verdict.exit_code) == (Status.INCOMPARABLE, 2)
    assert "limited to 1000 samples" in verdict.detail
    other = record(COCA, metrics={"acc1": estimate(0.75, 0.02, n=1000)})
    (verdict,) = gate(read(f"published:{COCA}"), [other], Rules())
    assert verdict.detail == "images: 50000 published, 1000 measured"


def test_published_task_that_a_rule_requires_is_missing() -> None:
    ours = record(COCA, metrics={"acc1": estimate(0.7561, 0.0038, n=50_000)})
    rules = Rules.model_validate({"rule": [{"task": "flickr30k", "required": True}]})
    verdicts = gate(read(f"published:{COCA}"), [ours], rules)
    assert [v.task for v in verdicts if v.status is Status.MISSING] == ["flickr30k"]


CHECKOUT = Path(__file__).parents[2]


def test_later_rules_override_earlier_ones_key_by_key() -> None:
    before = record(task="emoji_food", metrics={"acc1": estimate(0.5, 0.0002), "acc5": estimate(0.8, 0.0002)})
    after = record(task="emoji_food", metrics={"acc1": estimate(0.49, 0.0002), "acc5": estimate(0.79, 0.0002)})
    table = [{"task": "emoji_*", "tolerance": 2.0}, {"metric": "acc*"}, {"metric": "acc5", "tolerance": 0.5}]
    verdicts = gate([before], [after], Rules.model_validate({"rule": table}))
    assert [(v.metric, v.status, v.tolerance) for v in verdicts] == [
        ("acc1", Status.PASS, 2.0),
        ("acc5", Status.REGRESSED, 0.5),
    ]


def test_rules_override_every_default() -> None:
    message = {"tolerance": 3.0, "confidence": 0.9, "required": False, "cannot_tell": 2}
    assert Rules.model_validate({"rule": [message]}).limits(record(), "acc1") == Limits(**message)
    assert Rules().limits(record(), "acc1") == Limits()


def test_rule_patterns_skip_health_metrics() -> None:
    made = record(metrics={"acc1": estimate(0.5), "words": estimate(0.5)})
    health = made.definitions["words"].model_copy(update={"kind": "health"})
    made = made.model_copy(update={"definitions": {**made.definitions, "words": health}})
    every, named = (Rules.model_validate({"rule": [{"metric": metric}]}) for metric in ("*", "words"))
    assert every.limits(made, "words") is None
    assert named.limits(made, "words") is not None


def test_required_rule_without_a_match_is_missing() -> None:
    rules = Rules.model_validate({"rule": [{"task": "imagnet1k", "required": True}]})
    assert [v.status for v in gate([record()], [record()], rules)][1:] == [Status.MISSING]


def test_read_rules_reports_all_errors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(
        '[[rule]]\ntolerence = 1\n[[rule]]\ntolerance = -1\nrequired = "yes"\nconfidence = 95\ncannot_tell = 3\n'
    )
    with pytest.raises(SpecError) as caught:
        read_rules(path)
    assert len(caught.value.problems) == 5
    assert "rule.0.tolerence: unknown key; did you mean 'tolerance'?" in str(caught.value)
    with pytest.raises(SpecError, match="no such file"):
        read_rules(tmp_path / "none.toml")


def test_project_rules_are_valid_and_detect_a_drop() -> None:
    rules = read_rules(CHECKOUT / "results" / "gates.toml")
    before, after = (record("demo/coca", "emoji_food", {"acc1": estimate(value, 0.001)}) for value in (0.5, 0.48))
    assert gate([before], [after], rules)[0].status is Status.REGRESSED
