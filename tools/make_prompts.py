"""Makes classnames.json, templates.json and synsets.json from the installed clip-benchmark (1.6.2).

    python -m tools.make_prompts [FOLDER]

English only. A string in place of a list means "the same list as". Names that clip-benchmark takes from the data
itself (CIFAR, ObjectNet, torchvision's others) are not in it: those loaders bring their own.
"""

from __future__ import annotations

import ast
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cocabench.data import prompts

ROBUSTNESS = ("imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r")
SUBSETS = {"imagenet-a": "imagenet_a_wnids", "imagenet-r": "imagenet_r_wnids", "imagenet-o": "imagenet_o_wnids"}


def clip_benchmark_folder() -> Path:
    """Return the folder of clip-benchmark's data set code, without importing it (it imports torch)."""
    package = find_spec("clip_benchmark")
    if package is None or package.origin is None:
        raise SystemExit("clip-benchmark is not installed")
    return Path(package.origin).parent / "datasets"


def constants(source: str) -> dict[str, Any]:
    """Return the literal lists and sets that a module or its functions assign to names."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {file stem: content}. The subsets keep ImageNet's order, as clip-benchmark's masks do."""
    names = json.loads((folder / "en_classnames.json").read_text(encoding="utf-8"))
    texts = json.loads((folder / "en_zeroshot_classification_templates.json").read_text(encoding="utf-8"))
    known = constants((folder / "builder.py").read_text(encoding="utf-8"))
    every = known["all_imagenet_wordnet_ids"]
    subsets = {name: [one for one in every if one in set(known[key])] for name, key in SUBSETS.items()}
    by_id = dict(zip(every, names["imagenet1k"], strict=True))
    same = dict.fromkeys(("imagenetv2", "imagenet_sketch"), "imagenet1k")
    return {
        "classnames": names | same | {name: [by_id[one] for one in ids] for name, ids in subsets.items()},
        "templates": texts | dict.fromkeys((*ROBUSTNESS, "imagenet-o", "objectnet"), "imagenet1k"),
        "synsets": {"imagenet1k": every} | same | subsets,
    }


def main(folder: Path) -> None:
    """Write the three files into a folder."""
    for stem, table in tables(clip_benchmark_folder()).items():
        text = json.dumps(table, indent=1, ensure_ascii=False)
        (folder / f"{stem}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(prompts.__file__).parent)
