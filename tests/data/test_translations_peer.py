"""clip-benchmark itself on the same files, live: retrieval in two languages, and Babel-ImageNet's names and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.types import Context, Model
from cocabench.data.prompts import synsets
from cocabench.metrics.base import estimate, stack
from cocabench.specs.registry import find_tasks
from tests.data.drawing import write
from tests.data.standard_sets import number_of, picture
from tests.data.test_standard_sets_peer import folder, ours, theirs

__all__ = ["folder", "ours", "theirs"]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
WORDS = {
    "de": ("Hund", "Katze", "Zug", "Straße", "läuft", "grün"),
    "jp": ("犬", "猫", "列車", "通り", "走る", "緑"),
}
IMAGES = 40


def xtd10(root: Path) -> None:
    """A small set, as its repository has it and as clip-benchmark's download leaves it."""
    names = [f"COCO_val2014_{k:012}.jpg" for k in range(IMAGES)]
    for k, name in enumerate(names):
        picture(root / "xtd10/images" / name, 7 * k)
    write(root / "xtd10/test_image_names.txt", "\n".join(names))
    for code, words in WORDS.items():
        captions = [" ".join(words[(k // 6**i) % 6] for i in range(3)) for k in range(IMAGES)]
        write(root / f"xtd10/test_1kcaptions_{code}.txt", "\n".join(captions))
        content = {"image_paths": [str(root / "xtd10/images" / name) for name in names], "annotations": captions}
        write(root / f"xtd10-{code}.json", json.dumps(content, ensure_ascii=False))


@pytest.mark.parametrize("code", sorted(WORDS))
def test_retrieval_in_two_languages_is_clip_benchmarks(
    code: str, ours: Model, theirs: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    import torch
    from clip_benchmark.datasets.builder import build_dataset, image_captions_collate_fn
    from clip_benchmark.metrics import zeroshot_retrieval

    xtd10(tmp_path)
    model, transform, tokenizer = theirs
    settings = {"transform": transform, "language": code, "task": "zeroshot_retrieval", "download": False}
    items = build_dataset("xtd10", root=str(tmp_path), **settings)
    batches = torch.utils.data.DataLoader(items, 16, collate_fn=image_captions_collate_fn)
    wanted = zeroshot_retrieval.evaluate(model, batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
    (task,) = find_tasks([f"xtd10/{code}"])
    data = task.loader.build(tmp_path)
    table = stack(task.kind.score(ours, data, Context()))
    names = {"image": "t2i", "text": "i2t"}
    found = {metric.name: estimate(metric, table).value for metric in task.kind.metrics(data)}
    for name, value in wanted.items():
        direction, recall = name.split("_retrieval_")
        assert found[f"{names[direction]}_{recall}"] == pytest.approx(value, abs=1e-6), name
    assert 0 < wanted["image_retrieval_recall@10"] < 1


def test_babel_imagenet_has_clip_benchmarks_names_templates_and_labels(tmp_path: Path) -> None:
    import torch
    from clip_benchmark.datasets.builder import build_dataset

    top = tmp_path / "imagenet1k"
    for k, synset in enumerate(synsets("imagenet1k")):
        picture(top / f"val/{synset}/ILSVRC2012_val_{k + 1:08}.JPEG", k)
    torch.save(({name: (name,) for name in synsets("imagenet1k")}, []), top / "meta.bin")
    for code in ("DE", "OM"):
        items = build_dataset("babel_imagenet", root=str(top), transform=number_of, language=code, download=False)
        (task,) = find_tasks([f"babel_imagenet/{code}"])
        data = task.loader.build(tmp_path)
        assert (list(data.classes), list(data.templates)) == (items.classes, items.templates)
        found = sorted((number_of(example.image.open()), example.label) for example in data.examples)
        assert found == sorted(items[i] for i in range(len(items)))
