"""clip_benchmark's own zero-shot classification of the standard sets, live: the same classes for every image.

Its accuracy fails on today's numpy, so that its labels and logits are compared, and what follows from them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sklearn.metrics import balanced_accuracy_score

from cocabench.core.types import Context, Dataset, Model
from cocabench.data.clip_benchmark import ClipBenchmark
from cocabench.metrics.base import estimate, stack
from cocabench.models.hardware import hardware
from cocabench.specs.registry import Task, all_tasks, model_sources
from cocabench.specs.spec import parse_models
from tests.data.standard_sets import FORMATS, number_of
from tests.data.test_standard_sets import Written, names_by_colour, tasks, written
from tests.models.tiny import CLIP, write_folder

__all__ = ["tasks", "written"]
pytestmark = pytest.mark.slow
THEIRS = [
    name
    for name, task in all_tasks().items()
    if name in FORMATS and isinstance(task.loader, ClipBenchmark) and name != "svhn"  # which they have from TFDS only
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random model that reads whole prompts: where the demo's cuts them, class names tie."""
    config = {**CLIP, "text_cfg": {**CLIP["text_cfg"], "context_length": 77}}
    return write_folder(tmp_path_factory.mktemp("models") / "random", config)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Model:
    return model_sources(parse_models(str(folder)))[0].load(hardware(device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[Any, Any, Any]:
    """Return open_clip's model, transform and tokenizer of the same weights."""
    import open_clip

    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name, precision="fp32")
    return model.eval(), transform, open_clip.get_tokenizer(name)


class Found(NamedTuple):
    """An image's label, and the classes that score highest for it."""

    label: int
    top: list[int]
    scores: list[float]


def classified_by_us(task: Task, model: Model, root: Path) -> tuple[dict[int, Found], dict[str, float]]:
    """Return what was found of each image, by its number, and the metrics."""
    dataset: Dataset = task.loader.build(root)
    samples = list(task.kind.score(model, dataset, Context()))
    numbers = {example.id: number_of(example.image.open()) for example in dataset.examples}
    table = stack(samples)
    metrics = {metric.name: estimate(metric, table) for metric in task.kind.metrics(dataset)}
    values = {name: e.value for name, e in metrics.items() if e.value is not None}
    found = {numbers[s.id]: Found(s.stats["label"], s.stats["top5"], s.stats["top5_scores"]) for s in samples}
    return found, values


def classified_by_them(loader: ClipBenchmark, theirs: tuple[Any, Any, Any], root: Path) -> dict[int, Found]:
    import torch
    from clip_benchmark.datasets.builder import build_dataset
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier

    model, transform, tokenizer = theirs

    def build(chosen: Callable[[Any], Any] | None) -> Any:
        top = str(root / loader.path)
        return build_dataset(loader.dataset, root=top, transform=chosen, split="test", download=False)

    numbers, items = [number_of(image) for image, _ in build(None)], build(transform)
    weights = zero_shot_classifier(model, tokenizer, items.classes, items.templates, "cpu", amp=False)
    logits, target = run_classification(model, weights, torch.utils.data.DataLoader(items, 16), "cpu", amp=False)
    top = (logits / 100).topk(min(5, len(items.classes)))
    rows = zip(numbers, target.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
    return {number: Found(label, classes, scores) for number, label, classes, scores in rows}


@pytest.mark.filterwarnings("ignore:split argument ignored", "ignore:y_pred contains", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", THEIRS)
def test_every_image_is_given_the_same_classes(
    name: str, written: Written, ours: Model, theirs: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    task, _ = written(name)
    assert isinstance(task.loader, ClipBenchmark)
    found, metrics = classified_by_us(task, ours, tmp_path)
    wanted = classified_by_them(task.loader, theirs, tmp_path)
    assert found.keys() == wanted.keys()
    for number, one in wanted.items():
        assert found[number][:2] == one[:2]
        assert found[number].scores == pytest.approx(one.scores, abs=2e-6)
    labels, chosen = zip(*((one.label, one.top[0]) for one in wanted.values()), strict=True)
    assert metrics["acc1"] == pytest.approx(sum(map(int.__eq__, labels, chosen)) / len(labels))
    assert metrics["mean_per_class_recall"] == pytest.approx(balanced_accuracy_score(labels, chosen))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["pets", "mnist"])
def test_what_clip_benchmark_exports_is_the_same_data_set(
    name: str, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from clip_benchmark import webdataset_builder
    from clip_benchmark.datasets.builder import build_dataset

    task, _ = written(name)
    assert isinstance(task.loader, ClipBenchmark)
    own = task.loader.build(tmp_path)
    shown = names_by_colour(own)
    to_bytes = webdataset_builder.PIL_to_bytes("webp")
    items = build_dataset(name, root=str(tmp_path / name), split="test", transform=to_bytes, download=False)
    one_process = partial(torch.utils.data.DataLoader, items, batch_size=1, collate_fn=lambda batch: batch[0])
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda *args, **kwargs: one_process())
    flat = "wds_" + task.loader.wds.replace("/", "-")
    webdataset_builder.convert_dataset(items, "test", str(tmp_path / flat), verbose=False)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    exported = task.loader.build(tmp_path)
    assert (exported.classes, exported.templates) == (own.classes, own.templates)
    assert names_by_colour(exported) == shown
