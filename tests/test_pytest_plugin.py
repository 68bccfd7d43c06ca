"""The gate in pytest: the fixture, the marker with a test per metric, and where the paths come from."""

from __future__ import annotations

from importlib import metadata

import pandas.core.arrays.arrow.extension_types  # noqa: F401 — pytester forgets imports, pyarrow does not
import pytest

import cocabench.results.gate  # noqa: F401 — likewise
from tests.samples import classified, right

pytest_plugins = ["pytester"]

WHOLE = """
    def test_no_regression(cocabench_gate):
        assert len(cocabench_gate("baselines", "results")) == 2
"""
EACH = """
    import pytest

    @pytest.mark.cocabench_gate(baseline="baselines", current="results"{rules})
    def test_metric(cocabench_verdict):
        assert cocabench_verdict.metric == "acc1"
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a baseline of two tasks, and a run in which nothing changed."""
    for task in ("cars", "pets"):
        for folder in ("baselines", "results"):
            classified(pytester.path / folder, "m", right(60, 100), task)
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    return pytester


def worsen(project: pytest.Pytester, task: str = "pets") -> None:
    for path in (project.path / "results").rglob(f"{task}*"):
        path.unlink()
    classified(project.path / "results", "m", right(30, 100), task)


def test_the_plugin_is_installed_with_cocabench() -> None:
    assert "cocabench" in [point.name for point in metadata.entry_points(group="pytest11")]


def test_the_fixture_passes_and_fails_with_the_gate(project: pytest.Pytester) -> None:
    project.makepyfile(WHOLE)
    project.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
    worsen(project)
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["Gate failed: 1 regressed, 1 pass.", "  regressed: m on pets, acc1: 60.0*30.0*"])


def test_the_marker_makes_a_test_per_metric(project: pytest.Pytester) -> None:
    project.makepyfile(EACH.format(rules=""))
    worsen(project)
    result = project.runpytest("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_metric?m-cars-acc1? PASSED*", "*test_metric?m-pets-acc1? FAILED*"])


def test_cannot_tell_is_skipped_or_fails_as_the_rule_sets(project: pytest.Pytester) -> None:
    for path in (project.path / "results").rglob("pets*.parquet"):
        path.unlink()
    project.makepyfile(EACH.format(rules=""))
    result = project.runpytest("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*m on pets, acc1: cannot tell: 60.0*"])
    (project.path / "strict.toml").write_text("[defaults]\ncannot_tell = 1\n")
    project.makepyfile(EACH.format(rules=', rules="strict.toml"'))
    project.runpytest().assert_outcomes(passed=1, failed=1)


def test_paths_come_from_the_command_line_or_the_configuration(project: pytest.Pytester) -> None:
    project.makepyfile("def test_it(cocabench_gate):\n    cocabench_gate()\n")
    project.runpytest("--cocabench-baseline=baselines", "--cocabench-current=results").assert_outcomes(passed=1)
    project.makeini("[pytest]\ncocabench_baseline = baselines\ncocabench_current = results\n")
    project.runpytest().assert_outcomes(passed=1)


def test_missing_arguments_are_one_line_errors(project: pytest.Pytester) -> None:
    project.makepyfile(test_a="def test_it(cocabench_gate):\n    cocabench_gate()\n")
    project.runpytest().stdout.fnmatch_lines(["*cocabench_gate: no baseline and no current; name it, or set --*"])
    project.makepyfile(test_a=EACH.format(rules="").replace('"results"', '"nowhere"'))
    result = project.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*nowhere: no such file or folder*"])


def test_the_judged_model_is_named_where_the_baseline_has_another(project: pytest.Pytester) -> None:
    for path in (project.path / "results").rglob("*.json"):
        path.unlink()
    for task in ("cars", "pets"):
        classified(project.path / "results", "new", right(30, 100), task)
    project.makepyfile(EACH.format(rules=""))
    result = project.runpytest("-v")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*test_metric?new-cars-acc1? FAILED*", "*new against m on cars, acc1: regressed: 60.0*"]
    )
