"""A whole run, against clip_benchmark's command line and, for captions, open_clip's generate.

python -m benchmarks run [--json] [--images 16] [--model coca_ViT-B-32]

Classification, retrieval and captioning on one small set, from a checkpoint file with random weights, fp32 on both
sides. Ours is ``cocabench run`` with an empty cache, BLEU, intervals, thumbnails and results on disk included; theirs
is ``clip_benchmark eval`` twice and CoCa.generate with its defaults, without any metric of the captions, on the
packages of benchmarks/pinned.py. acc1 and recall@5 must agree.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import pinned, small_set
from benchmarks.sides import Options, Row, Work


def ours(options: Options) -> Work:
    """One ``cocabench run``."""
    from cocabench import cli, load

    root = _prepared(options)
    tasks = ",".join(str(root / f"{name}.toml") for name in ("classes", "find", "tell"))
    arguments = ["run", "--model", f"{options.model}:{root / 'model.pt'}", "--tasks", tasks, "--data-root", str(root)]

    def work() -> Any:
        _main(cli.main, [*arguments, "--output", str(root / "results"), "--no-cache", "--device", "cpu", "--quiet"])
        metrics = {record.task: record.metrics for record in load(root / "results")}
        return [metrics["classes"]["acc1"].value, *(metrics["find"][f"{way}_recall@5"].value for way in ("t2i", "i2t"))]

    return work


def theirs(options: Options) -> Work:
    """clip_benchmark eval, clip_benchmark eval, CoCa.generate."""
    from clip_benchmark import cli

    root = _prepared(options)
    common = ["eval", "--model", options.model, "--pretrained", str(root / "model.pt"), "--no_amp"]

    def evaluate(name: str, task: str) -> dict[str, float]:
        output = root / f"{name}.json"
        where = ["--dataset", f"wds/{name}", "--dataset_root", str(root / name), "--task", task, "--num_workers", "0"]
        _main(cli.main, [*common, *where, "--output", str(output)])
        return dict(json.loads(output.read_text())["metrics"])

    def work() -> Any:
        classes = evaluate("classes", "zeroshot_classification")
        captions = evaluate("captions", "zeroshot_retrieval")
        _generate(options, root)
        return [classes["acc1"], captions["image_retrieval_recall@5"], captions["text_retrieval_recall@5"]]

    return work


def _generate(options: Options, root: Path) -> None:
    """Caption the images as clip_benchmark's captioning would, were its import not broken."""
    import open_clip
    import torch
    from clip_benchmark.datasets.builder import build_dataset

    model, _, transform = open_clip.create_model_and_transforms(options.model, pretrained=str(root / "model.pt"))
    images = build_dataset("wds/captions", root=str(root / "captions"), transform=transform, task="captioning")
    model.eval().generate(torch.stack([image for image, _ in images]))


def _prepared(options: Options) -> Path:
    """Write the data and a checkpoint with random weights."""
    import torch

    from benchmarks.peers import random_model

    root = small_set.write(small_set.folder(), options.images)
    torch.save(random_model(options).net.state_dict(), root / "model.pt")
    return root


def _main(main: Any, arguments: list[str]) -> None:
    """Call a command line's main in this process, its prints on stderr."""
    from contextlib import redirect_stdout

    before, sys.argv = sys.argv, ["command", *arguments]
    try:
        with redirect_stdout(sys.stderr):
            main()
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{arguments} ended with {stop.code}") from None
    finally:
        sys.argv = before


ROW = Row(
    name="run",
    what="classification, retrieval and captions of {images} images, {model}, random weights, fp32",
    against="clip_benchmark eval twice and open_clip's CoCa.generate",
    target=5,
    ours=ours,
    theirs=theirs,
    tolerance=1e-6,
    arguments={"--model": "coca_ViT-B-32", "--images": 16},
    environment=pinned.environment,
    repeats=1,
)

if __name__ == "__main__":
    ROW.main()
