"""The page "CLIP_benchmark and ours": every data set, collection, task and option of the installed clip-benchmark.

Its source is parsed, not imported. What is neither ours nor explained here is an error: no row can be forgotten.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path

from cocabench.core.formatting import table

SETS: Mapping[str, str] = {
    "imagenet1k-unverified": "`imagenet1k`: the loader `imagenet` reads folders of synsets as they lie",
    "tfds/…": "a task file with the loader `tfds`, which reads what tensorflow-datasets prepared, without TensorFlow",
    "wds/…": "the same names without `wds/`; other webdatasets by the loader `webdataset`",
    "dummy": "no: it tests CLIP_benchmark; `synthetic` is ours",
    "vtab/cars": "`cars`: VTAB's test split is the set's own",
    "vtab/food101": "`food101`: its 25,250 test images, of which VTAB's test split is made",
    "vtab/sun397": "`sun397`: torchvision's 108,754 images, which the collections name; of VTAB's split an export",
    **dict.fromkeys(
        (
            *(f"vtab/dsprites_label_{label}" for label in ("shape", "scale", "y_position")),
            *(f"vtab/smallnorb_label_{label}" for label in ("category", "lighting")),
        ),
        "no task, it is none of VTAB's 19: a task file with the loader `webdataset` reads its export",
    ),
    **dict.fromkeys(
        (
            *(f"vtab/kitti_count_{what}" for what in ("all", "left", "far", "near", "vehicles")),
            *(f"vtab/kitti_closest_object_{what}" for what in ("distance", "x_location")),
        ),
        "no: CLIP_benchmark itself ends with `Unsupported task`",
    ),
}
"""What a task of the same name does not answer."""

MODEL_TYPES: Mapping[str, str] = {
    "open_clip": "`--model NAME:TAG`",
    "ja_clip": "`japanese_clip::rinna/japanese-clip-vit-b-16`, by the plugin in `examples/japanese_clip`",
}

TASKS: Mapping[str, str] = {
    "zeroshot_classification": "kind `classification`",
    "zeroshot_retrieval": "kind `retrieval`",
    "linear_probe": "kind `probe` with `--param probe=clip_benchmark`",
    "captioning": "kind `captioning`",
    "image_caption_selection": "kind `image_caption_selection`",
    "auto": "always so: a task file names its kind",
}
OPTIONS: Mapping[str, str] = {
    "--dataset": "`--tasks`: names, groups, lists in `.txt` files",
    "--dataset_root": "`--data-root`, with `{dataset}` and `{dataset_cleaned}` where it is a URL",
    "--split": "`split` in the task file",
    "--test_split": "`split` in the task file",
    "--train_split": "`train` of the kind `probe`",
    "--val_split": "`val` of the kind `probe`",
    "--val_proportion": "`val_share` of the kind `probe`",
    "--model": "`--model NAME:TAG`, several with commas",
    "--pretrained": "`--model NAME:TAG`, `NAME:FILE`, `NAME:URL`",
    "--pretrained_model": "`--model LIST.txt`, whose lines may be `NAME,TAG`; no collections by name",
    "--task": "the task file's `evaluator`",
    "--no_amp": "`--precision fp32`",
    "--num_workers": "`--workers`",
    "--recall_k": "`ks` in the task file, or `--param ks=…`",
    "--fewshot_k": "`--param shots=…`",
    "--fewshot_epochs": "no: `probe=clip_benchmark` trains for its default, 10",
    "--fewshot_lr": "no: `probe=clip_benchmark` has its default, 0.1",
    "--skip_load": "no need: a model is loaded only if a feature is missing in the cache",
    "--distributed": "`--devices`, `--ray`, `cocabench submit`",
    "--seed": "`--seed`",
    "--batch_size": "`--batch-size`, or `auto`",
    "--normalize": "no: features always have length 1",
    "--model_cache_dir": "`HF_HOME` and open_clip's own cache folder",
    "--feature_root": "`--cache`",
    "--annotation_file": "`annotations` in the task file",
    "--custom_classname_file": '`classnames = "FILE"` or `"FILE#SET"` in the task file',
    "--custom_template_file": '`templates = "FILE"` or `"FILE#SET"` in the task file, CuPL\'s form too',
    "--dump_classnames": "no need: the task file names them, and the signature has their hash",
    "--dump_templates": "no need: as above",
    "--language": "`language` of the loader `clip_benchmark`, `classnames` and `templates` in the task file",
    "--output": "`--output DIR`; `cocabench export` writes other formats",
    "--quiet": "`--quiet`",
    "--save_clf": "no: text features are in the cache, of which classifiers are made in milliseconds",
    "--load_clfs": "no: the mean of models' weights is `--model 'avg(A,B)'`; means of classifiers are not offered",
    "--skip_existing": "always so; `--fresh` runs again",
    "--model_type": "a prefix, `LIBRARY::…`, of a plugin's entry point `cocabench.models`: see model types",
    "--wds_cache_dir": "`COCABENCH_CACHE`, with `COCABENCH_DATA_GB`, for a `--data-root` that is a URL",
    "build files": "`cocabench import FILE…`",
    "build --output": "`cocabench export`",
}
EXPORTED: Mapping[str, str] = {
    "--dataset": "no: the tasks of their names read what it wrote; `cocabench data webdataset` writes captioned sets "
    "to train on",
    "--split": "`--split` of `cocabench data webdataset`",
    "--dataset-root": "`--data-root` of `cocabench data webdataset`",
    "--output": "the argument of `cocabench data webdataset`",
    "--retrieval": "no need: always so",
    "--multilabel": "no: as `--dataset`",
    "--image-format": "no: images keep the bytes that they have",
    "--max-count": "`--samples` of `cocabench data webdataset`",
    "--max-size": "no: shards are cut by their number of images",
}
"""Options of its second command."""
COLLECTIONS: Mapping[str, str] = {
    "openai": "a list: `ViT-B-32:openai,ViT-B-16:openai,ViT-L-14:openai,ViT-L-14-336:openai`",
    "openclip_base": "a list in a `.txt` file",
    "openclip_multilingual": "`xlm-roberta-base-ViT-B-32,xlm-roberta-large-ViT-H-14`: their default tags",
    "openclip_all": "`cocabench list models` names them; a `.txt` file of those you want",
}


def page() -> str:
    """Return the page; KeyError names what has neither a task nor an explanation."""
    version = metadata.version("clip-benchmark")
    sections = [
        ("Data sets", ["its data set", "ours"], [[f"`{name}`", _set(name)] for name in sets()]),
        ("Collections of data sets", ["its collection", "ours"], [[f"`{n}`", _group(n)] for n in _keys("dataset")]),
        ("Collections of models", ["its collection", "ours"], [[f"`{n}`", COLLECTIONS[n]] for n in _keys("model")]),
        ("Tasks", ["its `--task`", "ours"], [[f"`{name}`", TASKS[name]] for name in tasks()]),
        ("Model types", ["its `--model_type`", "ours"], [[f"`{name}`", MODEL_TYPES[name]] for name in model_types()]),
        ("Options", ["its option", "ours"], [[f"`{name}`", OPTIONS[name]] for name in options()]),
        (
            "Options of clip_benchmark_export_wds",
            ["its option", "ours"],
            [[f"`{name}`", EXPORTED[name]] for name in exported()],
        ),
    ]
    head = (
        "# CLIP_benchmark and ours\n\nEvery data set, task and option of the package clip-benchmark "
        f"{version}, read from its source, and what stands for it here, or why nothing does. What changes in the "
        "numbers: [coming from CLIP_benchmark](../migration.md).\n"
    )
    return "\n".join([head, *(f"## {title}\n\n{table(header, rows, left=2)}" for title, header, rows in sections)])


def sets() -> list[str]:
    """Return the names that it builds data sets of; a … stands for names that begin so."""
    found = [name for name in _compared("build_dataset") if name != "vtab/…"]
    found += [f"vtab/{name}" for name in (*_compared("build_vtab_dataset"), *_vtab_tasks())]
    listed = [name for names in _collections("dataset").values() for name in names]
    spelled = {name for name in (*found, *listed) if not name.endswith("…")}
    begun = [name for name in found if name.endswith("…") and not any(one.startswith(name[:-1]) for one in spelled)]
    return sorted({*spelled, *begun})


def _vtab_tasks() -> Iterator[str]:
    """Yield the names of VTAB's sets that have several tasks: the beginning, and a task that its branch allows."""
    for branch in (node for node in ast.walk(_function("build_vtab_dataset")) if isinstance(node, ast.If)):
        if isinstance(branch.test, ast.Call) and getattr(branch.test.func, "attr", "") == "startswith":
            allowed = [node.test for node in branch.body if isinstance(node, ast.Assert)]
            tasks = [ast.literal_eval(test.comparators[0]) for test in allowed if isinstance(test, ast.Compare)]
            yield from (f"{ast.literal_eval(branch.test.args[0])}{task}" for own in tasks for task in own)


