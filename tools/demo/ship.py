"""Ship what was trained: `python -m tools.demo.ship RUNS [--results RUNS/results]`.

Copies the models of seed 0 if RUNS has them, adds every run's log to those shipped before and draws them all.
RUNS/results, where `cocabench run` over the run folders wrote its results, also adds the seeds' values to seeds.json
and prints the table of data/README.md: the suite itself measures the seeds.
"""

import argparse
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t

from cocabench.core.types import Record
from cocabench.demo import GROUPS, MODELS, PAIR, model_folder
from cocabench.results.store import load
from tools.demo.model import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE
from tools.demo.recipes import SHIPPED

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


LOG = "training_log.json"
FIGURE = "training.svg"
SEEDS_FILE = "seeds.json"
COLOURS = {"coca": "#0072B2", "clip": "#D55E00"}
"""Okabe and Ito's blue and vermilion, which colour-blind readers can tell apart."""

PANELS = {
    "contrastive_loss": "contrastive loss (nats)",
    "caption_loss": "caption loss, weight 2 (nats)",
    "t2i_recall@5": "R@5 on Twemoji, text to image (%)",
}

Logs = dict[str, dict[str, Any]]
"""Model -> seed -> what its run's log.json holds."""


def read_logs(runs: Path) -> Logs:
    """Return the logs of all finished runs NAME-SEED."""
    logs: Logs = defaultdict(dict)
    for path in sorted(runs.glob("*-[0-9]*/log.json")):
        name, _, seed = path.parent.name.rpartition("-")
        logs[name][seed] = json.loads(path.read_text(encoding="utf-8"))
    return dict(logs)


def joined(held: Any, new: Any) -> Any:
    """Return two nested mappings as one; where both have a key, and not mappings there, the second's value stands."""
    if not (isinstance(held, Mapping) and isinstance(new, Mapping)):
        return new
    return {**held, **{key: joined(held.get(key), value) for key, value in new.items()}}


def copy_models(runs: Path) -> None:
    """Put the checkpoints of the seed that was chosen beforehand where `model_folder` says, if they are in runs."""
    for name in MODELS:
        folder = model_folder(name)
        if not (runs / f"{name}-{SHIPPED}" / WEIGHTS_FILE).is_file():
            print(f"demo/{name}: {runs} has no seed {SHIPPED}; the checkpoint stays")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for file in (CONFIG_FILE, WEIGHTS_FILE, MERGES_FILE):
            shutil.copyfile(runs / f"{name}-{SHIPPED}" / file, folder / file)


def write_logs(path: Path, logs: Logs) -> None:
    """Write all logs as one JSON file, a line of it per line of a log."""
    parts = []
    for name, seeds in logs.items():
        runs = ",\n".join(f'  "{seed}": {_run(run)}' for seed, run in seeds.items())
        parts.append(f' "{name}": {{\n{runs}\n }}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _run(run: dict[str, Any]) -> str:
    lines = ",\n".join(f"    {json.dumps(line)}" for line in run["log"])
    return f'{{"settings": {json.dumps(run["settings"])},\n   "log": [\n{lines}]}}'


@matplotlib.rc_context({"svg.hashsalt": "cocabench", "svg.fonttype": "path", "font.family": "DejaVu Sans"})
def draw(logs: Logs, path: Path) -> None:
    """Draw each panel's curve of every seed of CoCa and CLIP; the shipped seed is the thick line."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for name in PAIR:
            for seed, run in logs.get(name, {}).items():
                _curve(axes, run["log"], key, COLOURS[name], thick=seed == str(SHIPPED))
            if any(key in line for run in logs.get(name, {}).values() for line in run["log"]):
                axes.plot([], [], color=COLOURS[name], label=f"demo/{name}")
        axes.set(xlabel="step", title=label, ylim=(0, None))
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _curve(axes: Axes, log: list[dict[str, float]], key: str, colour: str, *, thick: bool) -> None:
    points = [(line["step"], line[key] * (100 if "@" in key else 1)) for line in log if key in line]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, lw=2 if thick else 0.8, alpha=1 if thick else 0.6)


def read_seeds(path: Path) -> Values:
    """Return the values that `write_seeds` wrote."""
    return {
        name: {column: {int(seed): value for seed, value in seeds.items()} for column, seeds in cells.items()}
        for name, cells in json.loads(path.read_text(encoding="utf-8")).items()
    }


def write_seeds(path: Path, found: Values) -> None:
    """Write every seed's values, rounded, as JSON."""
    rounded: dict[str, Any] = {
        name: {column: {str(seed): round(seeds[seed], 4) for seed in sorted(seeds)} for column, seeds in cells.items()}
        for name, cells in sorted(found.items())
    }
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Copy, write, draw; with results, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.ship", description=__doc__)
    parser.add_argument("runs", type=Path, help="what tools.demo.train wrote")
    parser.add_argument("--results", type=Path, help="the output folder of `cocabench run` over the run folders")
    args = parser.parse_args()
    folder = model_folder("coca").parent
    logs = joined(json.loads((folder / LOG).read_text(encoding="utf-8")), read_logs(args.runs))
    copy_models(args.runs)
    write_logs(folder / LOG, logs)
    draw(logs, folder / FIGURE)
    if args.results:
        found = joined(read_seeds(folder / SEEDS_FILE), values(load(args.results)))
        write_seeds(folder / SEEDS_FILE, found)
        print(table(found))


if __name__ == "__main__":
    main()
