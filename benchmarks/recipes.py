"""Simulated recipes: training seeds and images are drawn from a population whose truth is known.

An image is right where ``base + seed + image + chance > 0``, all normal: seed has the deviation ``spread``, image 1,
and chance (of a seed on an image) 0.5. So a recipe's accuracy over all seeds and images is known exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from cocabench.metrics import seeds

CHANCE = 0.5
SKEWED = "skewed"
"""Seeds of an exponential distribution, turned: most are good, a few fail."""


class World(NamedTuple):
    """seeds: of each recipe. spread: of seeds, in deviations of images. images: how many. lead: of the first recipe."""

    seeds: tuple[int, int]
    spread: float
    images: int = 300
    lead: float = 0.0
    base: float = 0.8
    kind: str = "normal"


WORLDS = [
    World(seeds, spread, lead=lead, kind=kind)
    for seeds in ((3, 3), (5, 5), (3, 5))
    for spread, lead, kind in (
        (0.0, 0.0, "normal"),
        (0.03, 0.0, "normal"),
        (0.2, 0.0, "normal"),
        (0.2, 0.1, "normal"),
        (0.1, 0.0, SKEWED),
    )
]


def drawn(world: World, rng: np.random.Generator) -> seeds.Moves:
    """Return what each image adds to accuracy with each checkpoint of both recipes, of one draw of seeds and images."""
    n, sides = world.images, []
    images = rng.standard_normal(n)
    for count, lead in zip(world.seeds, (world.lead, 0.0), strict=True):
        seed = 1 - rng.exponential(size=count) if world.kind == SKEWED else rng.standard_normal(count)
        latent = world.base + lead + world.spread * seed[:, None] + images + CHANCE * rng.standard_normal((count, n))
        sides.append((latent > 0) / n)
    return seeds.Moves(np.arange(n), *sides, growth=0.9)


def truth(world: World) -> float:
    """Return the difference of accuracy over all seeds and images."""
    return _accuracy(world, world.lead) - _accuracy(world, 0.0)


def _accuracy(world: World, lead: float) -> float:
    level, rest = world.base + lead, math.sqrt(1 + CHANCE**2)
    if world.kind == "normal":
        return float(scipy.special.ndtr(level / math.hypot(rest, world.spread)))
    fails, weights = np.polynomial.laguerre.laggauss(60)
    return float(weights @ scipy.special.ndtr((level + world.spread * (1 - fails)) / rest))


class Held(NamedTuple):
    """Shares of repeats: covered by the interval; alarms: a difference found, on the side where it is more often."""

    covered: float
    alarms: float
    found: float


def simulate(world: World, repeats: int, rng: np.random.Generator) -> Held:
    """Return how often interval and test hold. alarms: of recipes that are equal in truth, at 0.05 two-sided."""
    real, covered, found = truth(world), [], []
    for _ in range(repeats):
        test = seeds.compare([drawn(world, rng)], rng).test
        assert test, "a world has as many seeds as are tested"
        covered.append(test.low <= real <= test.high)
        found.append(test.p_value <= 0.05)
    share = float(np.mean(found))
    return Held(float(np.mean(covered)), share if world.lead == 0 else 0.0, share)


def bootstrap(moves: seeds.Moves, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the differences (draws,) of a hierarchical bootstrap: seeds drawn again, then images."""
    n, values = moves.first.shape[1], []
    for _ in range(draws):
        gaps = np.zeros(n)
        for sign, side in ((1, moves.first), (-1, moves.second)):
            gaps += sign * side[rng.integers(len(side), size=len(side))].mean(axis=0)
        values.append(gaps[rng.integers(n, size=n)].sum())
    return np.array(values)


def percentile_coverage(world: World, repeats: int, rng: np.random.Generator) -> float:
    """Return how often the middle 95 % of a hierarchical bootstrap hold the truth."""
    real, covered = truth(world), []
    for _ in range(repeats):
        low, high = np.quantile(bootstrap(drawn(world, rng), 400, rng), [0.025, 0.975])
        covered.append(low <= real <= high)
    return float(np.mean(covered))


def main() -> None:
    """Print a line per world."""
    for world in WORLDS:
        held = simulate(world, 300, np.random.default_rng(0))
        percentiles = percentile_coverage(world, 100, np.random.default_rng(0))
        said = f"covered {held.covered:.3f} (percentiles {percentiles:.3f}), found {held.found:.3f}"
        print(f"{world}: {said}", flush=True)


if __name__ == "__main__":
    main()