def _set(name: str) -> str:
    from cocabench.specs.aliases import task_name
    from cocabench.specs.registry import all_tasks

    if task_name(name) in all_tasks():
        return f"`{task_name(name)}`"
    parts = [task for task in all_tasks() if task.startswith((f"{name}/", f"{name}_"))]
    return f"{len(parts)} tasks: `{parts[0]}` …" if parts else SETS[name]


def _group(name: str) -> str:
    """Return our group of a collection, which has all of its sets."""
    from cocabench.specs.aliases import task_name
    from cocabench.specs.registry import find_tasks

    ours = {task.name for task in find_tasks([name])}
    if lost := {task_name(one) for one in _collections("dataset")[name]} - ours:
        raise KeyError(f"the group {name} has no {sorted(lost)}")
    n = len(_collections("dataset")[name])
    return f"the group `{name}`: its {n}" + (f", and {len(ours) - n} more" if len(ours) > n else "")


def tasks() -> list[str]:
    """Return the values of --task."""
    return next(ast.literal_eval(call.keywords_by["choices"]) for call in _arguments() if call.name == "--task")


def model_types() -> list[str]:
    """Return the values of --model_type."""
    for node in _source("models/__init__.py").body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TYPE2FUNC":
            assert isinstance(node.value, ast.Dict), "a table of functions"
            return [str(ast.literal_eval(key)) for key in node.value.keys if key is not None]
    raise KeyError("TYPE2FUNC")


