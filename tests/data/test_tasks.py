"""The shipped task files: each fits its loader, and says its standard protocol."""

from pathlib import Path
from typing import Any

import pytest

from cocabench.data.fingerprint import fingerprint
from cocabench.data.prompts import class_names, templates
from cocabench.specs.registry import entry, task_folders
from cocabench.specs.spec import TaskSpec, read_toml

FILES = sorted(task_folders()[0].rglob("*.toml"))
KINDS = [file.relative_to(task_folders()[0]).parts[0] for file in FILES]
NAMES = [
    file.relative_to(task_folders()[0] / kind).with_suffix("").as_posix()
    for file, kind in zip(FILES, KINDS, strict=True)
]
WANTED = {
    "classification": [
        "imagenet1k", "imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet", "cifar10", "cifar100",
    ],
    "retrieval": ["flickr30k", "flickr8k", "mscoco_captions"],
    "composition": [
        f"{group}/{kind}"
        for group in ("sugar_crepe", "sugar_crepe_likelihood")
        for kind in ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    ] + ["winoground", "winoground_likelihood"],
    "captioning": ["coco_karpathy_val", "coco_karpathy_test", "nocaps_val", "flickr30k_captions"],
}  # fmt: skip


def spec(file: Path) -> TaskSpec:
    return TaskSpec.model_validate(read_toml(file))


def loader(task: TaskSpec) -> Any:
    return entry("datasets", task.loader).model_validate({k: v for k, v in task.data.items() if k != "loader"})


def test_the_promised_tasks_are_there() -> None:
    assert not {name for names in WANTED.values() for name in names} - set(NAMES)
    assert all(
        (task_folders()[0] / kind / f"{name}.toml").is_file() for kind, names in WANTED.items() for name in names
    )


@pytest.mark.parametrize(("file", "kind", "name"), list(zip(FILES, KINDS, NAMES, strict=True)), ids=NAMES)
def test_each_fits_its_loader_and_names_shipped_prompts(file: Path, kind: str, name: str) -> None:
    task = spec(file)
    loader(task)
    assert task.name == name
    assert kind in task.groups
    of_texts = ("retrieval", "captioning", "efficiency", "image_caption_selection")
    assert task.expect.images or task.loader == "sugar_crepe"
    assert task.expect.texts if task.evaluator in of_texts else task.expect.classes
    if names := task.params.get("classnames"):
        assert len(class_names(names)) == task.expect.classes
    if found := task.params.get("templates"):
        assert templates(found)
    if task.loader not in ("emoji", "synthetic"):
        assert task.data["source"]


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "demo"], ids=lambda f: f.stem)
def test_the_demos_counts_are_what_it_says(file: Path) -> None:
    task = spec(file)
    found = fingerprint(loader(task).build(Path()))
    expected = {k: v for k, v in task.expect.model_dump().items() if v is not None}
    assert {k: found[k] for k in expected} == expected


def test_the_nine_groups_and_five_more_are_the_demo() -> None:
    assert sum(file.parent.name == "demo" for file in FILES) == 14


def test_robustness_is_clip_benchmarks_collection() -> None:
    robust = {file.stem for file in FILES if "imagenet_robustness" in spec(file).groups}
    assert robust == {"imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet"}
