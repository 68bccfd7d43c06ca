"""Whether Records that others sent can be trusted to be what a run wrote: schema, signature, samples, the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from cocabench.core.errors import ResultsError
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.results.records import imported_by, published_by
from cocabench.results.store import Store, is_record, read_record, read_samples

PROTOCOL = ("task", "version", "evaluator", "data", "standard")
MODEL = ("id", "weights", "preprocess", "packages")
"""The parts that a run's signature has, whatever the task and model."""

TOLERANCE = 1e-6
"""Machines differ in the last bits of sums; an edited number by more."""


def problems(folder: Path) -> list[str]:
    """Return what is wrong with a results folder, a line for each problem; empty if it may be published.

    Every Record must be of a known schema, lie where its signature says, have a run's whole signature and its own
    samples beside it, and its primary metric must follow from these samples.
    """
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    files = sorted(file for file in folder.rglob("*.json") if is_record(file))
    found = [f"{file}: {said}" for file in files for said in _of_file(file)]
    return found if files else [f"{folder}: no Records; wanted what `cocabench run --output` writes"]


def _of_file(file: Path) -> Iterator[str]:
    try:
        record = read_record(file)
    except ResultsError as error:
        yield f"{error.got}; {error.wanted or error.fix}".rstrip("; ")
        return
    own = Store(file.parent.parent).file(record)
    if own != file:
        yield f"its content belongs to {own.parent.name}/{own.name}: one of them was edited"
    if published_by(record) or imported_by(record):
        yield "published or imported numbers; wanted those of a run"
        return
    signature = record.signature
    parts = ((PROTOCOL, signature.protocol), (MODEL, signature.model))
    if missing := [name for names, table in parts for name in names if name not in table]:
        yield f"signature without {', '.join(missing)}"
    yield from _of_samples(file, record)


def _of_samples(file: Path, record: Record) -> Iterator[str]:
    if not record.samples_digest:
        yield "no digest of samples"
        return
    try:
        samples = read_samples(file, record)
    except ResultsError as error:
        yield f"samples: {error.got}"
        return
    metric, said = find(record.evaluator).metric(record.primary), record.metrics.get(record.primary)
    if (
        metric is None
        or said is None
        or said.value is None
        or record.definitions[metric.name].version != metric.version
    ):
        return  # of a plugin that is not installed, undefined, or of another version of the metric
    value = metric.statistic.value(metric.rows(samples))
    if not math.isclose(value, said.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        yield f"{record.primary} is {said.value:.6g}, but its samples give {value:.6g}"
