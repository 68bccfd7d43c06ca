"""Image-text retrieval metrics from per-query ranks. Text queries (t2i) and image queries (i2t) are separate rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples
from cocabench.metrics.classification import hit_interval, ranks_of
from cocabench.metrics.intervals import Array, image_draws, percentiles
from cocabench.metrics.pairing import Ints, Mean, Redrawn
from cocabench.metrics.ranking import expected_rank, hits_at

WORDS = {"t2i": "texts whose image", "i2t": "images of which a caption"}


def recall(samples: Samples, direction: str, k: int) -> float:
    """Return the share of queries with a positive in the top k ("recall@K" of CLIP papers, a hit rate); 0-1."""
    return float(hits_at(ranks_of(_queries(samples, direction), f"{direction}_"), k).mean())


def median_rank(samples: Samples, direction: str) -> float:
    """Return the median over queries of the best positive's rank; 1 is best."""
    return float(np.median(expected_rank(ranks_of(_queries(samples, direction), f"{direction}_"))))


def _queries(samples: Samples, direction: str) -> Samples:
    return samples[samples[f"{direction}_n_above"].notna()]


def _recall(direction: str, k: int) -> Metric:
    mean = Mean(lambda samples: hits_at(ranks_of(samples, f"{direction}_"), k))
    return Metric(
        name=f"{direction}_recall@{k}",
        summary=f"Share of {WORDS[direction]} is among the {k} highest (CLIP convention: any positive counts).",
        column=f"{direction}_n_above",
        value=lambda samples: recall(samples, direction, k),
        interval=lambda samples, rng: hit_interval(mean, samples),
        pairing=mean,
    )


def _median_rank(direction: str) -> Metric:
    def median_of_rows(samples: Samples) -> Callable[[Ints], float]:
        ranks = expected_rank(ranks_of(samples, f"{direction}_"))
        return lambda rows: float(np.median(ranks[rows]))

    def interval(samples: Samples, rng: np.random.Generator) -> Interval:
        draws = image_draws(samples, median_of_rows(samples), rng)
        return UNKNOWN if draws is None else percentiles(draws)

    return Metric(
        name=f"{direction}_median_rank",
        summary="Median over queries of the best positive's rank.",
        column=f"{direction}_n_above",
        value=lambda samples: median_rank(samples, direction),
        interval=interval,
        unit="rank",
        higher_is_better=False,
        pairing=Redrawn(median_of_rows),
    )


def _mean_recall(k: int) -> Metric:
    def value(samples: Samples) -> float:
        return (recall(samples, "t2i", k) + recall(samples, "i2t", k)) / 2

    def hits(samples: Samples) -> Array:
        found = np.zeros(len(samples))
        for direction in WORDS:
            asked = _asked(samples, direction)
            found[asked] = hits_at(ranks_of(samples[asked], f"{direction}_"), k)
        return found

    mean = Mean(hits, _half_each)
    summary = f"Mean of t2i_recall@{k} and i2t_recall@{k}."
    return Metric(
        name=f"mean_recall@{k}",
        summary=summary,
        column="id",
        value=value,
        interval=lambda samples, rng: hit_interval(mean, samples),
        pairing=mean,
    )


def _asked(samples: Samples, direction: str) -> NDArray[np.bool_]:
    return np.asarray(samples[f"{direction}_n_above"].notna(), bool)


def _half_each(samples: Samples) -> Array:
    """Return weights of rows that give each direction one half."""
    return np.asarray(sum(_asked(samples, way) / (2 * _asked(samples, way).sum()) for way in WORDS), np.float64)


def declared(ks: Sequence[int]) -> tuple[Metric, ...]:
    """The metrics of a retrieval at the given K."""
    recalls = (metric for k in ks for metric in (_recall("t2i", k), _recall("i2t", k), _mean_recall(k)))
    return (*recalls, _median_rank("t2i"), _median_rank("i2t"))