def options() -> list[str]:
    """Return the options of its commands eval and, so marked, build."""
    return [f"build {call.name}" if call.parser == "parser_build" else call.name for call in _arguments()]


def exported() -> list[str]:
    """Return the options of its command clip_benchmark_export_wds."""
    return [call.name for call in _arguments("webdataset_builder.py")]


class _Argument:
    """A call parser.add_argument(name, …)."""

    def __init__(self, call: ast.Call) -> None:
        assert isinstance(call.func, ast.Attribute), "a method"
        self.parser = getattr(call.func.value, "id", "")
        self.name = str(ast.literal_eval(call.args[0]))
        self.keywords_by = {keyword.arg: keyword.value for keyword in call.keywords}


def _arguments(file: str = "cli.py") -> Iterator[_Argument]:
    for node in ast.walk(_source(file)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            yield _Argument(node)


def _source(name: str) -> ast.Module:
    spec = util.find_spec("clip_benchmark")
    assert spec is not None, "a dependency"
    assert spec.origin is not None, "a package of files"
    return ast.parse((Path(spec.origin).parent / name).read_text(encoding="utf-8"))


def _function(name: str) -> ast.FunctionDef:
    tree = _source("datasets/builder.py")
    return next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)


def _compared(function: str) -> list[str]:
    """Return what a function compares the name of the data set with, in order."""
    found = []
    for node in ast.walk(_function(function)):
        if isinstance(node, ast.Compare) and getattr(node.left, "id", "") == "dataset_name":
            values = [one.value for side in node.comparators for one in ast.walk(side) if isinstance(one, ast.Constant)]
            found += [value for value in values if isinstance(value, str)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "startswith":
            found.append(f"{ast.literal_eval(node.args[0])}…")
    return list(dict.fromkeys(found))


def _keys(kind: str) -> list[str]:
    return list(_collections(kind))


def _collections(kind: str) -> dict[str, list[str]]:
    """Return its collections of data sets or models by name; what is no list of texts is empty."""
    file = {"dataset": "datasets/builder.py", "model": "model_collection.py"}[kind]
    for node in _source(file).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == f"{kind}_collection":
            assert isinstance(node.value, ast.Dict), "a table of lists"
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {str(ast.literal_eval(key)): _texts(value) for key, value in pairs if key is not None}
    raise KeyError(f"{kind}_collection")


def _texts(node: ast.expr) -> list[str]:
    if not isinstance(node, ast.List):
        return []
    return [one.value for one in node.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
