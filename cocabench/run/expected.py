"""The signature that a run as published would have: the shipped task's protocol and the tag's architecture."""

from __future__ import annotations

from cocabench.core.errors import CocabenchError
from cocabench.core.types import Dataset, Machine, Record
from cocabench.results.published_check import Expected, Table
from cocabench.specs.registry import all_tasks
from cocabench.specs.spec import WeightsKind, parse_model


def expected(record: Record) -> Expected:
    """Return what is expected for a Record's task and model; empty unless they are cocabench's and open_clip's."""
    return Expected(_protocol(record.task), _model(record.model))


def _protocol(name: str) -> Table:
    """Return the parts of a shipped task's protocol that depend on its file only, and the standard counts."""
    task = all_tasks().get(name)
    if task is None:
        return {}
    counts: Table = {key: value for key, value in task.spec.expect if value is not None and key in ("images", "texts")}
    try:
        protocol = task.kind.protocol(Dataset(name, "", ()), Machine())
    except CocabenchError:  # its class names are read from the data
        protocol = {}
    compared = {key: protocol[key] for key, part in type(task.kind).parts.items() if part.differs and key in protocol}
    return {**compared, "data": dict(counts)}


def _model(name: str) -> Table:
    """Return how an open_clip tag is built, {} for other models."""
    from cocabench.models.open_clip.blueprint import blueprint

    try:
        spec = parse_model(name)
        return blueprint(spec, download=False).construction() if spec.kind is WeightsKind.TAG else {}
    except CocabenchError:
        return {}
