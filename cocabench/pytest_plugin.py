"""A pytest plugin that runs the gate. Installed with cocabench; it does nothing unless used.

One test for the whole gate:

    def test_no_regression(cocabench_gate):
        cocabench_gate("baselines", "results", rules="gates.toml")

or one test per checked metric, if the results exist when tests are collected:

    @pytest.mark.cocabench_gate(baseline="baselines", current="results", rules="gates.toml")
    def test_metric(cocabench_verdict):
        assert cocabench_verdict.difference > -2

Paths are relative to pytest's root folder. Defaults come from ``--cocabench-baseline``, ``--cocabench-current`` and
``--cocabench-rules``, or from ``cocabench_baseline`` … in pytest's configuration.
A test fails if the gate fails. If the gate cannot tell, and no rule makes that a failure, the metric's test is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cocabench.core.types import Verdict

OPTIONS = {
    "baseline": "Baseline results: a folder, or published:NAME:TAG.",
    "current": "Current results: a folder.",
    "rules": "Rules file (TOML) with tolerances.",
}
MARKER = "cocabench_gate"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cocabench")
    for name, words in OPTIONS.items():
        group.addoption(f"--cocabench-{name}", default=None, help=words)
        parser.addini(f"cocabench_{name}", words, default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(baseline, current, rules): a test per metric that the gate checks")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that use cocabench_verdict with a test per Verdict."""
    if "cocabench_verdict" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker(MARKER)
    verdicts = _verdicts(metafunc.config, marker.args if marker else (), marker.kwargs if marker else {})
    names = [f"{v.model}-{v.task}-{v.metric}" for v in verdicts]
    metafunc.parametrize("cocabench_verdict", verdicts, ids=names, indirect=True)


@pytest.fixture
def cocabench_verdict(request: pytest.FixtureRequest) -> Verdict:
    """Return the Verdict of one checked metric. The test fails or is skipped if the metric does not pass the gate."""
    verdict: Verdict = request.param
    return verdict


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Check the verdict before the test's body runs, so that it is reported as a failure, not as a fixture error."""
    if verdict := getattr(item, "funcargs", {}).get("cocabench_verdict"):
        _check(verdict)


def _check(verdict: Verdict) -> None:
    from cocabench.core.types import Status
    from cocabench.results.verdicts import sentence

    message = f"{verdict.judged} on {verdict.task}, {verdict.metric}: {verdict.status}: {sentence(verdict)}"
    if verdict.exit_code:
        pytest.fail(message, pytrace=False)
    if verdict.status in (Status.CANNOT_TELL, Status.MISSING):
        pytest.skip(message)


@pytest.fixture
def cocabench_gate(request: pytest.FixtureRequest) -> Callable[..., list[Verdict]]:
    """Return a function of baseline, current and rules that returns the Verdicts, or fails the test with the gate."""
    from cocabench.results.verdicts import exit_code, headline, sentence, sorted_for_reading

    def judge(*paths: str | Path, **named: str | Path) -> list[Verdict]:
        verdicts = _verdicts(request.config, paths, named)
        if exit_code(verdicts):
            lines = [
                f"  {v.status}: {v.judged} on {v.task}, {v.metric}: {sentence(v)}"
                for v in sorted_for_reading(verdicts)
                if v.exit_code
            ]
            pytest.fail("\n".join([headline(verdicts), *lines]), pytrace=False)
        return verdicts

    return judge


def _verdicts(config: pytest.Config, paths: Sequence[object], named: Mapping[str, object]) -> list[Verdict]:
    """Run the gate; pytest.UsageError if a path is missing or cannot be read."""
    from cocabench.core.errors import CocabenchError
    from cocabench.results.gate import Rules, gate, read_rules
    from cocabench.results.records import PUBLISHED, read

    if unknown := sorted(set(named) - set(OPTIONS)):
        raise pytest.UsageError(f"{MARKER}: unknown {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
    given = {**dict(zip(OPTIONS, paths, strict=False)), **named}
    chosen = {name: str(given.get(name) or _configured(config, name)) for name in OPTIONS}
    if missing := [name for name in ("baseline", "current") if not chosen[name]]:
        raise pytest.UsageError(f"{MARKER}: no {' and no '.join(missing)}; name it, or set --cocabench-{missing[0]}")

    def located(path: str) -> str:
        return path if path.startswith(PUBLISHED) else str(config.rootpath / path)

    try:
        rules = read_rules(Path(located(chosen["rules"]))) if chosen["rules"] else Rules()
        return gate(read(located(chosen["baseline"])), read(located(chosen["current"])), rules)
    except CocabenchError as error:
        raise pytest.UsageError(f"{MARKER}: {error}") from None


def _configured(config: pytest.Config, name: str) -> str:
    return str(config.getoption(f"--cocabench-{name}") or config.getini(f"cocabench_{name}"))
