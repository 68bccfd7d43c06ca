"""Simulations of intervals, tests and the printed power: do they hold what they claim?

python -m benchmarks honesty [--only WORD] [--repeats 2000]    every case of every statistic; about ten minutes

Intervals are to cover 0.95 (0.93 at least), false alarms at 5 % to stay at 0.06, and the printed power to be 0.80 (0.77
to 0.83). ``tests/results/test_false_alarms.py`` runs some of the cases with fewer repeats. Each case is a population,
so the truth is known; models are compared where they are equal in truth, one-sided, and the worse side counts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.captioneval import overlap
from cocabench.captioneval.declared import declared
from cocabench.metrics import paired, power
from cocabench.metrics.base import Paired, Side, Statistic
from cocabench.metrics.classification import few_positives, map_of
from cocabench.metrics.statistics import Hits, Mean, Smooth

Array = NDArray[np.float64]
Rng = np.random.Generator
Draw = Callable[[Rng, int], Array]

LEVEL = 0.05


class Share(NamedTuple):
    """A share of repeats, of those in which something was given; withheld: the share in which nothing was."""

    share: float
    withheld: float = 0.0


def frame(columns: dict[str, Array], rows: int = 1) -> pd.DataFrame:
    """Return samples with so many rows an image."""
    n = len(next(iter(columns.values())))
    images = np.arange(n) // rows
    return pd.DataFrame({"id": np.arange(n), "image_id": images, **columns})


def coverage(
    statistic: Statistic, sample: Callable[[Rng], pd.DataFrame], truth: float, repeats: int, rng: Rng
) -> Share:
    """Return how often the interval holds the truth."""
    held = []
    for _ in range(repeats):
        rows = sample(rng)
        if not statistic.withheld(rows):
            low, high = statistic.interval(rows, rng)
            held.append(low - 1e-12 <= truth <= high + 1e-12)
    return Share(float(np.mean(held)) if held else math.nan, 1 - len(held) / repeats)


def alarms(test: Callable[[Rng], Paired], repeats: int, rng: Rng) -> Share:
    """Return how often a test of equal models says that one is better, on the side where it says so more often."""
    found = np.array([(lambda p: (p.higher <= LEVEL, p.lower <= LEVEL))(test(rng)) for _ in range(repeats)])
    return Share(float(found.mean(axis=0).max()))


# Scores per image, as CIDEr's: all with mean 1.


def gamma(shape: float) -> Draw:
    return lambda rng, n: rng.gamma(shape, 1 / shape, n)


def rarely(share: float) -> Draw:
    """Zero but for a share of images."""
    return lambda rng, n: np.where(rng.random(n) < share, rng.exponential(1 / share, n), 0.0)


def lognormal(sigma: float) -> Draw:
    return lambda rng, n: rng.lognormal(-(sigma**2) / 2, sigma, n)


SCORES: dict[str, Draw] = {
    "even (gamma 3)": gamma(3),
    "skewed (gamma 1)": gamma(1),
    "more skewed (gamma 0.5)": gamma(0.5),
    "very skewed (gamma 0.3)": gamma(0.3),
    "lognormal 1": lognormal(1),
    "zero but for 20 %": rarely(0.2),
}
PAIRS = (
    ("very skewed (gamma 0.3)", "even (gamma 3)"),
    ("more skewed (gamma 0.5)", "even (gamma 3)"),
    ("skewed (gamma 1)", "even (gamma 3)"),
    ("lognormal 1", "even (gamma 3)"),
    ("zero but for 20 %", "even (gamma 3)"),
    ("very skewed (gamma 0.3)", "very skewed (gamma 0.3)"),
)


def mean_score(name: str, n: int, repeats: int, rng: Rng) -> Share:
    return coverage(Mean("score"), lambda r: frame({"score": SCORES[name](r, n)}), 1.0, repeats, rng)


def score_alarms(names: tuple[str, str], n: int, repeats: int, rng: Rng) -> Share:
    one, other = (SCORES[name] for name in names)
    return alarms(lambda r: paired.of_means((one(r, n) - other(r, n)) / n, r), repeats, rng)


# BLEU of captions of about nine words: how often a word matches, and how often a match is longer by a word.

CAPTIONERS: dict[str, tuple[float, ...]] = {
    "hardly any match": (0.3, 0.15, 0.12, 0.1),
    "weak": (0.35, 0.3, 0.3, 0.3),
    "good": (0.7, 0.7, 0.7, 0.75),
    "weak, 2 % word for word": (0.3, 0.2, 0.2, 0.15, 0.02),
}
BLEU = declared(["BLEU@4"])[0].statistic


def bleu_counts(name: str, rng: Rng, n: int) -> Array:
    """Return (n, 10) counts in the order of BLEU_COLUMNS."""
    chances, copied = CAPTIONERS[name][:4], rng.random(n) < sum(CAPTIONERS[name][4:])
    lengths = np.clip(rng.poisson(9, n), 5, 20)
    guesses = [lengths - k for k in range(4)]
    matches, left = [], lengths
    for chance, guess in zip(chances, guesses, strict=True):
        left = rng.binomial(np.minimum(left, guess), chance)
        matches.append(np.where(copied, guess, left))
    references = np.where(copied, lengths, np.clip(rng.poisson(9.5, n), 5, 20))
    return np.column_stack([*matches, *guesses, lengths, references]).astype(np.float64)


def bleu(name: str, n: int, repeats: int, rng: Rng) -> Share:
    truth = float(overlap.bleu_value(bleu_counts(name, rng, 300_000).sum(axis=0), 4))
    columns = overlap.BLEU_COLUMNS
    return coverage(
        BLEU,
        lambda r: frame(dict(zip(columns, bleu_counts(name, r, n).T, strict=True))),
        truth,
        repeats,
        rng,
    )


# Classes of very unequal size: images, the share of hits, and by how much the first of two models is better.


class Classes(NamedTuple):
    sizes: Sequence[int]
    hits: Sequence[float]
    shifts: Sequence[float]
    differ: float = 0.05


def _fading(n: int) -> list[int]:
    return [math.ceil(300 / k) for k in range(1, n + 1)]


CLASSES = {
    "1000 and 3": Classes([1000, 3], [0.95, 0.7], [-0.4, 0.4]),
    "1000 and 2": Classes([1000, 2], [0.6, 0.6], [-0.2, 0.2], 0.02),
    "97 and 3": Classes([97, 3], [0.99, 0.5], [-0.3, 0.3]),
    "3 and four of 200": Classes([3, *[200] * 4], [0.7] * 5, [0.4, *[-0.1] * 4], 0.02),
    "500 and ten of 3": Classes([500, *[3] * 10], [0.7, *[0.95] * 10], [-0.4, *[0.04] * 10]),
    "halves of 500": Classes([math.ceil(500 / 2**k) for k in range(10)], [0.9] * 5 + [0.5] * 5, [-0.15, 0.15] * 5),
    "100, 300 to 3": Classes(_fading(100), np.linspace(0.95, 0.5, 100).tolist(), [-0.2] * 20 + [0.05] * 80),
    "50 of 1, 5 of 200": Classes([1] * 50 + [200] * 5, [0.7] * 50 + [0.9] * 5, [0.02] * 50 + [-0.2] * 5),
    "20 of 50": Classes([50] * 20, np.linspace(0.5, 1, 20).tolist(), [0.2, -0.2] * 10),
}
CLASS_MEAN = Hits("hit", lambda rows: rows["label"].to_numpy(np.int64), fixed=True)


def class_mean(name: str, repeats: int, rng: Rng) -> Share:
    case = CLASSES[name]
    labels = np.repeat(np.arange(len(case.sizes)), case.sizes)
    chances = np.asarray(case.hits)[labels]

    def sample(r: Rng) -> pd.DataFrame:
        return frame({"hit": (r.random(len(labels)) < chances).astype(float), "label": labels})

    return coverage(CLASS_MEAN, sample, float(np.mean(case.hits)), repeats, rng)


def class_alarms(name: str, repeats: int, rng: Rng) -> Share:
    case = CLASSES[name]
    labels = np.repeat(np.arange(len(case.sizes)), case.sizes)
    gain, loss = (case.differ / 2 + np.maximum(side * np.asarray(case.shifts), 0) for side in (1, -1))

    def test(r: Rng) -> Paired:
        drawn = r.random(len(labels))
        better, worse = drawn < gain[labels], drawn > 1 - loss[labels]
        sides = (frame({"hit": side.astype(float), "label": labels}) for side in (better, worse))
        return CLASS_MEAN.compare(*(Side(CLASS_MEAN, one) for one in sides), r)

    return alarms(test, repeats, rng)


# Several classes an image: how many classes, the share of images that have one, how far scores of right ones are up.

LABELS = {
    "1 of 30 %": (1, 0.3, 1.5),
    "3 of 30 %": (3, 0.3, 0.5),
    "5 of 30 %": (5, 0.3, 1.5),
    "20 of 10 %": (20, 0.1, 1.5),
    "20 of 8 %": (20, 0.08, 1.5),
    "20 of 3 %": (20, 0.03, 1.5),
}
PRECISION = Smooth(map_of, few_positives)


def labelled(name: str, rng: Rng, n: int, truth: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    classes, share, up = LABELS[name]
    truth = rng.random((n, classes)) < share if truth is None else truth
    scores = rng.standard_normal((n, classes)) + up * truth
    samples = frame({"number": np.arange(n, dtype=float)})
    return samples.assign(class_scores=list(scores), labels=[np.flatnonzero(row) for row in truth])


def precision(name: str, n: int, repeats: int, rng: Rng) -> Share:
    truth = float(np.mean([PRECISION.value(labelled(name, rng, 20_000)) for _ in range(3)]))
    return coverage(PRECISION, lambda r: labelled(name, r, n), truth, repeats, rng)


def precision_alarms(name: str, n: int, repeats: int, rng: Rng) -> Share:
    classes, share, _ = LABELS[name]

    def test(r: Rng) -> Paired:
        truth = r.random((n, classes)) < share
        return PRECISION.compare(*(Side(PRECISION, labelled(name, r, n, truth)) for _ in range(2)), r)

    return alarms(test, repeats, rng)


def recall(share: float, together: float, n: int, repeats: int, rng: Rng) -> Share:
    """Five captions an image; together: the correlation of their hits."""
    spread = (1 - together) / together

    def sample(r: Rng) -> pd.DataFrame:
        chances = np.repeat(r.beta(share * spread, (1 - share) * spread, n), 5)
        return frame({"hit": (r.random(5 * n) < chances).astype(float)}, rows=5)

    return coverage(Hits("hit"), sample, share, repeats, rng)


def task_alarms(tasks: int, n: int, *, shared: bool, repeats: int, rng: Rng) -> Share:
    """Two equal models on tasks of n images; shared: the tasks share images and outcomes. Two-sided."""

    def test(r: Rng) -> bool:
        gaps = [r.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1]) / n for _ in range(tasks)]
        images = [np.arange(n) + (0 if shared else n * task) for task in range(tasks)]
        return (
            paired.of_tasks([(i, gaps[0] if shared else g, 0.9) for i, g in zip(images, gaps, strict=True)], r).p_value
            <= LEVEL
        )

    return Share(float(np.mean([test(rng) for _ in range(repeats)])))


def found_drops(
    share: float, n: int, level: float, *, churn: float = 0.0, tasks: int = 1, repeats: int, rng: Rng
) -> Share:
    """Return how often a drop is found that is as large as a pair without one says; the mean over tasks for several.

    churn: the share of images that differ without a drop; 0: outcomes of the two models are independent.
    """

    def pair(r: Rng, drop: float) -> tuple[Array, Array]:
        first = r.random(n) < share
        again, drawn = r.random(n) < share, r.random(n)
        kept = np.where(first, drawn > churn / 2 / share, drawn < churn / 2 / (1 - share)) if churn else again
        return first.astype(float), (kept & (r.random(n) >= drop / share)).astype(float)

    def test(r: Rng, drop: float) -> Paired:
        statistic, parts = Hits("hit"), []
        samples = [[Side(statistic, frame({"hit": side})) for side in pair(r, drop)] for _ in range(tasks)]
        if tasks == 1:
            return statistic.compare(*samples[0], r)
        for task, (one, other) in enumerate(samples):
            gaps = statistic.differences(one, other)
            parts.append((np.arange(n) + n * task, gaps, statistic.growth(one, other, gaps)))
        return paired.of_tasks(parts, r)

    found = []
    for _ in range(repeats):
        drop = min(power.detectable(test(rng, 0.0), level=level), 0.999 * share)
        found += [test(rng, drop).higher <= level for _ in range(5)]
    return Share(float(np.mean(found)))


class Case(NamedTuple):
    what: str
    case: str
    run: Callable[[int, Rng], Share]


def cases() -> Iterator[Case]:
    """Yield every case of the sweep."""
    for n in (20, 30, 50, 100, 300, 1000):
        for name in SCORES:
            yield Case("CIDEr-like mean, coverage", f"n={n}, {name}", lambda k, r, s=name, n=n: mean_score(s, n, k, r))
        for pair in PAIRS if n >= 30 else ():
            yield Case(
                "CIDEr-like difference, alarms",
                f"n={n}, {' / '.join(pair)}",
                lambda k, r, p=pair, n=n: score_alarms(p, n, k, r),
            )
        for name in CAPTIONERS:
            yield Case("BLEU@4, coverage", f"n={n}, {name}", lambda k, r, s=name, n=n: bleu(s, n, k, r))
        for name in LABELS:
            yield Case(
                "mean average precision, coverage",
                f"n={n}, {name}",
                lambda k, r, s=name, n=n: precision(s, n, k // 4, r),
            )
            if n >= 30:
                yield Case(
                    "mean average precision, alarms",
                    f"n={n}, {name}",
                    lambda k, r, s=name, n=n: precision_alarms(s, n, k // 4, r),
                )
        for share in (0.1, 0.5, 0.9, 0.95, 0.98):
            for together in (0.1, 0.3, 0.6, 0.9):
                if n * (1 - share) >= 1:
                    yield Case(
                        "t2i recall, coverage",
                        f"n={n}, {share}, together {together}",
                        lambda k, r, s=share, t=together, n=n: recall(s, t, n, k, r),
                    )
    for name in CLASSES:
        yield Case("mean per-class recall, coverage", name, lambda k, r, s=name: class_mean(s, k, r))
        yield Case("mean per-class recall, alarms", name, lambda k, r, s=name: class_alarms(s, k, r))
    for tasks in (2, 7):
        for shared in (True, False):
            yield Case(
                "mean over tasks, alarms",
                f"{tasks} tasks, images {'shared' if shared else 'apart'}",
                lambda k, r, t=tasks, s=shared: task_alarms(t, 300, shared=s, repeats=k, rng=r),
            )
    for n in (100, 300, 1000):
        for share, churn in ((0.5, 0.0), (0.8, 0.0), (0.95, 0.0), (0.95, 0.02), (0.98, 0.01)):
            for level in (0.05, 0.025, 0.005):
                yield Case(
                    "power as printed",
                    f"n={n}, {share}, {churn or 'independent'}, level {level}",
                    lambda k, r, n=n, s=share, c=churn, a=level: found_drops(s, n, a, churn=c, repeats=k // 5, rng=r),
                )
        for tasks in (2, 3, 7):
            yield Case(
                "power of a mean as printed",
                f"{tasks} tasks of {n}, 0.95",
                lambda k, r, n=n, t=tasks: found_drops(0.95, n, 0.025, tasks=t, repeats=k // 20, rng=r),
            )


def main() -> None:
    """Run the sweep and print a line per case."""
    parser = argparse.ArgumentParser(prog="benchmarks honesty", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    for what, case, run in cases():
        if options.only in f"{what}, {case}":
            share, withheld = run(options.repeats, np.random.default_rng(0))
            said = f"{share:.3f}" + (f", withheld {withheld:.2f}" if withheld else "")
            print(f"{what}, {case}: {said}", flush=True)


if __name__ == "__main__":
    main()
