"""A closer look at one task: the hardest classes and the confusions, or where the right answers stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from cocabench.metrics.classification import ranks_of
from cocabench.metrics.ranking import expected_rank, hits_at
from cocabench.report.grid import Entry, Line, Table
from cocabench.report.pivots import DIRECTIONS

Samples = Mapping[str, pd.DataFrame]
"""{model: its samples of one task}."""

HARDEST, CONFUSIONS = 10, 6
BINS = ((1, "1"), (5, "2 to 5"), (10, "6 to 10"), (100, "11 to 100"), (np.inf, "over 100"))


def hardest(task: str, samples: Samples) -> Table | None:
    """Return the classes with the lowest share of right images, by the mean of the models.

    None where most classes have one image: their shares are 0 or 1 and say nothing of the class.
    """
    shares = pd.DataFrame({model: _per_class(frame) for model, frame in samples.items()})
    counts = next(iter(samples.values())).groupby("label_name").size()
    if counts.median() < 2:
        return None
    order = shares.assign(mean=shares.mean(axis=1), images=-counts).sort_values(["mean", "images"], kind="stable")
    lines = tuple(
        Line((Entry(str(name)), Entry(str(counts[name]), value=float(counts[name])), *map(_share, shares.loc[name])))
        for name in order.index[:HARDEST]
    )
    return Table(
        f"{task}-hardest",
        f"Hardest classes: share of right images, %, the {len(lines)} lowest",
        ("class", "images", *samples),
        lines,
    )


def _per_class(frame: pd.DataFrame) -> pd.Series[float]:
    return pd.Series(hits_at(ranks_of(frame), 1), index=frame.index).groupby(frame["label_name"]).mean()


def _share(value: float) -> Entry:
    return Entry("–") if np.isnan(value) else Entry(f"{100 * value:.1f}", value=100 * value)


def confusions(task: str, samples: Samples) -> Table:
    """Return for each model which class is taken for which other one most often, twice at least."""
    lines = []
    for model, frame in samples.items():
        first = [str(names[0]) for names in frame["top5_names"]]
        wrong = Counter((str(a), b) for a, b in zip(frame["label_name"], first, strict=True) if str(a) != b)
        often = sorted(((pair, n) for pair, n in wrong.items() if n > 1), key=lambda item: (-item[1], item[0]))
        for (truth, answer), count in often[:CONFUSIONS]:
            fields = (Entry(truth), Entry(answer), Entry(str(count), value=count))
            lines.append(Line((Entry(model, model=model), *fields)))
    columns = ("model", "a picture of", "taken for", "images")
    return Table(
        f"{task}-confusions", "Confusions: the most frequent ones of each model", columns, tuple(lines), heads=3
    )


def histogram(task: str, samples: Samples, direction: str) -> Table:
    """Return how many queries of a direction have their right answer at which place, in percent."""
    shares = {model: _places(frame, direction) for model, frame in samples.items()}
    lines = tuple(
        Line((Entry(name), *(_share(shares[model][i]) for model in samples))) for i, (_, name) in enumerate(BINS)
    )
    words = DIRECTIONS[direction].partition(":")[0]
    return Table(
        f"{task}-{direction}", f"{words}: the right answer's rank, % of queries", ("rank", *samples), lines, bars=True
    )


def _places(frame: pd.DataFrame, direction: str) -> list[float]:
    asked = frame[frame[f"{direction}_n_above"].notna()]
    ranks = expected_rank(ranks_of(asked, f"{direction}_"))
    counts, _ = np.histogram(ranks, bins=[0, *(edge + 0.5 for edge, _ in BINS)])
    return [float(count) / max(1, len(asked)) for count in counts]


def tables(task: str, samples: Samples) -> list[Table]:
    """Return what the samples of a task can be looked at by; empty for a task without labels or ranks."""
    columns = set.intersection(*(set(frame.columns) for frame in samples.values())) if samples else set()
    if {"label_name", "top5_names", "n_above"} <= columns:
        return [table for table in (hardest(task, samples), confusions(task, samples)) if table and table.lines]
    return [histogram(task, samples, d) for d in DIRECTIONS if f"{d}_n_above" in columns]
