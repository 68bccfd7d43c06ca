"""Differences of two Records by a metric: tested on paired samples if both have them, else on independent numbers."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.util import hash_array

from cocabench.core.errors import UnpairedError, WithheldError
from cocabench.core.files import Columns
from cocabench.core.formatting import decimals, p_text, points, rounded_up, signed
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.metrics import paired, power
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Paired, Side
from cocabench.metrics.intervals import of_hits, of_share, size_of
from cocabench.metrics.statistics import Moved, Share, compare_sides, moved, order_of, side_of
from cocabench.results.records import imported_by, published_by
from cocabench.results.store import RecordSet, read_number_columns, read_samples, samples_path

LEVEL = 0.05
"""Significance level, two-sided; for the primary metrics of a table it holds for all of them together."""

MAX_NUMBERS_HELD = 1 << 26
"""Numbers of samples held in memory (512 MiB): those of 50 models on 50,000 images fit twice."""

PER_ROW = 3
"""Numbers that a Side holds of each row, besides its samples: values, influence, names of images."""

NO_INTERVAL = "no interval"


class Evidence:
    """The samples of Records, each read once if memory allows, and paired tests on them.

    untested: why there are no samples, if not because files are missing.
    """

    def __init__(self, *results: RecordSet, untested: str = "") -> None:
        self._results, self._untested = results, untested
        self._in_memory = {
            _name(record): frame
            for one in results
            for record, frame in zip(one.records, one.held, strict=bool(one.held))
            if frame is not None
        }
        self._read: OrderedDict[Hashable, _Held] = OrderedDict()
        self._last: dict[str, Hashable] = {}
        self._keys: dict[int, tuple[Record, Hashable]] = {}
        self._tests: dict[Hashable, Paired] = {}
        self._numbers_held = 0

    def paired(self, first: Record, second: Record, metric: str, *, seed: int = 0) -> Paired:
        """Return the paired test of first minus second; UnpairedError with the reason if there is none.

        WithheldError if there are too few images for any test.
        """
        key = _name(first), _name(second), metric, seed
        if key not in self._tests:
            declared = self.declared(first, metric)
            found = compare_sides(declared, self._side(first, declared), self._side(second, declared), seed=seed)
            _check_edited(first, second, metric, found.value)
            self._tests[key] = found
        return self._tests[key]

    def mean(self, pairs: Sequence[tuple[Record, Record, str]], *, seed: int = 0) -> Paired:
        """Return the mean over tasks of first minus second of a metric; an image that several tasks share counts once.

        Images are the same where their ids are. UnpairedError where a task has no samples, or where two tasks read the
        same pictures under other ids: which images they share is unknown then.
        """
        parts = [self._moved(*pair) for pair in pairs]
        check_shared([one for one, _, _ in pairs], [part.images for part in parts])
        return paired.of_tasks(parts, np.random.default_rng(seed))

    def interval_of_mean(self, numbers: Sequence[tuple[Record, str]]) -> Interval:
        """Return the 95 % interval of a model's mean over tasks of fractions; an image that several share counts once.

        Where all tasks have the same images, as the languages of a set, these are so many answers to each image, as the
        captions of one are, and their agreement is measured.

        UnpairedError as of mean, and where it is unknown how far each image moves a metric.
        """
        images, moves = [], []
        for record, name in numbers:
            metric = self.declared(record, name)
            side = self._side(record, metric)
            if side.influence is None or metric.statistic.withheld(side.rows):
                raise UnpairedError(name, "it is not known how far each image moves it")
            images.append(side.images)
            moves.append(side.influence / len(numbers))
        check_shared([record for record, _ in numbers], images)
        places = np.unique(np.concatenate(images), return_inverse=True)[1]
        joint = np.bincount(places, np.concatenate(moves)).astype(np.float64)
        value = math.fsum(record.metrics[name].value or 0.0 for record, name in numbers) / len(numbers)
        if len(joint) < 2:
            return UNKNOWN
        if len(moves) > 1 and all(len(own) == len(joint) for own in moves):
            return of_hits(value, joint, len(moves) * len(joint))
        return of_share(value, joint)

    def _moved(self, first: Record, second: Record, metric: str) -> Moved:
        declared = self.declared(first, metric)
        found = moved(declared, self._side(first, declared), self._side(second, declared))
        _check_edited(first, second, metric, float(found.gaps.sum()))
        return found

    def declared(self, record: Record, metric: str) -> Metric:
        """Return a Record's metric by name; UnpairedError if its kind does not declare it."""
        found = find(record.evaluator).metric(metric)
        if found is None:
            raise UnpairedError(metric, f"the installed kind {record.evaluator!r} has no such metric")
        return found

    def samples(self, record: Record) -> pd.DataFrame:
        """Return what metrics read of a Record's samples, ordered by image and id (as 64-bit hashes).

        UnpairedError if there are none.
        """
        return self._held(record).samples

    def _side(self, record: Record, metric: Metric) -> Side:
        """Return the rows of a metric, with what follows from them; UnpairedError if there are none."""
        held = self._held(record)
        if metric.name not in held.sides:
            side = held.sides[metric.name] = side_of(metric, held.samples)
            own = 0 if side.rows is held.samples else held.numbers * len(side.rows) // len(held.samples)
            self._grow(held, PER_ROW * len(side.rows) + own)
        return held.sides[metric.name]

    def _held(self, record: Record) -> _Held:
        key = self._key(record)
        if key not in self._read:
            like = self._read.get(self._last.get(record.task))
            held = self._read[key] = _held(self._columns(record, like.columns if like else None), like)
            self._last[record.task] = key
            self._grow(held, held.numbers)
        self._read.move_to_end(key)
        return self._read[key]

    def _key(self, record: Record) -> Hashable:
        """Return what identifies a Record's samples; UnpairedError if there are none."""
        known = self._keys.get(id(record))
        if known is None:
            key = _name(record) if _name(record) in self._in_memory else self._path(record)
            known = self._keys[id(record)] = record, key
        return known[1]

    def _columns(self, record: Record, like: Columns | None) -> Columns:
        if (frame := self._in_memory.get(_name(record))) is None:
            return read_number_columns(self._path(record), record, like=like)
        numbers = find(record.evaluator).numbers(frame.columns)
        table = pa.Table.from_pandas(frame[numbers], preserve_index=False)
        return Columns(table.schema, {name: table[name] for name in numbers}, {})

    def _grow(self, held: _Held, numbers: int) -> None:
        """Count more numbers, and drop the least recently used samples if there are too many."""
        held.size += numbers
        self._numbers_held += numbers
        while self._numbers_held > MAX_NUMBERS_HELD and len(self._read) > 1:
            self._numbers_held -= self._read.popitem(last=False)[1].size

    def rows(self, record: Record) -> pd.DataFrame:
        """Return all columns of a Record's samples, captions and names included; UnpairedError if there are none."""
        frame = self._in_memory.get(_name(record))
        return read_samples(self._path(record), record) if frame is None else frame

    def _path(self, record: Record) -> Path:
        if source := published_by(record) or imported_by(record):
            raise UnpairedError("", f"{record.model} is from {source}, without samples")
        path = next((path for results in self._results if (path := results.path(record)) is not None), None)
        if path is None or not samples_path(path, record).is_file():
            raise UnpairedError("", self._untested or f"no samples of {record.model} on {record.task}")
        return path


