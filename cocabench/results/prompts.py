"""Ablations of prompts: Records of one model and task that differ in their templates or class names only."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.formatting import number
from cocabench.core.signature import digest
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.results.difference import LEVEL, Difference, Evidence, Finding, difference, with_findings
from cocabench.results.records import incomparable, params_given, prompts_label
from cocabench.results.store import RecordSet

PARTS = ("prompts", "labels")
"""Parts of the protocol that templates and class names change."""

OWN = "the task's own"


@dataclass(frozen=True)
class PromptRow:
    """A measurement with some prompts. difference: from the first of the same model and task, None for that one.

    why: the reason for no difference. The difference is positive where the number is larger than the first's.
    """

    model: str
    task: str
    metric: str
    prompts: str
    info: MetricInfo
    estimate: Estimate
    difference: Difference | None = None
    why: str = ""

    @property
    def finding(self) -> str:
        """``▲ better (p=0.003)``, ``▼ worse …``, ``not significant (detects …)``, or why there is none."""
        gap = self.difference
        if gap is None or gap.finding is Finding.UNTESTED:
            return self.why or (gap.unpaired if gap else "")
        words = {Finding.FIRST: "better", Finding.SECOND: "worse"}
        return f"{gap.mark} {words[gap.finding]} ({gap.p})" if gap.significant else gap.verdict


def prompt_rows(results: RecordSet, models: Sequence[str] = ()) -> tuple[PromptRow, ...]:
    """Return a row per prompts of each model and task that was measured with several, the task's own prompts first.

    models: only these, in this order; UnknownNameError for one without results. Other prompts follow in the order in
    which they were measured. Findings of all rows are corrected together (Holm). UsageError where no task was measured
    with several prompts.
    """
    known = tuple(dict.fromkeys(record.model for record in results))
    for name in models:
        if name not in known:
            raise UnknownNameError("model", name, known)
    chosen = models or known
    groups = sorted(_groups(r for r in results if r.model in chosen), key=lambda group: chosen.index(group[0].model))
    if not groups:
        fix = "measure them: cocabench run … --templates A,B"
        raise UsageError("--prompts", "no task with several prompts", wanted="results that differ in them", fix=fix)
    evidence = Evidence(results)
    rows = [row for group in groups for row in _rows(group, evidence)]
    found = iter(with_findings([(row.difference, row.info) for row in rows if row.difference]))
    return tuple(replace(row, difference=next(found)) if row.difference else row for row in rows)


def several(records: Iterable[Record]) -> bool:
    """Return whether a model and task was measured with several prompts."""
    return bool(_groups(records))


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Return the Records that differ in prompts only, of each model and task the newest of the largest group."""
    alike: dict[tuple[str, str], dict[str, dict[str, Record]]] = {}
    for record in sorted(records, key=lambda record: record.created):
        protocol, model = record.signature.protocol, record.signature.model
        rest = {name: value for name, value in protocol.items() if name not in PARTS}
        same = alike.setdefault((record.model, record.task), {}).setdefault(digest(rest, model), {})
        if "prompts" in protocol:
            same[digest(*(protocol.get(name) for name in PARTS))] = record
    largest = [max(reversed(groups.values()), key=len) for groups in alike.values()]
    return [sorted(own.values(), key=_is_other) for own in largest if len(own) > 1]


def _is_other(record: Record) -> bool:
    return bool(prompts_label(params_given(record)))


def _rows(records: Sequence[Record], evidence: Evidence) -> list[PromptRow]:
    first, metric = records[0], records[0].primary
    rows = []
    for record, label in zip(records, _labels(records), strict=True):
        if metric not in record.metrics:
            continue
        info, estimate = record.definitions[metric], record.metrics[metric]
        row = PromptRow(record.model, record.task, metric, label, info, estimate)
        if record is not first and metric in first.metrics:
            reasons = incomparable(first, _with_prompts_of(first, record), metric)
            gap = None if reasons else difference(record, first, metric, info, evidence)
            row = replace(row, difference=gap, why="; ".join(reasons))
        rows.append(row)
    return rows


def _labels(records: Sequence[Record]) -> list[str]:
    """Return the names of prompts; unnamed ones after the first get digits of their hash."""
    named = [prompts_label(params_given(record)) for record in records]
    hashes = [str(record.signature.protocol["prompts"])[:6] for record in records]
    return [label or (OWN if i == 0 else f"prompts {hashes[i]}") for i, label in enumerate(named)]


def _with_prompts_of(first: Record, record: Record) -> Record:
    """Return a Record as if its prompts were those of the first, to find what else differs."""
    protocol = {name: value for name, value in record.signature.protocol.items() if name not in PARTS}
    protocol |= {name: value for name, value in first.signature.protocol.items() if name in PARTS}
    return record.model_copy(update={"signature": record.signature.model_copy(update={"protocol": protocol})})


HEADER = ("model", "task", "metric", "prompts", "value", "difference", "finding")


def cells(row: PromptRow) -> list[str]:
    """Return a row's cells below HEADER."""
    gap = str(row.difference) if row.difference else ""
    return [row.model, row.task, row.metric, row.prompts, number(row.estimate, row.info), gap, row.finding]


COLUMNS = (
    *("model", "task", "metric", "prompts", "value", "low", "high", "n"),
    *("difference", "difference_low", "difference_high", "p_value", "adjusted", "changed", "finding", "why"),
)


def lines(rows: Iterable[PromptRow]) -> list[dict[str, object]]:
    """Return rows as {column: value}: numbers on the metric's own scale, differences in points."""
    found: list[dict[str, object]] = []
    for row in rows:
        gap, own = row.difference or Difference(math.nan), row.estimate
        numbers = (gap.value, gap.low, gap.high, gap.p_value, gap.adjusted)
        tested = [None if x is None or math.isnan(x) else float(f"{x:.6g}") for x in numbers]
        values = (row.model, row.task, row.metric, row.prompts, own.value, own.low, own.high, own.n)
        finding = row.finding if row.difference else ""
        found.append(dict(zip(COLUMNS, (*values, *tested, gap.changed, finding, row.why), strict=True)))
    return found


def to_csv(rows: Iterable[PromptRow]) -> str:
    """Return the rows as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines(rows))
    return stream.getvalue()


def legend(rows: Sequence[PromptRow]) -> list[str]:
    """Return the sentences below a table."""
    said = ["Difference from the first prompts of the same model and task; ± is half the width of the 95 % interval."]
    if family := sum(row.difference is not None and row.difference.adjusted is not None for row in rows):
        holm = f", Holm-corrected for {family} differences" if family > 1 else ""
        said.append(f"Better: p < {LEVEL:g}, two-sided{holm}. The best of many prompts looks better than it is.")
    return said
