"""Small literal Records for the tests of compare, gate and report."""

from __future__ import annotations

from typing import Any

from cocabench.core.types import Estimate, MetricInfo, Record, Signature

INFO = {
    "acc1": MetricInfo(unit="fraction", higher_is_better=True, summary="share right"),
    "acc5": MetricInfo(unit="fraction", higher_is_better=True, summary="share in the top 5"),
    "t2i_median_rank": MetricInfo(unit="rank", higher_is_better=False, summary="median rank"),
    "brier": MetricInfo(unit="loss", higher_is_better=False, summary="Brier score"),
    "CIDEr": MetricInfo(unit="score", higher_is_better=True, summary="CIDEr"),
}


def estimate(value: float | None, half: float | None = None, n: int = 1000) -> Estimate:
    """value ± half; value None is the undefined estimate."""
    if value is None:
        return Estimate(value=None, low=None, high=None, n=0)
    low, high = (None, None) if half is None else (value - half, value + half)
    return Estimate(value=value, low=low, high=high, n=n)


def record(
    model: str = "a",
    task: str = "imagenet1k",
    metrics: dict[str, Estimate] | float | None = 0.5,
    *,
    protocol: dict[str, Any] | None = None,
    **fields: Any,
) -> Record:
    """A Record whose metrics are acc1 alone where a number is given."""
    found = metrics if isinstance(metrics, dict) else {"acc1": estimate(metrics)}
    known = {name: INFO.get(name, INFO["acc1"]) for name in found}
    first = next(iter(found), "acc1")
    fixed = {"evaluator": "classification", "primary": first, "created": "2025-01-01T00:00:00Z", "definitions": known}
    signature = Signature(protocol=protocol or {"data": {"images": 1000}}, model={"id": model})
    return Record(task=task, model=model, metrics=found, signature=signature, **{**fixed, **fields})