@dataclass(slots=True)
class _Held:
    """Samples in memory, in order, and {metric: its Side of them}. size: how many numbers these hold.

    columns: as they were read, with names of images and samples where samples has hashes. order: the places of samples
    among them, None if they were in order. numbers: how many of them there are, those in lists and the names included.
    """

    columns: Columns
    samples: pd.DataFrame
    order: list[int] | None
    numbers: int
    sides: dict[str, Side] = field(default_factory=dict)
    size: int = 0


IDS = ("image_id", "id")


def _held(columns: Columns, like: _Held | None) -> _Held:
    """Return samples in order, with hashes for names: numbers are matched and grouped many times faster than text.

    like: other samples, whose order and hashes are taken where the names are the same, as those of a task mostly are,
    and whose columns are taken where they are the same.
    """
    arrays = columns.arrays
    numbers = sum(map(_numbers_in, arrays.values())) + sum(len(arrays[name]) for name in IDS)
    if like is not None and all(_same(arrays[name], like.columns.arrays[name]) for name in IDS):
        order, hashes = like.order, {name: like.samples[name].to_numpy() for name in IDS}
        if list(arrays) == list(like.columns.arrays):
            return _Held(columns, _frame_like(like, arrays), order, numbers)
    else:
        texts = [np.array(arrays[name].to_pylist(), object) for name in IDS]
        order = order_of(*(text.tolist() for text in texts))
        placed = texts if order is None else [text[order] for text in texts]
        hashes = {name: hash_array(text, categorize=False) for name, text in zip(IDS, placed, strict=True)}
    rows = columns.table if order is None else columns.table.take(order)
    for name, values in hashes.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    return _Held(columns, rows.to_pandas(ignore_metadata=True, split_blocks=True), order, numbers)


