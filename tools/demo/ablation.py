"""What made the demo's models better: `python -m tools.demo.ablation --training FILE --out RUNS [--seeds 0 1]`.

Trains CoCa and CLIP by changed recipes, with EmojiOne left out, and measures R@5 on it; what is done is left alone.
Then it writes ablation.json beside this file, and prints the table of the documentation's page on comparing recipes.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from cocabench.demo import PAIR
from tools.demo.recipes import RECIPES
from tools.demo.sources import STYLES
from tools.demo.train import Trainer

FILE = Path(__file__).with_name("ablation.json")
HELD_OUT = "emojione"


class Experiment(NamedTuple):
    """A changed recipe. changes: of `Settings`. models: those that it can change."""

    title: str
    changes: Mapping[str, Any]
    models: tuple[str, ...] = PAIR


EXPERIMENTS = {
    "one-style": Experiment("600 steps, one style of each emoji", {"steps": 600, "views": 1, "image_weight": 0.0}),
    "two-styles": Experiment("600 steps, two styles", {"steps": 600, "image_weight": 0.0}),
    "image-loss": Experiment("600 steps, two styles, loss between their images", {"steps": 600}),
    "captions-half": Experiment(
        "600 steps, the same, caption weight 0.5", {"steps": 600, "caption_weight": 0.5}, ("coca",)
    ),
    "long-one-style": Experiment("3,000 steps, one style of each emoji", {"views": 1, "image_weight": 0.0}),
}

Rates = dict[str, dict[str, dict[str, float]]]
"""Experiment -> model -> seed -> mean of R@5 in both directions, 0-1."""


def rates(runs: Path) -> Rates:
    """Return what the finished runs RUNS/EXPERIMENT/MODEL-SEED say after their last step."""
    found: Rates = defaultdict(lambda: defaultdict(dict))
    for key in EXPERIMENTS:
        for path in sorted((runs / key).glob("*-[0-9]*/log.json")):
            model, _, seed = path.parent.name.rpartition("-")
            last = json.loads(path.read_text(encoding="utf-8"))["log"][-1]
            found[key][model][seed] = round((last["i2t_recall@5"] + last["t2i_recall@5"]) / 2, 4)
    return {key: dict(models) for key, models in found.items()}


def table(found: Rates) -> str:
    """Return a Markdown table: R@5 of CoCa and of CLIP in %, means over seeds, and their difference, seed by seed."""
    lines = ["| recipe | seeds | CoCa | CLIP | CoCa - CLIP, each seed |", "| --- | --- | --- | --- | --- |"]
    for key, models in found.items():
        coca, clip = models.get("coca", {}), models.get("clip", {})
        pairs = ", ".join(f"{100 * (coca[seed] - clip[seed]):+.1f}" for seed in sorted(coca.keys() & clip.keys()))
        cells = [EXPERIMENTS[key].title, str(len(coca or clip)), _mean(coca), _mean(clip), pairs]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(seeds: Mapping[str, float]) -> str:
    return f"{100 * fmean(seeds.values()):.1f}" if seeds else ""


def main() -> None:
    """Train what is missing, write the file, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.ablation", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="what demo.build --training wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    styles = tuple(style for style in STYLES if style != HELD_OUT)
    for seed in args.seeds:
        for key in args.experiments:
            trainer = Trainer(args.training, args.out / key)
            for model in EXPERIMENTS[key].models:
                changes = dict(EXPERIMENTS[key].changes)
                trainer.run(model, replace(RECIPES[model], seed=seed, styles=styles, **changes))
            found = rates(args.out)
            FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(table(found), flush=True)


if __name__ == "__main__":
    main()
