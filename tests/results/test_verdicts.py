"""Verdicts as JUnit XML, valid by the common schema, and as Markdown."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import xmlschema

from cocabench.core.types import Status, Verdict
from cocabench.results.gate import Rules, gate
from cocabench.results.verdicts import to_junit, to_markdown
from tests.report.records import estimate, record

SCHEMA = Path(__file__).with_name("junit-10.xsd")
"""Jenkins' schema (xunit-plugin; MIT, as it says itself), which pytest tests its own files with."""


def sharp(model: str, task: str, value: float = 0.5, **fields: object) -> object:
    return record(model, task, {"acc1": estimate(value, 0.0002)}, **fields)


def every_status() -> list[Verdict]:
    codes = {Status.REGRESSED: 1, Status.MISSING: 1, Status.INCOMPARABLE: 2}
    return [Verdict("t", "m", f"metric{i}", s, exit_code=codes.get(s, 0), detail="why") for i, s in enumerate(Status)]


def test_junit_is_valid_by_the_schema() -> None:
    schema = xmlschema.XMLSchema(SCHEMA)
    schema.validate(to_junit(every_status()))
    schema.validate(to_junit([]))
    assert not schema.is_valid("<testsuites><testcase/></testsuites>")


def test_junit_counts_and_escapes() -> None:
    before = [sharp("a|<b>", "t1"), sharp("a|<b>", "t2"), sharp("c", "t1")]
    after = [
        sharp("a|<b>", "t1", 0.4),
        sharp("a|<b>", "t2", protocol={"data": {"images": "\x1b[0m"}}),
        sharp("c", "t1"),
    ]
    text = to_junit(gate(before, after, Rules()))
    xmlschema.validate(text, SCHEMA)
    root = ElementTree.fromstring(text)
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    assert [suite.get("name") for suite in root] == ["a|<b>", "c"]
    failure = root.find(".//failure")
    assert failure is not None
    message = failure.get("message") or ""
    assert message.startswith(
        "regressed: 50.0 ± 0.1 (n=1000) → 40.0 ± 0.1 (n=1000): −10.0 ± 0.1, tolerance 0.2; p<0.001"
    )


def test_junit_skips_cannot_tell_unless_a_rule_fails_it() -> None:
    verdicts = gate([record()], [record()], Rules())
    assert "<skipped" in to_junit(verdicts)
    strict = gate([record()], [record()], Rules.model_validate({"defaults": {"cannot_tell": 1}}))
    assert "<failure" in to_junit(strict)


def test_markdown_lists_failures_first() -> None:
    before, after = [sharp("a", "t"), sharp("b|c", "t")], [sharp("a", "t"), sharp("b|c", "t", 0.4)]
    lines = to_markdown(gate(before, after, Rules())).splitlines()
    assert lines[0] == "**Gate failed: 1 regressed, 1 pass.**"
    assert lines[4].startswith(r"| **regressed** | t | b\|c | acc1 | 50.0 ± 0.1 (n=1000) → 40.0 ± 0.1 (n=1000) | −10.0")
    assert "Holm-corrected for 2 checked metrics" in lines[-1]
    assert "Unpaired: no samples of a on t; 1 more." in lines[-1]


def test_the_judged_model_is_named_against_the_baseline_s() -> None:
    (renamed,) = gate([sharp("old", "t")], [sharp("new", "t", 0.4)], Rules())
    assert (renamed.model, renamed.against, renamed.judged) == ("new", "old", "new against old")
    assert 'testsuite name="new against old"' in to_junit([renamed])
    assert "| new against old |" in to_markdown([renamed])
    (same,) = gate([sharp("m", "t")], [sharp("m", "t", 0.4)], Rules())
    assert same.judged == "m"
    (missing,) = gate([sharp("old", "t")], [], Rules())
    assert missing.judged == "old"
