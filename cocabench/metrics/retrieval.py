"""Image-text retrieval metrics from per-query ranks. Text queries (t2i) and image queries (i2t) are separate rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples, image_sums
from cocabench.metrics.classification import hit_interval, ranks_of
from cocabench.metrics.intervals import Array, image_draws, of_sums, percentiles
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


def _recall_interval(samples: Samples, direction: str, k: int, rng: np.random.Generator) -> Interval:
    hits = hits_at(ranks_of(samples, f"{direction}_"), k)
    if direction == "i2t":
        return hit_interval(hits, rng)
    sums = image_sums(samples, np.column_stack([hits, np.ones_like(hits)]))
    return of_sums(sums, lambda s: s[..., 0] / s[..., 1], rng)


def _recall(direction: str, k: int) -> Metric:
    return Metric(
        name=f"{direction}_recall@{k}",
        summary=f"Share of {WORDS[direction]} is among the {k} highest (CLIP convention: any positive counts).",
        column=f"{direction}_n_above",
        value=lambda samples: recall(samples, direction, k),
        interval=lambda samples, rng: _recall_interval(samples, direction, k, rng),
    )


def _median_rank(direction: str) -> Metric:
    def interval(samples: Samples, rng: np.random.Generator) -> Interval:
        ranks = expected_rank(ranks_of(samples, f"{direction}_"))
        draws = image_draws(samples, lambda rows: float(np.median(ranks[rows])), rng)
        return UNKNOWN if draws is None else percentiles(draws)

    return Metric(
        name=f"{direction}_median_rank",
        summary="Median over queries of the best positive's rank.",
        column=f"{direction}_n_above",
        value=lambda samples: median_rank(samples, direction),
        interval=interval,
        unit="rank",
        higher_is_better=False,
    )


def _mean_recall(k: int) -> Metric:
    def value(samples: Samples) -> float:
        return (recall(samples, "t2i", k) + recall(samples, "i2t", k)) / 2

    def interval(samples: Samples, rng: np.random.Generator) -> Interval:
        rows = [np.zeros((len(samples), 2)) for _ in ("t2i", "i2t")]
        for sums, direction in zip(rows, ("t2i", "i2t"), strict=True):
            asked = samples[f"{direction}_n_above"].notna().to_numpy()
            sums[asked, 0] = hits_at(ranks_of(samples[asked], f"{direction}_"), k)
            sums[asked, 1] = 1.0
        return of_sums(image_sums(samples, np.hstack(rows)), _mean_of_ratios, rng)

    summary = f"Mean of t2i_recall@{k} and i2t_recall@{k}."
    return Metric(name=f"mean_recall@{k}", summary=summary, column="id", value=value, interval=interval)


def _mean_of_ratios(sums: Array) -> Array:
    return (sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2


def declared(ks: Sequence[int]) -> tuple[Metric, ...]:
    """The metrics of a retrieval at the given K."""
    recalls = (metric for k in ks for metric in (_recall("t2i", k), _recall("i2t", k), _mean_recall(k)))
    return (*recalls, _median_rank("t2i"), _median_rank("i2t"))
