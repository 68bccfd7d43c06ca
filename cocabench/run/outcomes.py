"""How the steps of a plan ended, kept beside the Records, and what of a plan is done, missing or failed.

results/outcomes/MODEL/STEP.json    the Record, or the error with its number of times and the machine
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from cocabench.core.errors import ResultsError
from cocabench.core.files import read_regular
from cocabench.core.signature import digest
from cocabench.results.store import OUTCOMES, is_record, read_record, slug, write_atomically
from cocabench.run.execute import Outcome
from cocabench.run.plan import Cell, Plan, State, Step, hashes, step_key


@dataclass(frozen=True)
class Ending:
    """How a step ended last: the path of its Record in the results folder, or an error (one line) that came ``times``
    times in a row. when: ISO 8601."""

    model: str
    task: str
    when: str
    record: str = ""
    error: str = ""
    times: int = 0
    node: str = ""


_ENDINGS = TypeAdapter(Ending)


def keep(output: Path, planned: Step, outcome: Outcome) -> None:
    """Keep how a step ended. Where the plan knows the Record's path, a Record says enough and removes an earlier error.

    ResultsError if the folder cannot be written to.
    """
    path = _file(output, outcome.model, planned)
    if outcome.error is None and (outcome.record is None or planned.record):
        path.unlink(missing_ok=True)
        return
    ending = Ending(outcome.model, planned.task, datetime.now(UTC).isoformat(timespec="milliseconds"))
    if outcome.error is None:
        ending = replace(ending, record=outcome.step.record)
    else:
        before = _read(path)
        times = 1 + (before.times if before else 0)
        ending = replace(ending, error=str(outcome.error), times=times, node=platform.node())
    text = json.dumps(_ENDINGS.dump_python(ending), ensure_ascii=False, indent=1)
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def _file(output: Path, model: str, step: Step) -> Path:
    return output / OUTCOMES / slug(model) / f"{slug(step.task)}-{digest(model, step_key(step))}.json"


def _read(path: Path) -> Ending | None:
    """Return how a step ended, None if that is not known; a damaged file is written anew by the next run."""
    try:
        return _ENDINGS.validate_json(read_regular(path))
    except (OSError, ValidationError):
        return None


class Progress(StrEnum):
    DONE = "done"
    MISSING = "missing"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


class StepProgress(NamedTuple):
    """What is known of a step. cause: why it failed, with the number of times and the machine, or is not applicable."""

    cell: int
    model: str
    task: str
    state: Progress
    cause: str = ""


def progress(plan: Plan, output: Path) -> list[StepProgress]:
    """Return the state of each step of a plan by what is in its results folder. Reads no data and no weights."""
    found = []
    for number, cell in enumerate(plan.cells):
        there = _files(output / slug(cell.model))
        for step in cell.steps:
            state, cause = _state(plan, output, cell, step, there)
            found.append(StepProgress(number, cell.model, step.task, state, cause))
    return found


def _files(folder: Path) -> dict[str, float]:
    """Return the files of a folder with their times (s since the epoch); none before there is one."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries}
    except OSError:
        return {}


def _state(plan: Plan, output: Path, cell: Cell, step: Step, there: Mapping[str, float]) -> tuple[Progress, str]:
    if _is_done(plan, output, cell, step, there):
        return Progress.DONE, ""
    if step.state is State.NOT_APPLICABLE:
        return Progress.NOT_APPLICABLE, step.reason
    ending = _read(_file(output, cell.model, step))
    if ending and ending.record and ending.when >= plan.created and (output / ending.record).is_file():
        return Progress.DONE, ""
    if ending and ending.error:
        several = f"{ending.times} times, last " if ending.times > 1 else ""
        return Progress.FAILED, f"{ending.error} ({several}on {ending.node}, {ending.when[:16]})"
    if step.state is State.FAILED:
        return Progress.FAILED, step.reason
    return Progress.MISSING, ""


def _is_done(plan: Plan, output: Path, cell: Cell, step: Step, there: Mapping[str, float]) -> bool:
    """Return whether a step has its Record. there: the names in the model's folder, with their times.

    A Record that the plan found and did not count (of other images, or with --fresh) is older than the plan.
    """
    folder = output / slug(cell.model)
    if step.record:
        written = there.get(Path(step.record).name)
        return written is not None and (step.state is State.DONE or written >= _seconds(plan.created))
    if not (cell.parts and step.parts):
        return False
    names = (name for name in there if name.startswith(f"{slug(step.task)}-") and is_record(folder / name))
    return any(_matches(folder / name, plan, cell, step) for name in names)


def _seconds(created: str) -> float:
    return datetime.fromisoformat(created).timestamp() if created else 0.0


def _matches(path: Path, plan: Plan, cell: Cell, step: Step) -> bool:
    """Return whether a Record is one of a step whose path is not known: where all that is known of both is equal."""
    try:
        record = read_record(path)
    except ResultsError:  # damaged: the next run says so
        return False
    protocol, model = hashes(record.signature.protocol), hashes(record.signature.model)
    equal = step.parts.items() <= protocol.items() and cell.parts.items() <= model.items()
    same = not (step.pictures and record.pictures_by_id) or step.pictures == record.pictures_by_id
    since = plan.created if plan.settings.fresh else ""
    return equal and same and (record.model, record.task) == (cell.model, step.task) and record.created >= since
