"""gate: a worse run fails, a missing number fails, and the rules say what is checked."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from cocabench.errors import SpecError
from cocabench.gate import Rules, exit_code, gate, read_rules, to_junit, to_markdown
from cocabench.types import Record, Status
from tests.report.records import estimate, record

CHECKOUT = Path(__file__).parents[1]


def only(baseline: Record, current: list[Record], **rules: object) -> Status:
    (verdict,) = gate([baseline], current, Rules.model_validate(rules))
    return verdict.status


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
def test_fractions_in_points(now: float | None, status: Status) -> None:
    current = estimate(None) if now is None else estimate(now)
    assert only(record(metrics=0.5), [record(metrics={"acc1": current})]) is status


def test_swapped_inputs_differ() -> None:
    good, bad = record(metrics=0.6), record(metrics=0.5)
    assert only(good, [bad]) is Status.REGRESSED
    assert only(bad, [good]) is Status.IMPROVED


@pytest.mark.parametrize(("now", "status"), [(5.0, Status.REGRESSED), (2.0, Status.IMPROVED), (3.1, Status.PASS)])
def test_a_higher_rank_is_worse(now: float, status: Status) -> None:
    before, after = (record(metrics={"t2i_median_rank": estimate(v)}) for v in (3.0, now))
    assert only(before, [after]) is status


def test_cider_is_in_points_too() -> None:
    before, after = (record(metrics={"CIDEr": estimate(v)}) for v in (1.253, 1.240))
    assert only(before, [after], defaults={"tolerance": 1.0}) is Status.REGRESSED
    assert only(before, [after], defaults={"tolerance": 1.5}) is Status.PASS


def test_missing_is_missing_for_each_reason() -> None:
    before = record()
    skipped = record(metrics={"acc5": estimate(0.5)}, skipped_metrics={"acc1": "no Java"})
    details = {
        "no current Record of this model and task": [record("other"), record("another")],
        "skipped: no Java": [skipped],
        "undefined now (n=0)": [record(metrics=None)],
    }
    for detail, current in details.items():
        (verdict,) = gate([before], current, Rules())
        assert (verdict.status, verdict.detail) == (Status.MISSING, detail)
    assert only(record(metrics=None), [record()]) is Status.MISSING  # a baseline of nothing protects nothing


def test_what_is_not_required_may_be_absent() -> None:
    rules = {"rule": [{"task": "imagenet*", "required": False}]}
    assert only(record(), [], **rules) is Status.PASS


def test_another_protocol_is_incomparable_unless_a_like_record_is_there() -> None:
    other = record(protocol={"data": {"images": 8000}}, created="2026-01-01")
    assert only(record(), [other]) is Status.INCOMPARABLE
    assert only(record(), [other, record()]) is Status.PASS


def test_later_rules_win_key_by_key_and_add_metrics() -> None:
    before = record(task="emoji_food", metrics={"acc1": estimate(0.5), "acc5": estimate(0.8)})
    after = record(task="emoji_food", metrics={"acc1": estimate(0.49), "acc5": estimate(0.79)})
    table = [{"task": "emoji_*", "tolerance": 2.0}, {"metric": "acc*"}, {"metric": "acc5", "tolerance": 0.5}]
    verdicts = gate([before], [after], Rules.model_validate({"rule": table}))
    assert [(v.metric, v.status, v.tolerance) for v in verdicts] == [
        ("acc1", Status.PASS, 2.0),
        ("acc5", Status.REGRESSED, 0.5),
    ]


def test_a_required_rule_that_matches_nothing_is_missing() -> None:
    rules = Rules.model_validate({"rule": [{"task": "imagnet1k", "required": True}]})
    assert [v.status for v in gate([record()], [record()], rules)] == [Status.PASS, Status.MISSING]


def test_exit_codes() -> None:
    good, other = record(), record(protocol={"data": 2})
    assert exit_code(gate([good], [good], Rules())) == 0
    assert exit_code(gate([good], [other], Rules())) == 2
    assert exit_code(gate([good, record("b")], [other], Rules())) == 1
    assert exit_code([]) == 2


def test_all_errors_of_a_rules_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text('[[rule]]\ntolerence = 1\n[[rule]]\ntolerance = -1\nrequired = "yes"\n')
    with pytest.raises(SpecError) as caught:
        read_rules(path)
    assert len(caught.value.problems) == 3
    assert "rule.0.tolerence: unknown key; did you mean 'tolerance'?" in str(caught.value)
    with pytest.raises(SpecError, match="no such file"):
        read_rules(tmp_path / "none.toml")


def test_the_projects_own_rules_are_valid_and_bite() -> None:
    rules = read_rules(CHECKOUT / "results" / "gates.toml")
    before, after = (record("demo/coca", "emoji_food", value) for value in (0.5, 0.48))
    assert gate([before], [after], rules)[0].status is Status.REGRESSED


def test_junit_counts_and_escapes() -> None:
    before = [record("a|<b>", "t1"), record("a|<b>", "t2"), record("c", "t1")]
    after = [record("a|<b>", "t1", 0.4), record("a|<b>", "t2", protocol={"data": "\x1b[0m"}), record("c", "t1")]
    root = ElementTree.fromstring(to_junit(gate(before, after, Rules())))
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    assert [suite.get("name") for suite in root] == ["a|<b>", "c"]
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "regressed: 50.0 (n=1000) → 40.0 (n=1000): −10.0, tolerance 0.2"


def test_markdown_puts_what_failed_first() -> None:
    before, after = [record("a"), record("b|c")], [record("a"), record("b|c", metrics=0.4)]
    lines = to_markdown(gate(before, after, Rules())).splitlines()
    assert lines[0] == "**Gate failed: 1 regressed, 1 pass.**"
    assert lines[4].startswith(r"| **regressed** | imagenet1k | b\|c | acc1 | 50.0 (n=1000) → 40.0 (n=1000) | −10.0")


def test_one_model_on_each_side_is_compared_whatever_it_is_called() -> None:
    before, after = record("run/epoch_1.pt"), record("run/epoch_2.pt", metrics={"acc1": estimate(0.1)})
    (verdict,) = gate([before], [after], Rules())
    assert verdict.status is Status.REGRESSED


def test_other_skipped_images_are_not_comparable() -> None:
    after = record().model_copy(update={"skipped_images": ("x",)})
    (verdict,) = gate([record()], [after], Rules())
    assert verdict.status is Status.INCOMPARABLE
    assert "skipped images: 0 against 1" in verdict.detail


def test_a_baseline_without_its_primary_metric_does_not_pass_in_silence() -> None:
    (verdict,) = gate([record(primary="acc9", metrics={})], [record()], Rules())
    assert verdict.status is Status.MISSING