def _frame_like(like: _Held, arrays: Mapping[str, pa.ChunkedArray]) -> pd.DataFrame:
    """Return columns of the same names as a frame that shares the equal ones."""
    frame = like.samples.copy(deep=False)
    for name, array in arrays.items():
        if name not in IDS and array is not like.columns.arrays[name]:
            frame[name] = (array if like.order is None else array.take(like.order)).to_pandas()
    return frame


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    return one is other or one.equals(other)


def _numbers_in(column: pa.ChunkedArray) -> int:
    """Return how many numbers a column holds, including those in lists."""
    return len(column) + (pc.sum(pc.list_value_length(column)).as_py() or 0 if pa.types.is_list(column.type) else 0)


def check_shared(records: Sequence[Record], images: Sequence[NDArray[np.generic]]) -> None:
    """Raise UnpairedError where two tasks read the same pictures under other ids."""
    for i, one in enumerate(records):
        for k, other in enumerate(records[:i]):
            same = one.pictures and one.pictures == other.pictures
            if same and not np.isin(images[i], images[k]).any():
                raise UnpairedError("", f"{one.task} and {other.task} have the same images under other ids")


def _name(record: Record) -> tuple[str, str, str]:
    """Return what identifies a Record in memory."""
    return record.model, record.task, record.created


def _check_edited(first: Record, second: Record, metric: str, found: float) -> None:
    """Raise UnpairedError if the samples' difference is not that of the Records: one of them was edited."""
    a, b = (held.value if (held := r.metrics.get(metric)) else None for r in (first, second))
    if a is not None and b is not None and not math.isclose(a - b, found, rel_tol=1e-6, abs_tol=1e-6):
        values = f"difference {a - b:.6g} in the Records, {found:.6g} in their samples"
        raise UnpairedError("", f"{first.model} or {second.model} on {first.task} was edited ({values})")


class Finding(StrEnum):
    """The result of testing a difference, in the direction of the metric."""

    FIRST = "first better"
    SECOND = "second better"
    NOTHING = "not significant"
    UNTESTED = "not tested"

    @property
    def reversed(self) -> Finding:
        """The finding of second minus first."""
        return {Finding.FIRST: Finding.SECOND, Finding.SECOND: Finding.FIRST}.get(self, self)


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, in points (ranks are not scaled); low and high are None if no interval is known.

    p_value: two-sided, uncorrected. adjusted: Holm-corrected over the primary metrics of the table, None for other
    metrics. detectable: the smallest true difference, in points, that such a test finds in 80 of 100 cases.
    changed: number of images on which the two differ, None if unknown. unpaired: why the samples could not be paired,
    or why there is no test, '' for a paired test. finding: by adjusted, or by p_value if that is None. error: the
    standard error, None if unknown. test: on the metric's own scale. places: decimals to print, more for small costs.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    adjusted: float | None = None
    detectable: float | None = None
    changed: int | None = None
    unpaired: str = ""
    finding: Finding = Finding.UNTESTED
    error: float | None = None
    test: Paired | None = None
    places: int = 1

    @property
    def paired(self) -> bool:
        return not self.unpaired

    @property
    def significant(self) -> bool:
        return self.finding in (Finding.FIRST, Finding.SECOND)

    @property
    def verdict(self) -> str:
        """``first better (p=0.003)``, ``not significant (detects a difference of 2.1 or more)``, '' if not tested.

        p is the adjusted one if there is one; the smallest detectable difference is rounded up.
        """
        if self.finding is Finding.UNTESTED:
            return ""
        if self.finding is Finding.NOTHING:
            return f"{self.finding}{detects('difference', self.detectable, self.places)}"
        return f"{self.finding} ({self.p})"

    @property
    def p(self) -> str:
        """``p=0.003``: the adjusted p if there is one."""
        return p_text(self.p_value if self.adjusted is None else self.adjusted)

    @property
    def mark(self) -> str:
        """▲ if the first is better, ▼ if the second is, else ''."""
        return {Finding.FIRST: "▲", Finding.SECOND: "▼"}.get(self.finding, "")

    @property
    def reversed(self) -> Difference:
        """Second minus first."""
        return self._turned(self.finding.reversed)

    @property
    def opposite(self) -> Difference:
        """The same two, with the sign of the number turned: how much better the first is where lower is better."""
        return self._turned(self.finding)

    def _turned(self, finding: Finding) -> Difference:
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(self, value=-self.value, low=low, high=high, test=None, finding=finding)

    def __str__(self) -> str:
        return with_interval(self.value, self.low, self.high, self.places)


def with_interval(value: float, low: float | None, high: float | None, places: int) -> str:
    """Return ``−2.3 ± 0.8``: a signed difference, and half the width of its interval, rounded up, if known."""
    if low is None or high is None:
        return signed(value, places)
    return f"{signed(value, places)} ± {up(max(high - value, value - low), places)}"


