"""Good files of decisions between models: exported towers, prompts, and images that were in the training data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.bad_input_commands import SYNTHETIC, ran, tree
from tests.bad_input_sets import CLASSIFICATION, RETRIEVAL, RUN, _json, _tar, _task, image
from tests.bad_inputs import Target, Tree
from tests.models.test_exported import CONFIG, by_hand


def models(shared: Path, clip: str) -> dict[str, Target]:
    return {**exported(shared), "prompts of several names": prompts(shared, clip), "overlap": overlap(shared, clip)}


class Pixels(nn.Module):
    """An image tower: a mean color, in as many numbers as the text tower returns."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3)).repeat(1, 2)


class Words(nn.Module):
    """A text tower: a row for each token id, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 6 * 8).view(8, 6))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens % 8].mean(1)


def exported(shared: Path) -> dict[str, Target]:
    """Towers as ONNX graphs and as archives of torch.export."""
    by_hand(shared / "onnx")
    graphs = {f"m/{path}": content for path, content in tree(shared / "onnx").items()}
    archives: Tree = {f"m/{CONFIG}": (shared / "onnx" / CONFIG).read_bytes()}
    towers: dict[str, tuple[nn.Module, Tensor]] = {
        "image": (Pixels(), torch.zeros(2, 3, 32, 32)),
        "text": (Words(), torch.zeros(2, 16, dtype=torch.long)),
    }
    for name, (tower, example) in towers.items():
        file = io.BytesIO()
        torch.export.save(torch.export.export(tower.eval(), (example,)), file)
        archives[f"m/{name}.pt2"] = file.getvalue()
    spec = _task(*RETRIEVAL, SYNTHETIC)
    return {
        library: Target({**own, "t.toml": spec}, tuple(own), (words, f"{words} --dry-run"))
        for library, own in (("onnx", graphs), ("torch_export", archives))
        for words in [f"{RUN} --model {library}::{{d}}/m"]
    }


def prompts(shared: Path, clip: str) -> Target:
    """Templates and class names in files, and what was measured with them."""
    images = {f"x/n{k}/{k}.jpg": image("JPEG", k) for k in range(3)}
    spec = _task(*CLASSIFICATION, 'loader = "imagefolder"\npath = "x"', 'templates = "cifar10"')
    named: Tree = {
        "t.json": _json(["a {c}.", "the {c}."]), "t.txt": b"one {c}\n{c}\n",
        "c.json": _json(["cat", "dog", "cow"]), "c.txt": b"n0\nn1\nn2\n",
    }  # fmt: skip
    run = f"{RUN} {clip} --templates own,{{d}}/t.json,{{d}}/t.txt --classnames {{d}}/c.txt,own"
    ran(shared / "prompts", {**images, **named, "t.toml": spec}, run)
    done = {f"r/{path}": content for path, content in tree(shared / "prompts" / "out").items()}
    files = {**images, **named, **done, "t.toml": spec}
    damaged = (*named, *named, *named, *done, "t.toml")
    views = (f"compare {{d}}/r --prompts {more}".strip() for more in ("", "--json", "--figure {o}", "--format csv"))
    return Target(files, damaged, (run, f"{run} --dry-run", run.replace("c.txt", "c.json"), *views))


def overlap(shared: Path, clip: str) -> Target:
    """Shards of training images, results, and the file of the images that are in both."""
    images = {f"x/{k}.jpg": image("JPEG", k) for k in range(3)}
    rows = [{"filepath": f"{k}.jpg", "title": f"a thing {k}"} for k in range(3)]
    table = "\n".join(map(json.dumps, rows)).encode()
    spec = _task(*RETRIEVAL, 'loader = "jsonl"\npath = "x/x.jsonl"')
    shard = _tar({"a.jpg": images["x/1.jpg"], "a.txt": b"a", "b.png": image("PNG", 9), "b.txt": b"b"})
    files = {**images, "x/x.jsonl": table, "t.toml": spec, "train/0.tar": shard}
    find = "data overlap --train {d}/train --tasks {d}/t.toml --data-root {d} --output {o}/overlap.json"
    ran(shared / "overlap", files, f"{RUN} {clip}")
    ran(shared / "overlap", files, find)
    found = tree(shared / "overlap" / "out")
    file = {"o.json": found.pop("overlap.json")}
    results = {f"r/{path}": content for path, content in found.items()}
    compare = "compare {d}/r --overlap {d}/o.json"
    damaged = ("train/0.tar", "train/0.tar", *["o.json"] * 6, "t.toml", "x/x.jsonl", "x/1.jpg", *results)
    views = (compare, f"{compare} --json --all-metrics", f"{compare} --figure {{o}}", f"{compare} --format markdown")
    return Target({**files, **file, **results}, damaged, (find, f"{find} --distance 0", *views))
