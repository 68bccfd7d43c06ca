"""Ship what was trained: `python -m tools.demo.ship RUNS`: the models of seed 0, every run's log, and a figure."""

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cocabench.demo import MODELS, PAIR, model_folder
from tools.demo.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from tools.demo.configs import MERGES_FILE
from tools.demo.recipes import SHIPPED

LOG = "training_log.json"
FIGURE = "training.svg"
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


def copy_models(runs: Path) -> None:
    """Put the checkpoints of the seed that was chosen beforehand where `model_folder` says."""
    for name in MODELS:
        folder = model_folder(name)
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


def main() -> None:
    """Copy, write, draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.ship", description=__doc__)
    parser.add_argument("runs", type=Path, help="what demo.train wrote")
    args = parser.parse_args()
    logs = read_logs(args.runs)
    copy_models(args.runs)
    write_logs(model_folder("coca").parent / LOG, logs)
    draw(logs, model_folder("coca").parent / FIGURE)


if __name__ == "__main__":
    main()