def up(value: float, places: int) -> str:
    """Return a value rounded up to that many decimals."""
    return f"{rounded_up(value, places):.{places}f}"


def detects(what: str, detectable: float | None, places: int) -> str:
    """Return `` (detects a drop of 1.9 or more)``: the power of a test; '' if it is unknown."""
    return "" if detectable is None else f" (detects a {what} of {up(detectable, places)} or more)"


def independent(a: Estimate, b: Estimate, *, shares: bool = False) -> Paired | None:
    """Return the test of a minus b for two independent samples; None if one has no interval.

    The interval is Newcombe's "square-and-add" (Statistics in Medicine 17, 1998, method 10): it needs nothing but the
    two intervals, and stays right near 0 and 1. It is wider than the truth where both models saw the same images.
    shares: a and b are shares of hits, whose variance changes with the drop that the test is to find.
    """
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return None
    gap = a.value - b.value
    low = gap - math.hypot(a.value - a.low, b.high - b.value)
    high = gap + math.hypot(a.high - a.value, b.value - b.low)
    found = paired.of_independent(gap, low, high)
    sides = (a.value, a.low, a.high), (b.value, b.low, b.high)
    if not shares or not all(0 <= value <= 1 and 0 < high - low < 1 for value, low, high in sides):
        return found
    sizes = size_of(a.value, a.low, a.high), size_of(b.value, b.low, b.high)
    return found._replace(shares=((a.value, sizes[0]), (b.value, sizes[1])))


def paired_or_independent(a: Record, b: Record, metric: str, evidence: Evidence) -> tuple[Paired | None, str]:
    """Return the test of a minus b on the metric's own scale, and why it is not paired ('' if it is).

    The test is None if neither samples nor intervals are there.
    """
    try:
        return evidence.paired(a, b, metric), ""
    except WithheldError as reason:
        return None, str(reason)
    except UnpairedError as reason:
        one, other, declared = a.metrics[metric], b.metrics[metric], find(a.evaluator).metric(metric)
        if declared and 0 < (n := min(one.n, other.n)) < declared.statistic.fewest:
            return None, f"too few images to test (n={n})"
        test = independent(one, other, shares=declared is not None and isinstance(declared.statistic, Share))
        return test, str(reason) if test else NO_INTERVAL


def difference(a: Record, b: Record, metric: str, info: MetricInfo, evidence: Evidence) -> Difference | None:
    """Return a minus b of a metric that both have, without a finding; None if one of the two is undefined."""
    one, other = a.metrics[metric].value, b.metrics[metric].value
    if one is None or other is None:
        return None
    test, unpaired = paired_or_independent(a, b, metric, evidence)
    places = decimals(points(max(abs(one), abs(other)), info), info)
    if test is None:
        return Difference(points(one - other, info), unpaired=unpaired, places=places)
    return in_points(test, info, unpaired=unpaired, places=places)


def in_points(test: Paired, info: MetricInfo, *, unpaired: str = "", places: int = 1) -> Difference:
    """Return a test as a difference without a finding."""
    value, low, high, error = (points(number, info) for number in (*test[:3], test.error))
    return Difference(
        value,
        low,
        high,
        p_value=test.p_value,
        changed=test.changed,
        unpaired=unpaired,
        error=None if math.isnan(error) else error,
        test=test,
        places=places,
    )


def with_finding(found: Difference, info: MetricInfo, *, adjusted: float | None = None, family: int = 1) -> Difference:
    """Return a difference with its finding, by its p-value or by adjusted, which is corrected for a family of tests.

    Health metrics have none: more words in a caption are neither better nor worse.
    """
    p_value = found.p_value if adjusted is None else adjusted
    if p_value is None or info.kind == "health":
        return found
    first = (found.value > 0) == info.higher_is_better
    finding = Finding.NOTHING if p_value >= LEVEL else Finding.FIRST if first else Finding.SECOND
    least = power.detectable(found.test, level=LEVEL / 2 / family) if found.test else math.nan
    detectable = None if math.isnan(least) else points(least, info)
    return replace(found, adjusted=adjusted, finding=finding, detectable=detectable)


def with_findings(found: Sequence[tuple[Difference, MetricInfo]]) -> list[Difference]:
    """Return the differences of one family with findings that hold for all of them together (Holm)."""
    testable = [i for i, (gap, _) in enumerate(found) if gap.p_value is not None]
    adjusted = dict(zip(testable, paired.holm([found[i][0].p_value or 0.0 for i in testable]), strict=True))
    family = max(1, len(testable))
    return [with_finding(gap, info, adjusted=adjusted.get(i), family=family) for i, (gap, info) in enumerate(found)]
