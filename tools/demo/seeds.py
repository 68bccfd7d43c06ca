"""What the seeds say: `python -m tools.demo.seeds RUNS --results RUNS/results [--out FILE]`.

RUNS/results comes from `cocabench run` over the run folders, so that the suite itself has measured them.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t

from cocabench.core.types import Record
from cocabench.demo import GROUPS, HOME
from cocabench.results.store import load

NAMING = {f"emoji_{group.replace('-', '_')}": group for group in GROUPS}
NAMED = "naming, mean of nine groups"
METRICS = {
    ("emoji_retrieval", "t2i_recall@5"): "t2i R@5",
    ("emoji_retrieval", "i2t_recall@5"): "i2t R@5",
    ("emoji_retrieval", "t2i_recall@1"): "t2i R@1",
    ("emoji_retrieval", "i2t_recall@1"): "i2t R@1",
    ("emoji_subgroups", "acc1"): "subgroup",
    ("emoji_captions", "CIDEr"): "CIDEr",
}
"""Columns of the table; `NAMED` comes beside them."""

PAIRS = (("coca", "clip"), ("coca-captioner", "coca"))
"""Which models are compared, seed by seed: the first minus the second."""

Values = dict[str, dict[str, dict[int, float]]]
"""Model -> column -> seed -> value."""


class Mean(NamedTuple):
    """Mean over seeds, with the 95 % t interval of the mean; half is None with fewer than two seeds."""

    mean: float
    half: float | None
    n: int


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of independent runs and half the width of its 95 % interval (Student's t, n - 1 degrees).

    [1, 2, 3] gives 2 with half 4.303 / sqrt(3) = 2.484.
    """
    n = len(values)
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / n**0.5 if n > 1 else None
    return Mean(fmean(values), half, n)


def values(records: Iterable[Record]) -> Values:
    """Sort the suite's Records of the folders NAME-SEED by model, column and seed."""
    found: Values = defaultdict(lambda: defaultdict(dict))
    groups: dict[tuple[str, int], list[float]] = defaultdict(list)
    for record in records:
        run = re.search(r"([a-z-]+)-(\d+)$", record.model)
        if run is None:
            continue
        name, seed = run[1], int(run[2])
        for metric, estimate in record.metrics.items():
            column = METRICS.get((record.task, metric))
            if column and estimate.value is not None:
                found[name][column][seed] = estimate.value
        acc1 = record.metrics["acc1"].value if record.task in NAMING else None
        if acc1 is not None:
            groups[name, seed].append(acc1)
    for (name, seed), accuracies in groups.items():
        found[name][NAMED][seed] = fmean(accuracies)
    return found


def differences(found: Values) -> dict[str, dict[str, Mean]]:
    """Return, for each of PAIRS, the mean paired difference over the seeds that both have of a column."""
    return {
        f"{first} - {second}": {
            column: mean([of_first[seed] - found[second][column][seed] for seed in common])
            for column, of_first in found[first].items()
            if (common := sorted(of_first.keys() & found[second].get(column, {}).keys()))
        }
        for first, second in PAIRS
        if first in found and second in found
    }


def table(found: Values) -> str:
    """Return a Markdown table: a row per model, the mean and its interval; then the differences. R@K and acc1 in %."""
    columns = [*dict.fromkeys([*METRICS.values(), NAMED])]
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    rows: dict[str, Mapping[str, Mean]] = {
        name: {column: mean([seeds[seed] for seed in sorted(seeds)]) for column, seeds in found[name].items()}
        for name in sorted(found)
    }
    for name, cells in {**rows, **differences(found)}.items():
        texts = (_cell(cells[column], column, signed=" - " in name) if column in cells else "" for column in columns)
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Mean, column: str, *, signed: bool) -> str:
    scale, digits = (1, 2) if column == "CIDEr" else (100, 1)
    sign = "+" if signed else ""
    half = "" if value.half is None else f" ± {value.half * scale:.{digits}f}"
    return f"{value.mean * scale:{sign}.{digits}f}{half}"


def main() -> None:
    """Write seeds.json and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.seeds", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the output folder of `cocabench run`")
    parser.add_argument("--out", type=Path, default=HOME / "models" / "seeds.json")
    args = parser.parse_args()
    found = values(load(args.results))
    rounded: dict[str, Any] = {
        name: {column: {str(seed): round(seeds[seed], 4) for seed in sorted(seeds)} for column, seeds in cells.items()}
        for name, cells in sorted(found.items())
    }
    args.out.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
