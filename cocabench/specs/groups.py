"""Groups with a mean of their own: DataComp's 38 evaluation sets, of ``tasks/datacomp.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

DATACOMP = "datacomp"
AVERAGE = "datacomp_average"
"""The name of the plain mean of the 38 main metrics."""

WITHOUT_MEAN = (f"{DATACOMP}_wilds", f"{DATACOMP}_fairness")
"""Groups to run, whose mean nobody publishes."""


class Member(NamedTuple):
    """A task of DataComp.

    key, title: DataComp's names. task: ours. kind: of task. main_metric: DataComp's name of its main metric, metric:
    ours; '' where the set enters no mean (faces). It belongs to the group, and may differ from the task's primary.
    part: '', shifts, vtab, retrieval, wilds or fairness. size: images (of winogavil: instances). random: the main
    metric's value by chance (0-1), as DataComp has it; None where it gives none.
    """

    key: str
    title: str
    task: str
    kind: str
    main_metric: str
    metric: str
    part: str
    size: int
    random: float | None


@cache
def datacomp() -> tuple[Member, ...]:
    """Return DataComp's 40 sets; the 38 with a metric enter its mean."""
    package = Path(str(resources.files("cocabench")))
    folder = next(p for p in (package / "_tasks", package.parent / "tasks") if p.is_dir())
    with (folder / "datacomp.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Member(
                key=row["key"],
                title=row["name"],
                task=row["task"],
                kind=row["kind"],
                main_metric=row["main_metric"],
                metric=row["metric"],
                part=row["part"],
                size=int(row["size"]),
                random=float(row["random"]) if row["random"] else None,
            )
            for row in csv.DictReader(file)
        )


def groups() -> Mapping[str, tuple[Member, ...]]:
    """Return the groups by the name for --tasks: datacomp, and datacomp_PART for each part."""
    members = datacomp()
    parts = dict.fromkeys(member.part for member in members if member.part)
    return {
        DATACOMP: members,
        **{f"{DATACOMP}_{part}": tuple(m for m in members if m.part == part) for part in parts},
    }


def means() -> Mapping[str, tuple[Member, ...]]:
    """Return the tasks of each mean that DataComp publishes, the one over all of them last."""
    counted = {name: tuple(m for m in members if m.metric) for name, members in groups().items()}
    published = {name: own for name, own in counted.items() if name not in (DATACOMP, *WITHOUT_MEAN)}
    return {**published, AVERAGE: counted[DATACOMP]}
