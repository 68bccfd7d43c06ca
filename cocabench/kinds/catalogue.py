"""The declared metric behind a name in a Record, for readers that have no evaluator at hand."""

from __future__ import annotations

import re
from collections.abc import Callable

from cocabench import captioneval as captions
from cocabench.metrics import classification, efficiency, retrieval, selection
from cocabench.metrics.base import Metric


def declared(evaluator: str, name: str) -> Metric | None:
    """Return the metric that an evaluator of cocabench's measures under a name; None for those of plugins."""
    find = _FINDERS.get(evaluator)
    return find(name) if find else None


def _classification(name: str) -> Metric | None:
    enough_for_all = 5
    known = (*classification.single_label(enough_for_all), classification.MEAN_AVERAGE_PRECISION)
    return _named(name, known)


def _retrieval(name: str) -> Metric | None:
    k = re.search(r"@(\d+)$", name)
    return _named(name, retrieval.declared([int(k[1])] if k else []))


def _captioning(name: str) -> Metric | None:
    overall, _, domain = name.removesuffix("]").partition("[")
    if overall not in captions.ALL + captions.HEALTH:
        return None
    metric = captions.declared([overall])[0]
    return captions.within(metric, domain) if domain else metric


def _named(name: str, known: tuple[Metric, ...]) -> Metric | None:
    return next((metric for metric in known if metric.name == name), None)


_FINDERS: dict[str, Callable[[str], Metric | None]] = {
    "classification": _classification,
    "retrieval": _retrieval,
    "image_caption_selection": lambda name: _named(name, selection.declared()),
    "captioning": _captioning,
    "efficiency": lambda name: _named(name, efficiency.declared()),
}
