"""Which of many models a task's samples are looked at for: the best, the one most unlike it, the worst, and others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from cocabench.core.types import Record
from cocabench.report.content import Report
from cocabench.report.gallery import outcomes
from cocabench.results.compare import Row

FEW = 4
"""Models up to which all are looked at in the report's own order."""

BEST, WORST, UNLIKE = "best", "worst", "most unlike the best"


def roles(report: Report, row: Row, records: Mapping[str, Record]) -> dict[str, str]:
    """Return what some of the models with samples are on a task, from three models on: {model: best}.

    Most unlike the best is the one that does better than the best on most samples.
    """
    ranked = [model for model in _ranked(report, row, records) if _value(report, row, model) > -math.inf]
    if len(ranked) < 3:
        return {}
    best, *between, worst = ranked
    samples = report.evidence.samples(records[best])
    better = {model: _better(report.evidence.samples(records[model]), samples) for model in between}
    unlike = max(between, key=lambda model: better[model])
    return {best: BEST, **({unlike: UNLIKE} if better[unlike] else {}), worst: WORST}


def order(report: Report, row: Row, found: Mapping[str, str], records: Mapping[str, Record]) -> list[str]:
    """Return the models with samples, those to look at first; found: their roles.

    Those of few models, and of a report with a baseline, begin with its pair.
    """
    few = len(report.models) <= FEW
    first = report.pair if few or report.baseline else ()
    rest = report.models if few else (*found, *report.pair, *_ranked(report, row, records))
    return [model for model in dict.fromkeys((*first, *rest)) if model in records]


def _ranked(report: Report, row: Row, records: Iterable[str]) -> list[str]:
    return sorted(records, key=lambda model: -_value(report, row, model))


def _value(report: Report, row: Row, model: str) -> float:
    """Return a model's number on a task, more is better; -inf where it has none."""
    estimate = row.cells[report.models.index(model)].estimate
    if estimate is None or estimate.value is None:
        return -math.inf
    return estimate.value if row.info.higher_is_better else -estimate.value


def _better(one: pd.DataFrame, best: pd.DataFrame) -> float:
    """Return the share of samples on which one does better than the best; 0 where they are not the same samples."""
    if not np.array_equal(one["id"], best["id"]):
        return 0.0
    mine, theirs = outcomes(one), outcomes(best)
    return float(np.mean(mine > theirs)) if len(mine) == len(theirs) > 0 else 0.0
