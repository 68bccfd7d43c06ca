"""What readers of other programs' files share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from cocabench.core.errors import ResultsError, unreadable
from cocabench.core.types import Estimate, MetricInfo, Note, Record, Signature
from cocabench.kinds import every, find
from cocabench.results import published


def made(
    program: str,
    path: Path,
    *,
    task: str,
    evaluator: str,
    model: str,
    metrics: Mapping[str, Estimate],
    protocol: Mapping[str, JsonValue],
    model_parts: Mapping[str, JsonValue],
    notes: tuple[Note, ...] = (),
) -> Record:
    """Return the Record of one result of another program's file, dated as the file is."""
    names = list(metrics)
    return Record(
        task=task,
        model=model,
        evaluator=evaluator,
        primary=published.primary_of(evaluator, names),
        groups=("imported",),
        signature=Signature(
            protocol={"imported": program, "task": task, "evaluator": evaluator, **protocol},
            model=dict(model_parts),
        ),
        metrics=dict(metrics),
        definitions={name: definition(evaluator, name, program) for name in names},
        notes=notes,
        environment={"imported_from": path.name},
        created=datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds"),
    )


def kind_of(metrics: Iterable[str]) -> str:
    """Return the kind of task, the first that is installed, that any of the metrics is of."""
    names = list(metrics)
    found = next((kind for kind in every() if any(kind.metric(name) for name in names)), None)
    if found is None:
        raise ResultsError("import", f"no kind of task has {', '.join(names)}", fix="install the package of that kind")
    return found.name


def definition(evaluator: str, name: str, program: str) -> MetricInfo:
    """Return what is known of a metric: our own definition, that of published numbers, or that it is a share."""
    if found := find(evaluator).metric(name):
        return found.info
    known = published.definitions()
    return known.get(name) or MetricInfo(
        unit="rank" if name.endswith("_rank") else "fraction",
        higher_is_better=not name.endswith("_rank"),
        summary=f"As {program} names it.",
    )


def text_of(path: Path) -> str:
    """Return a file's text; ResultsError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(str(path), unreadable(error)) from None


def number(value: object, where: str) -> float | None:
    """Return a metric's value, None for NaN and nothing; ResultsError for what is no number."""
    if value is None or value == "":
        return None
    try:
        return float(str(value))
    except ValueError:
        raise ResultsError(where, f"got {value!r}", wanted="a number") from None
