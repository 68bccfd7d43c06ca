"""The metrics of calibration of a classification, and what it keeps of all classes for them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from cocabench.core.types import Context, Note
from cocabench.kinds.shown import Column, Reliability
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.calibration import (
    TEMPERATURES,
    all_classes,
    at_own,
    brier,
    calibration_error,
    fitted,
    fitted_temperature,
    own_confidence,
)
from cocabench.metrics.ranking import Floats, Ints, Ranks, Scores
from cocabench.metrics.statistics import Mean, Whole

LOGIT_SCALE = 100.0
"""CLIP's, at which its training stops; of models that do not say theirs."""

BIASED = "the fewer images are in a bin, the higher it is by chance; brier has an interval"

COLUMNS = ("label_logit", "top_logprobs")

Places = Callable[[Samples], Ints]


def _brier(name: str, places: Places, temperature: str, *more: str) -> Metric:
    values: Callable[[Samples], Floats] = lambda samples: brier(samples, places(samples))  # noqa: E731
    summary = f"Brier score: sum over classes of (probability - truth)², 0-2, {temperature}."
    return Metric(name, summary, Mean(values), (*COLUMNS, *more), higher_is_better=False)


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
SAMPLES = (
    Column("label_logit", "float", "Calibration: logit of the true class less that of the highest"),
    Column("top_logprobs", "floats", "Calibration: log of the highest probability at 20 temperatures"),
    Column("half", "int", "Calibration: the half of the images that this one is in, by its id"),
)
RELIABILITY = Reliability(
    "reliability",
    "Reliability: share right by probability of the first answer, at the model's own temperature",
    "acc1",
    COLUMNS,
    own_confidence,
)


def keeper(model: object, context: Context) -> Callable[[Scores, Ints], Iterator[dict[str, object]]]:
    """Return a function that yields what is kept of each image's scores (n, c), and note the logit scale."""
    own = getattr(model, "logit_scale", None)  # of plain objects
    scale, whose = (LOGIT_SCALE, "CLIP's, since the model says none") if own is None else (own, "the model's own")
    text = f"probabilities: softmax over classes at the logit scale {scale:.4g}, {whose} (temperature {1 / scale:.3g})"
    context.note(Note("calibration", text))

    def kept(scores: Scores, labels: Ints) -> Iterator[dict[str, object]]:
        found = all_classes(scores, labels, scale)
        for logit, logprobs in zip(found.label_logit.tolist(), found.top_logprobs, strict=True):
            yield {"label_logit": logit, "top_logprobs": logprobs}

    return kept


def half(name: str) -> int:
    """Return which half of the images one is in, 0 or 1, by its id alone."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) & 1


def notes(samples: Samples) -> Iterator[Note]:
    """Yield a note where the fitted temperature is at an end of the grid, beyond which a better one may be."""
    if len(samples) and (found := fitted_temperature(samples)) in (TEMPERATURES[0], TEMPERATURES[-1]):
        yield Note("calibration", f"the fitted temperature, {found:.2g} times the model's own, is at the grid's end")
