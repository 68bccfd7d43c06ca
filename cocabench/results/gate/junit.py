"""Verdicts as JUnit XML, for CI systems that show tests."""

from __future__ import annotations

from collections.abc import Sequence

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from cocabench.core.types import Status, Verdict
from cocabench.results.gate.words import sentence


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """Return JUnit XML: a suite per model, a case per task and metric.

    Exit code 1 is a failure, 2 an error; cannot tell, and missing where it is not required, count as skipped.
    """
    document = JUnitXml("cocabench gate")
    for model in dict.fromkeys(v.model for v in verdicts):
        suite = TestSuite(model)
        suite.add_testcases([_case(v) for v in verdicts if v.model == model])
        suite.update_statistics()  # type: ignore[no-untyped-call]
        document.add_testsuite(suite)
    document.tests = len(verdicts)
    document.failures, document.errors = (sum(v.exit_code == code for v in verdicts) for code in (1, 2))
    return str(document.tostring().decode())  # type: ignore[no-untyped-call]


def _case(verdict: Verdict) -> TestCase:
    case = TestCase(verdict.metric, classname=verdict.task, time=0)
    message = "".join(c if c.isprintable() else " " for c in f"{verdict.status}: {sentence(verdict)}")
    kind = {1: Failure, 2: Error}.get(verdict.exit_code)
    if kind is None and verdict.status in (Status.CANNOT_TELL, Status.MISSING):
        kind = Skipped
    if kind is None:
        case.system_out = message
    else:
        case.result = [kind(message, type_=verdict.status.value)]
    return case
