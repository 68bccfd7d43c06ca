"""The metrics of calibration of a classification, and what it keeps of all classes for them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from cocabench.core.types import Context, Note
from cocabench.kinds.shown import Column, Reliability
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.calibration import (
    OWN,
    PER_OCTAVE,
    TEMPERATURES,
    all_classes,
    at_own,
    aupr,
    brier,
    calibration_error,
    fitted,
    fitted_temperature,
    own_confidence,
    placements,
)
from cocabench.metrics.ranking import Floats, Ints, Ranks, Scores
from cocabench.metrics.statistics import Mean, Smooth, Whole

LOGIT_SCALE = 100.0
"""CLIP's, at which its training stops; of models that do not say theirs."""

BIASED = "the fewer images are in a bin, the higher it is by chance; brier has an interval"

COLUMNS = ("label_logit", "top_logprobs")

Places = Callable[[Samples], Ints]


def _brier(name: str, places: Places, temperature: str, *more: str) -> Metric:
    values: Callable[[Samples], Floats] = lambda samples: brier(samples, places(samples))  # noqa: E731
    summary = f"Brier score: sum over classes of (probability - truth)², 0-2, {temperature}."
    return Metric(name, summary, Mean(values), (*COLUMNS, *more), unit="loss", higher_is_better=False)


def _error(name: str, places: Places, temperature: str, *more: str) -> Metric:
    of: Callable[[Samples], float] = lambda samples: calibration_error(samples, places(samples))  # noqa: E731
    summary = f"Expected calibration error of the first answer, 15 bins, {temperature}."
    columns = (*COLUMNS, *Ranks._fields, *more)
    return Metric(name, summary, Whole(of, untested=BIASED), columns, higher_is_better=False)


AT_OWN = "at the model's own temperature"
AT_FITTED = "at the temperature that fits the half of the images without this one"
METRICS = (
    _brier("brier", at_own, AT_OWN),
    _error("ece", at_own, AT_OWN),
    _brier("brier_fitted", fitted, AT_FITTED, "half"),
    _error("ece_fitted", fitted, AT_FITTED, "half"),
    Metric(
        "fitted_temperature",
        "The one of 16 temperatures with the highest likelihood, relative to the model's own; above 1: it is too sure.",
        Whole(fitted_temperature, untested="the nearest on a grid"),
        COLUMNS,
        unit="number",
        role="health",
    ),
)
OOD_METRICS = (
    Metric(
        "ood_auroc",
        "Chance that an image is answered more surely than one of the out-of-distribution split, which is held fixed.",
        Mean("ood_placement"),
        ("ood_placement",),
    ),
    Metric(
        "ood_aupr",
        "Average precision of telling images from those of the out-of-distribution split by probability.",
        Smooth(aupr),
        ("ood_above", *COLUMNS),
    ),
)
SAMPLES = (
    Column("label_logit", "float", "Calibration: logit of the true class less that of the highest"),
    Column("top_logprobs", "floats", "Calibration: log of the highest probability at 20 temperatures"),
    Column("half", "int", "Calibration: the half of the images that this one is in, by its id"),
    Column("ood_placement", "float", "Share of the out-of-distribution images whose first answer is less sure"),
    Column("ood_above", "int", "Out-of-distribution images whose first answer is as sure or surer"),
)
RELIABILITY = Reliability(
    "reliability",
    "Reliability: share right by probability",
    "acc1",
    COLUMNS,
    own_confidence,
)


def stated_scale(model: object, context: Context) -> float:
    """Return a model's logit scale, and note it; LOGIT_SCALE for one that does not say."""
    found = getattr(model, "logit_scale", None)  # of plain objects
    scale = float((found() if found else None) or LOGIT_SCALE)
    text = f"probabilities: softmax over classes at the logit scale {scale:.4g} (temperature {1 / scale:.3g})"
    context.note(Note("calibration", text))
    return scale


def kept(scale: float, scores: Scores, labels: Ints) -> Iterator[dict[str, object]]:
    """Yield what is kept of each image's scores (n, c)."""
    found = all_classes(scores, labels, scale)
    for logit, logprobs in zip(found.label_logit.tolist(), found.top_logprobs, strict=True):
        yield {"label_logit": logit, "top_logprobs": logprobs}


def half(name: str) -> int:
    """Return which half of the images one is in, 0 or 1, by its id alone."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) & 1


def with_others(rows: Iterable[Mapping[str, Any]], chunks: Iterable[Scores], scale: float) -> Iterator[dict[str, Any]]:
    """Yield rows with where their confidence stands among that of out-of-distribution images with scores (m, c)."""
    own = OWN + PER_OCTAVE
    others = [all_classes(s, np.zeros(len(s), np.int64), scale).top_logprobs[:, own] for s in chunks]
    joined = np.concatenate([np.empty(0, np.float32), *others])
    for row in rows:
        share, above = placements(np.asarray(row["top_logprobs"])[None, own], joined)
        yield {**row, "ood_placement": float(share[0]), "ood_above": int(above[0])}


def notes(samples: Samples) -> Iterator[Note]:
    """Yield a note where the fitted temperature is at an end of the grid, beyond which a better one may be."""
    if len(samples) and (found := fitted_temperature(samples)) in (TEMPERATURES[0], TEMPERATURES[-1]):
        yield Note("calibration", f"the fitted temperature, {found:.2g} times the model's own, is at the grid's end")
