"""What a training starts from: `python -m cocabench.train.start MODEL [--weights FILE] [--architecture FILE]`.

open_clip leaves CoCa's output projection uninitialised (3.3.0, ``torch.empty``) and trains from what the memory held;
here every parameter has its value, and the seed gives the same file again.
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from cocabench.core.errors import UsageError
from cocabench.models.open_clip.blueprint import Blueprint, blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.models.open_clip.config import Config
from cocabench.results.store import write_atomically
from cocabench.specs.spec import parse_model


def changed(plan: Blueprint, changes: Config) -> Blueprint:
    """Return the plan with a recipe's changes to its architecture, tables merged."""
    config = deepcopy(plan.config)
    for key, value in changes.items():
        before = config.get(key)
        if before is not None and isinstance(value, dict) != isinstance(before, dict):
            raise UsageError(f"architecture.{key}", f"{value!r}", wanted=f"something like {before!r}")
        config[key] = {**(before or {}), **value} if isinstance(value, dict) else value
    return replace(plan, config=config)


def write_weights(plan: Blueprint, path: Path) -> None:
    """Write the weights of a plan as safetensors: random ones, by its seed, or those of its file or shards."""
    state = build_network(plan).state_dict()
    whole = {name: value.contiguous().clone() for name, value in state.items()}
    write_atomically(path, lambda temporary: save_file(whole, temporary))


def write_architecture(plan: Blueprint, path: Path) -> None:
    """Write an architecture as --model of `cocabench run` and the launcher read it."""
    text = json.dumps({"model_cfg": plan.config, "preprocess_cfg": plan.preprocess}, indent=1)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def main() -> None:
    """Write what the flags name."""
    parser = argparse.ArgumentParser(prog="python -m cocabench.train.start", description=__doc__)
    parser.add_argument("model", help="as --model of `cocabench run` takes it")
    parser.add_argument("--changes", type=json.loads, default={}, help="JSON, to be merged into the architecture")
    parser.add_argument("--architecture", type=Path, help="where to write the architecture")
    parser.add_argument("--weights", type=Path, help="where to write the weights")
    args = parser.parse_args()
    plan = changed(blueprint(parse_model(args.model)), args.changes)
    if args.architecture:
        write_architecture(plan, args.architecture)
    if args.weights:
        write_weights(plan, args.weights)


if __name__ == "__main__":
    main()
