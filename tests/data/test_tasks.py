"""The shipped task files: each fits its loader, and says its standard protocol."""

from pathlib import Path

from cocabench.data.base import fingerprint
from cocabench.data.prompts import class_names, templates
from cocabench.specs.registry import all_tasks, task_folders

FOLDER = task_folders()[0]
TASKS = {name: task for name, task in all_tasks().items() if task.path.is_relative_to(FOLDER)}
DEMO = {name: task for name, task in TASKS.items() if task.path.relative_to(FOLDER).parts[0] == "demo"}
PROMISED = [
    "imagenet1k", "imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet", "cifar10", "cifar100",
    "flickr30k", "flickr8k", "mscoco_captions",
    *(
        f"{group}/{subset}"
        for group in ("sugar_crepe", "sugar_crepe_likelihood")
        for subset in ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    ),
    "winoground", "winoground_likelihood",
    *(
        f"{group}{suffix}/{subset}"
        for suffix in ("", "_likelihood", "_likelihood_gain")
        for group, subset in (
            ("aro", "vg_relation"), ("aro", "vg_attribution"), ("aro", "coco_order"), ("aro", "flickr30k_order"),
            ("negbench", "coco_mcq"), ("negbench", "voc2007_mcq"), ("valse", "existence"), ("valse", "foil-it"),
        )
    ),
    *(
        f"{name}{suffix}"
        for name in ("mmvp_vlm", "colorswap", "cola")
        for suffix in ("", "_likelihood", "_likelihood_gain")
    ),
    "cola_single", "eccv_caption", "cxc", "coco_1k", "imagenet1k_likelihood", "pets_likelihood_gain",
    "coco_karpathy_val", "coco_karpathy_test", "nocaps_val", "flickr30k_captions",
]  # fmt: skip


BY_FOLDER = ("faces",)
"""Kinds whose number of classes no source states: the folder's own."""

UNCOUNTED = ("valse",)
"""Loaders of data whose size no source that we could read states."""


def in_group(group: str) -> set[str]:
    return {name for name, task in TASKS.items() if group in task.spec.groups}


def test_the_promised_tasks_are_there() -> None:
    assert not set(PROMISED) - set(TASKS)


def test_each_is_in_its_folders_group_and_says_counts_and_source() -> None:
    for name, task in TASKS.items():
        spec = task.spec
        assert task.path.relative_to(FOLDER).parts[0] in spec.groups, name
        counts, loaders = spec.expect.model_dump(), ("sugar_crepe", "aro", "negbench", "valse", "cola_single")
        assert spec.expect.images or counts.get("items") or spec.loader in loaders, name
        if spec.evaluator not in BY_FOLDER and spec.loader not in UNCOUNTED and not counts.get("items"):
            assert spec.expect.classes if "classes" in task.kind.counted else spec.expect.texts, name
        assert all(spec.expected(split)["images"] for split in task.kind.extra_data()), name
        assert spec.loader in ("emoji", "synthetic") or spec.data["source"], name


def test_shipped_prompts_exist_and_class_names_are_as_many_as_classes() -> None:
    for name, task in TASKS.items():
        if names := task.spec.params.get("classnames"):
            assert len(class_names(names)) == task.spec.expect.classes, name
        if found := task.spec.params.get("templates"):
            assert templates(found), name


def test_the_demos_counts_are_what_it_says() -> None:
    for name, task in DEMO.items():
        data = task.loader.build(Path())
        found = {**fingerprint(data), **task.kind.counts(data)}
        found |= {key: len(task.with_split(split).build(Path())) for key, split in task.kind.extra_data().items()}
        expected = {key: value for key, value in task.spec.expect.model_dump().items() if value is not None}
        expected |= {key: value["images"] for key, value in expected.items() if isinstance(value, dict)}
        assert {key: found[key] for key in expected} == expected, name


def test_the_nine_groups_six_more_and_eight_languages_are_the_demo() -> None:
    assert len(DEMO) == 15 + 8
    assert in_group("demo") == set(DEMO)


def test_every_set_of_vtab_plus_with_a_training_split_has_a_probe_with_its_zero_shot_counts_and_prompts() -> None:
    """Of the others, ImageNet's relatives have test images only, SUN397 is read as a whole, the rest is multi-label."""
    without = {"imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-o", "imagenet-r", "objectnet", "sun397"}
    sets = {name for name in in_group("vtab+") - without if not TASKS[name].spec.params.get("multilabel")}
    assert {f"{name}_probe" for name in sets} == in_group("vtab+_probe")
    for name in sets:
        own, probe = TASKS[name].spec, TASKS[f"{name}_probe"].spec
        assert (own.primary, own.expect.images) == (probe.primary, probe.expect.images), name
        same = ("classnames", "templates")
        assert [own.params.get(key) for key in same] == [probe.params.get(key) for key in same], name
    assert in_group("vtab+").isdisjoint(in_group("probe")), "zero-shot groups stay zero-shot"


def test_robustness_is_clip_benchmarks_collection() -> None:
    assert in_group("imagenet_robustness") == {
        "imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet",
    }  # fmt: skip
