"""The images behind a difference: those on which the second model is worse than the first, and the reverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.core.errors import ResultsError, UnknownNameError
from cocabench.core.types import MetricInfo, Record
from cocabench.kinds import find
from cocabench.kinds.shown import Row, View, first_text
from cocabench.metrics.statistics import SAME, aligned
from cocabench.results.difference import Evidence
from cocabench.results.records import first_reasons, incomparable


@dataclass(frozen=True, slots=True)
class Change:
    """One image on which two models differ.

    first, second: the metric of that image alone, on the metric's own scale (of recall: the share of its captions that
    hit). truth: its label or first caption. answers: of both models, '' if the samples do not have them.
    """

    image_id: str
    first: float
    second: float
    truth: str = ""
    answers: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Changes:
    """The images on which two models differ by a metric, the largest changes first.

    worse, better: images on which the second model is. images: the number of all images.
    """

    task: str
    metric: str
    info: MetricInfo
    models: tuple[str, str]
    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    images: int


def changes(first: Record, second: Record, evidence: Evidence, *, metric: str = "") -> Changes:
    """Return the images on which two Records of one task differ; metric is by default the task's primary one.

    ResultsError if the Records cannot be compared or have no samples, or the metric has no value per image.
    """
    name, where = metric or first.primary, f"{first.model} and {second.model} on {first.task}"
    for record in (first, second):
        if name not in record.metrics:
            raise UnknownNameError(f"metric of {record.model} on {record.task}", name, record.metrics)
    if reasons := incomparable(first, second, name):
        raise ResultsError(where, f"not comparable: {first_reasons(reasons)}")
    declared, info = evidence.declared(first, name), first.definitions[name]
    one, other = aligned(declared, evidence.rows(first), evidence.rows(second))
    values = declared.statistic.per_image(one), declared.statistic.per_image(other)
    if values[0] is None or values[1] is None:
        wanted = "a metric that is a mean or a sum over images"
        raise ResultsError(where, f"{name} has no value per image", wanted=wanted)
    table = pd.DataFrame({"first": values[0], "second": values[1]}, index=one["image_id"].unique())
    table["gain"] = (table["second"] - table["first"]) * (1 if info.higher_is_better else -1)
    view = next(iter(find(first.evaluator).shown.views), None)
    order = _differing_first(one, other, view.answer if view else "")
    rows = [_by_image(frame.iloc[order]) for frame in (one, other)]
    worse, better = (_changed(table[sign * table["gain"] > SAME], rows, view) for sign in (-1, 1))
    return Changes(first.task, name, info, (first.model, second.model), worse, better, len(table))


def _changed(table: pd.DataFrame, rows: Sequence[dict[str, Row]], view: View | None) -> tuple[Change, ...]:
    """Return the images of a table, the largest change first, then by id. rows: a row per image, of each model."""
    order = table.sort_values("gain", key=abs, ascending=False, kind="stable")
    return tuple(
        Change(
            key,
            first,
            second,
            view.right_of(rows[0][key]) if view else "",
            (view.answer_of(rows[0][key]), view.answer_of(rows[1][key])) if view else ("", ""),
        )
        for key, first, second in zip(map(str, order.index), order["first"], order["second"], strict=True)
    )


def _differing_first(one: pd.DataFrame, other: pd.DataFrame, answer: str) -> NDArray[np.intp]:
    """Return an order of aligned rows: of an image's rows, those that the models answer differently come first."""
    if answer not in one or answer not in other:
        return np.arange(len(one))
    pairs = zip(one[answer], other[answer], strict=True)
    return np.argsort([first_text(a) == first_text(b) for a, b in pairs], kind="stable")


def _by_image(samples: pd.DataFrame) -> dict[str, Row]:
    """Return the first row of each image."""
    rows = samples.drop_duplicates("image_id").to_dict("records")
    return {str(row["image_id"]): {str(key): value for key, value in row.items()} for row in rows}
