"""Checkpoints of a training run: parse run and epoch from model strings, and find the best epoch of each metric."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cocabench.core.signature import digest
from cocabench.core.types import Estimate, MetricInfo, Record

_NUMBERED = re.compile(r"(?:^|[_.-])(epoch|step)s?[_=-]?(\d+)(?=$|[_.-])", re.IGNORECASE)
_PATH = re.compile(r"^(?P<folder>(?:.*[/:])?)(?P<file>[^/:]+)$")


class Epoch(NamedTuple):
    """A checkpoint's run and number: ``("ViT-B-32:runs/x", 5, "epoch")``. unit is epoch or step."""

    run: str
    number: int
    unit: str = "epoch"


def epoch_of(model: str) -> Epoch | None:
    """Return the run and epoch of a model string; None if it is not a numbered checkpoint.

    ``ViT-B-32:runs/x/checkpoints/epoch_5.pt`` is epoch 5 of ``ViT-B-32:runs/x``: open_clip_train's folder
    ``checkpoints`` is not part of the run's name. Folders (``runs/x/epoch_5``) are handled like files. The rest of the
    file's name is part of the run's, so ``a-epoch_1.pt`` and ``b-epoch_1.pt`` are two runs. ``epoch_latest.pt`` has no
    number.
    """
    if (path := _PATH.match(model)) is None or ("/" not in model and ":" not in model):
        return None
    stem = re.sub(r"\.(pt|pth|bin|ckpt|safetensors)$", "", path["file"])
    found = list(_NUMBERED.finditer(stem))
    if not found:
        return None
    last = found[-1]
    rest = (stem[: last.start()] + stem[last.end() :]).strip("_.-")
    folder = re.sub(r"(^|[/:])checkpoints/$", r"\1", path["folder"])
    return Epoch((folder + rest).rstrip("/:"), int(last[2]), last[1].lower())


def runs(models: Iterable[str]) -> dict[str, list[str]]:
    """Return {run: its model strings in order of epoch}, without models that have no epoch."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for model in dict.fromkeys(models):
        if point := epoch_of(model):
            found[point.run].append((point.number, model))
    return {run: [model for _, model in sorted(points)] for run, points in found.items()}


@dataclass(frozen=True)
class Best:
    """The best epoch of a run by one metric, of n_epochs measured with the same protocol.

    estimate is that epoch's. Its interval ignores the selection, and the best of several is biased upwards: measure a
    number to publish on other data.
    """

    epoch: Epoch
    task: str
    metric: str
    model: str
    estimate: Estimate
    info: MetricInfo
    n_epochs: int


def best_epochs(records: Iterable[Record]) -> list[Best]:
    """Return the best epoch per run, task and metric, for runs with two epochs or more; of equal ones the earliest.

    Records with different protocols are not compared: each protocol has its best. Of two Records of one model and
    protocol the newer is taken. Undefined values are ignored.
    """
    groups: dict[tuple[str, str, str], dict[str, Record]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.created):
        if point := epoch_of(record.model):
            groups[point.run, record.task, digest(record.signature.protocol)][record.model] = record
    return [best for group in groups.values() for best in _best_of(list(group.values()))]


def _best_of(records: Sequence[Record]) -> list[Best]:
    names = dict.fromkeys(name for record in records for name in record.metrics)
    return [best for name in names if (best := _best_by(name, records)) is not None]


def _best_by(metric: str, records: Sequence[Record]) -> Best | None:
    known = [
        (point.number, value, record, point)
        for record in records
        if metric in record.metrics
        if (value := record.metrics[metric].value) is not None
        if (point := epoch_of(record.model)) is not None
    ]
    if len(known) < 2:
        return None
    info = known[0][2].definitions[metric]
    sign = -1 if info.higher_is_better else 1
    _, _, record, point = min(known, key=lambda row: (sign * row[1], row[0]))
    return Best(point, record.task, metric, record.model, record.metrics[metric], info, len(known))
