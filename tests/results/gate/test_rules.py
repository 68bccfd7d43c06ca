"""Rules files: later rules win, and everything that is wrong is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.core.errors import SpecError
from cocabench.core.types import Status
from cocabench.results.gate import Rules, gate, read_rules
from tests.report.records import estimate, record

CHECKOUT = Path(__file__).parents[3]


def test_later_rules_win_key_by_key_and_add_metrics() -> None:
    before = record(task="emoji_food", metrics={"acc1": estimate(0.5, 0.0002), "acc5": estimate(0.8, 0.0002)})
    after = record(task="emoji_food", metrics={"acc1": estimate(0.49, 0.0002), "acc5": estimate(0.79, 0.0002)})
    table = [{"task": "emoji_*", "tolerance": 2.0}, {"metric": "acc*"}, {"metric": "acc5", "tolerance": 0.5}]
    verdicts = gate([before], [after], Rules.model_validate({"rule": table}))
    assert [(v.metric, v.status, v.tolerance) for v in verdicts] == [
        ("acc1", Status.PASS, 2.0),
        ("acc5", Status.REGRESSED, 0.5),
    ]


def test_every_key_of_a_rule_overrides_its_default() -> None:
    said = {"tolerance": 3.0, "confidence": 0.9, "required": False, "cannot_tell": 2}
    assert Rules.model_validate({"rule": [said]}).limits(record(), "acc1") == tuple(said.values())
    assert Rules().limits(record(), "acc1") == (0.2, 0.95, True, 0)


def test_a_pattern_is_not_about_metrics_of_health() -> None:
    made = record(metrics={"acc1": estimate(0.5), "words": estimate(0.5)})
    health = made.definitions["words"].model_copy(update={"kind": "health"})
    made = made.model_copy(update={"definitions": {**made.definitions, "words": health}})
    every, named = (Rules.model_validate({"rule": [{"metric": metric}]}) for metric in ("*", "words"))
    assert every.limits(made, "words") is None
    assert named.limits(made, "words") is not None


def test_a_required_rule_that_matches_nothing_is_missing() -> None:
    rules = Rules.model_validate({"rule": [{"task": "imagnet1k", "required": True}]})
    assert [v.status for v in gate([record()], [record()], rules)][1:] == [Status.MISSING]


def test_all_errors_of_a_rules_file_at_once(tmp_path: Path) -> None:
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


def test_the_projects_own_rules_are_valid_and_bite() -> None:
    rules = read_rules(CHECKOUT / "results" / "gates.toml")
    before, after = (record("demo/coca", "emoji_food", {"acc1": estimate(value, 0.001)}) for value in (0.5, 0.48))
    assert gate([before], [after], rules)[0].status is Status.REGRESSED
