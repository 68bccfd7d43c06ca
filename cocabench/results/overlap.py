"""Results without the images that were in the training data: the file of such images, and metrics of each part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field, ValidationError

from cocabench.core.errors import ResultsError, UnknownNameError, UnpairedError, UsageError
from cocabench.core.files import read_text
from cocabench.core.formatting import number, plural
from cocabench.core.signature import flat
from cocabench.core.types import Estimate, MetricInfo, Record
from cocabench.kinds import find
from cocabench.metrics.base import estimate
from cocabench.results.difference import Evidence
from cocabench.results.records import choose, limit
from cocabench.results.store import RecordSet
from cocabench.specs.spec import Spec, problems


class Match(Spec):
    """The nearest training image of an evaluation image. bits: in how many of the hash's bits they differ."""

    train: str
    bits: int = Field(ge=0)


class TaskOverlap(Spec):
    """Of a task: how many images were looked at, and {id: nearest training image} of those that have one near.

    data, rows, pictures_by_id: what identifies the data in Records: the hash of the examples, that in any order with
    the task's further splits, and that of the images by their ids. Other data may have the same ids.
    """

    images: int = Field(ge=0)
    data: str
    rows: str
    pictures_by_id: str
    overlap: dict[str, Match] = Field(default_factory=dict)


class Overlap(Spec):
    """A file of ``cocabench data overlap``. hash: the method. distance: bits up to which two images are one."""

    hash: str
    distance: int = Field(ge=0)
    train: tuple[str, ...]
    train_images: int = Field(ge=0)
    unreadable: int = 0
    tasks: dict[str, TaskOverlap]

    @property
    def text(self) -> str:
        """``within 4 bits of one of 10,000 training images (phash of 64 bits, imagehash 4.3.2)``"""
        return f"within {self.distance} bits of one of {self.train_images:,} training images ({self.hash})"


def read_overlap(path: Path) -> Overlap:
    """Read a file of overlap; ResultsError if it cannot be read or is something else."""
    wanted = "a file that `cocabench data overlap` wrote"
    try:
        return Overlap.model_validate_json(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(
            str(path), f"cannot be read ({getattr(error, 'strerror', '') or error})", wanted=wanted
        ) from None
    except ValidationError as error:
        lines = problems(error, [*Overlap.model_fields])
        raise ResultsError(str(path), min(lines, key=lambda line: "unknown" not in line), wanted=wanted) from None


@dataclass(frozen=True)
class Part:
    """A metric of one model and task on all images, on those without a near training image, and on those with one.

    why: the reason where parts are unknown; their estimates are None then.
    """

    model: str
    task: str
    metric: str
    info: MetricInfo
    whole: Estimate
    clean: Estimate | None = None
    overlapping: Estimate | None = None
    why: str = ""


def parts(results: RecordSet, overlap: Overlap, models: Sequence[str] = (), *, all_metrics: bool = False) -> list[Part]:
    """Return the parts of each model and task that the file knows, of the primary metric or of all metrics.

    UnknownNameError for a model without results, UsageError where no task is in the file, or a task's data there are
    not those of a result.
    """
    chosen = choose(results).records
    known = tuple(dict.fromkeys(record.model for record in chosen))
    for name in models:
        if name not in known:
            raise UnknownNameError("model", name, known)
    own = [r for r in chosen if r.task in overlap.tasks and r.model in (models or known)]
    if not own:
        got = f"a file for {', '.join(overlap.tasks) or 'no task'}"
        raise UsageError("--overlap", got, wanted="tasks of RESULTS", fix="run `cocabench data overlap` for them")
    for record in own:
        if why := _other_data(record, overlap.tasks[record.task]):
            got, fix = f"the file was made for other data of {record.task} than {record.model} was measured on", FIX
            raise UsageError("--overlap", f"{got} ({why})", wanted="the same", fix=fix)
    evidence = Evidence(results)
    return [
        part for record in own for part in _parts(record, overlap.tasks[record.task].overlap, evidence, all_metrics)
    ]


FIX = "run `cocabench data overlap` on those data, or name other models with --models"


def _other_data(record: Record, known: TaskOverlap) -> str:
    """Return what differs between the data of a result and those of the file, '' for nothing that is known.

    Of a part of the data (``--limit``) nothing is known: ``_samples`` says so.
    """
    data = flat(record.signature.protocol).get("data.hash")
    if limit(record) is not None or not (record.rows or data):
        return ""
    if known.rows != record.rows and known.data != data:
        return "other ids, labels or texts"
    same_rows, pictures = known.rows == record.rows, record.pictures_by_id
    return "other images under the same ids" if same_rows and pictures not in ("", known.pictures_by_id) else ""


def _parts(record: Record, near: Mapping[str, Match], evidence: Evidence, all_metrics: bool) -> Iterator[Part]:
    names = [name for name in record.metrics if all_metrics or name == record.primary]
    frame, why = _samples(record, evidence)
    for name in names:
        info, metric = record.definitions[name], find(record.evaluator).metric(name)
        plain = Part(record.model, record.task, name, info, record.metrics[name])
        if frame is None or metric is None or not metric.readable(frame.columns):
            yield Part(*_head(plain), why=why or "not in its samples")
            continue
        inside = frame["image_id"].isin(set(near))
        yield Part(*_head(plain), estimate(metric, frame[~inside]), estimate(metric, frame[inside]))


def _head(part: Part) -> tuple[str, str, str, MetricInfo, Estimate]:
    return part.model, part.task, part.metric, part.info, part.whole


def _samples(record: Record, evidence: Evidence) -> tuple[pd.DataFrame | None, str]:
    """Return a Record's samples, or None and the reason."""
    if (n := limit(record)) is not None:
        return None, f"limited to {plural(n, 'sample')}: whether they are of the file's data is unknown"
    try:
        return evidence.rows(record), ""
    except UnpairedError as reason:
        return None, str(reason)


HEADER = ("model", "task", "metric", "all images", "clean", "overlapping")


def cells(part: Part) -> list[str]:
    """Return a part's cells below HEADER."""
    values = [number(one, part.info) if one is not None else "" for one in (part.whole, part.clean, part.overlapping)]
    return [part.model, part.task, part.metric, values[0], part.why or values[1], values[2]]


def lines(found: Iterable[Part]) -> list[dict[str, object]]:
    """Return parts as {column: value} on the metric's own scale."""
    rows: list[dict[str, object]] = []
    for part in found:
        sides = {"all": part.whole, "clean": part.clean, "overlapping": part.overlapping}
        values = {name: None if one is None else one.model_dump() for name, one in sides.items()}
        rows.append({"model": part.model, "task": part.task, "metric": part.metric, **values, "why": part.why})
    return rows


def legend(overlap: Overlap, found: Sequence[Part]) -> list[str]:
    """Return the sentences below a table."""
    tasks = dict.fromkeys(part.task for part in found)
    counts = ", ".join(f"{len(overlap.tasks[t].overlap)} of {overlap.tasks[t].images} in {t}" for t in tasks)
    said = [f"overlapping: {overlap.text}: {counts}", "± is half the width of the 95 % interval over a part's images."]
    return [*said, "Overlapping images may be easier for other reasons; ranks of retrieval are among all images."]
