"""A small data set in clip_benchmark's webdataset layout, which both sides read: with classes and with captions."""

from __future__ import annotations

import atexit
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("tench", "goldfish", "hammerhead", "rooster", "hen", "ostrich", "junco", "robin", "jay", "magpie")
TEMPLATES = tuple(f"{kind} of {article} {{c}}." for kind in ("a photo", "a drawing", "art") for article in ("a", "the"))
CAPTIONS = 5

TASK = """
name = "{name}"
version = 1
evaluator = "{evaluator}"
summary = "A small set."
primary = "{primary}"
[data]
loader = "webdataset"
path = "{folder}"
[params]
{params}
"""


def folder() -> Path:
    """Return a new folder that is gone when this process ends."""
    made = Path(tempfile.mkdtemp(prefix="cocabench-benchmark-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def write(root: Path, images: int) -> Path:
    """Write root/classes and root/captions with the same images, and a task file for each kind of task."""
    pictures = [_jpeg(i) for i in range(images)]
    _shards(root / "classes", [{"jpg": p, "cls": str(i % len(CLASSES)).encode()} for i, p in enumerate(pictures)])
    (root / "classes" / "classnames.txt").write_text("\n".join(CLASSES))
    (root / "classes" / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES))
    _shards(root / "captions", [{"jpg": p, "txt": _captions(i).encode()} for i, p in enumerate(pictures)])
    (root / "captions" / "dataset_type.txt").write_text("retrieval")
    for name, evaluator, primary, where, params in (
        ("classes", "classification", "acc1", "classes", ""),
        ("find", "retrieval", "t2i_recall@5", "captions", "ks = [5]"),
        ("tell", "captioning", "BLEU@4", "captions", 'metrics = ["BLEU@4"]'),
    ):
        text = TASK.format(name=name, evaluator=evaluator, primary=primary, folder=where, params=params)
        (root / f"{name}.toml").write_text(text)
    return root


def _jpeg(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((320, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def _captions(i: int) -> str:
    name = CLASSES[i % len(CLASSES)]
    return "\n".join(f"A {name} number {i} stands on a field of kind {k}." for k in range(CAPTIONS))


def _shards(top: Path, samples: list[dict[str, bytes]]) -> None:
    (top / "test").mkdir(parents=True)
    (top / "test" / "nshards.txt").write_text("1")
    with tarfile.open(top / "test" / "0.tar", "w") as tar:
        for i, sample in enumerate(samples):
            for extension, content in sample.items():
                info = tarfile.TarInfo(f"{i:05}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
