"""Results of CLIP_benchmark and open_clip_train: import and export."""

from __future__ import annotations

import csv
import io
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import ResultsError
from cocabench.core.signature import digest
from cocabench.core.types import Record
from cocabench.results import interop
from cocabench.results.compare import compare_models
from cocabench.results.epochs import best_epochs
from cocabench.results.interop import to_csv
from cocabench.results.records import read, set_of
from tests.conftest import Command
from tests.report.records import estimate, record

OPEN_FILES = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
"""Their build does not close what it reads."""

COMMON = {"model": "ViT-B-32", "pretrained": "openai", "language": "en"}
FILES: dict[str, dict[str, Any]] = {
    "a.json": {
        **COMMON,
        "dataset": "wds/imagenet1k",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.633, "acc5": 0.888, "mean_per_class_recall": 0.6334},
    },
    "b.json": {
        **COMMON,
        "dataset": "flickr30k",
        "task": "zeroshot_retrieval",
        "metrics": {"image_retrieval_recall@5": 0.835, "text_retrieval_recall@5": 0.946},
    },
    "c.json": {
        **COMMON,
        "dataset": "flickr30k",
        "task": "captioning",
        "metrics": {"Bleu_4": 0.3, "ROUGE_L": 0.5, "CIDEr": 1.2, "METEOR": float("nan")},
    },
    "d.json": {
        **COMMON,
        "dataset": "sugar_crepe/add_att",
        "task": "image_caption_selection",
        "metrics": {"image_acc": 1.0, "text_acc": 0.7, "acc": 0.7},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The JSON files as `clip_benchmark eval` dumps them, a bare NaN among them."""
    (tmp_path / "theirs").mkdir()
    for name, table in FILES.items():
        (tmp_path / "theirs" / name).write_text(json.dumps(table))
    return tmp_path / "theirs"


def built(folder: Path) -> Path:
    """Return the CSV that CLIP_benchmark's own `build` makes of its JSON."""
    from clip_benchmark.cli import main_build

    path = folder.parent / "built.csv"
    main_build(Namespace(files=[str(folder)], output=str(path)))
    return path


def numbers(path: Path) -> dict[tuple[str, str], float | None]:
    return {(r.task, name): e.value for r in interop.read(path) for name, e in r.metrics.items()}


def test_import_translates_names_of_clip_benchmark(folder: Path) -> None:
    assert numbers(folder) == {
        ("imagenet1k", "acc1"): 0.633,
        ("imagenet1k", "acc5"): 0.888,
        ("imagenet1k", "mean_per_class_recall"): 0.6334,
        ("flickr30k", "t2i_recall@5"): 0.835,
        ("flickr30k", "i2t_recall@5"): 0.946,
        ("flickr30k_captions", "BLEU@4"): 0.3,
        ("flickr30k_captions", "ROUGE-L"): 0.5,
        ("flickr30k_captions", "CIDEr"): 1.2,
        ("flickr30k_captions", "METEOR"): None,
        ("sugar_crepe/add_att", "image_acc"): 1.0,
        ("sugar_crepe/add_att", "text_acc"): 0.7,
        ("sugar_crepe/add_att", "acc"): 0.7,
    }


def test_imported_records_are_labelled_and_have_no_interval(folder: Path) -> None:
    found = interop.read(folder / "a.json")[0]
    assert found.model == "ViT-B-32:openai (CLIP_benchmark)"
    assert found.signature.protocol["imported"] == "CLIP_benchmark"
    assert (found.metrics["acc1"].low, found.metrics["acc1"].n) == (None, 0)
    assert found.definitions["acc1"].summary.startswith("Share of images")
    chosen = interop.read(folder / "d.json")[0]
    assert (chosen.primary, chosen.evaluator) == ("acc", "image_caption_selection")
    assert "group score" in chosen.definitions["acc"].summary


@pytest.mark.parametrize(
    ("dataset", "language", "task"),
    [
        ("xtd10", "de", "xtd10/de"),
        ("xtd10", "en", "xtd10/en"),
        ("crossmodal3600", "jp", "crossmodal3600/ja"),
        ("babel_imagenet", "de", "babel_imagenet/DE"),
        ("imagenet1k", "cn", "imagenet1k/cn"),
        ("wds/imagenet1k", "en", "imagenet1k"),
        ("my_set", "sv", "my_set/sv"),
    ],
)
def test_import_and_export_keep_the_languages_of_a_set_apart(
    tmp_path: Path, dataset: str, language: str, task: str
) -> None:
    table = {**FILES["b.json"], "dataset": dataset, "language": language}
    (tmp_path / "a.json").write_text(json.dumps(table))
    (found,) = interop.read(tmp_path / "a.json")
    assert found.task == task
    name, _, code = task.partition("/")
    assert set_of(found) == (name if code else "")
    (row,) = csv.DictReader(io.StringIO(to_csv([found])))
    assert (row["dataset"], row["language"]) == (name, code or "en")


def test_import_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.csv", "nowhere.json", "nowhere.jsonl"):
        with pytest.raises(ResultsError, match="no such file"):
            interop.read(tmp_path / name)


@OPEN_FILES
def test_import_reads_the_csv_of_clip_benchmark_build(folder: Path) -> None:
    defined = {key: value for key, value in numbers(folder).items() if value is not None}
    assert {key: value for key, value in numbers(built(folder)).items() if value is not None} == defined


@OPEN_FILES
def test_export_equals_clip_benchmark_build(folder: Path) -> None:
    """Row by row and column by column, in any order; what is undefined is left empty."""

    def rows(text: str) -> list[dict[str, str]]:
        found = [{k: v for k, v in row.items() if v not in ("", "nan")} for row in csv.DictReader(io.StringIO(text))]
        for row in found:
            row["dataset"] = row["dataset"].removeprefix("wds/")
        return sorted(found, key=lambda row: (row["dataset"], row["task"]))

    theirs = rows(built(folder).read_text())
    assert rows(to_csv(interop.read(folder))) == theirs


PROBE = {
    **COMMON,
    "dataset": "wds/vtab/cifar10",
    "task": "linear_probe",
    "metrics": {
        "lp_acc1": 0.95,
        "lp_acc5": 0.99,
        "lp_mean_per_class_recall": 0.94,
        "weight_decay": 0.01,
        "epochs": 10,
        "seed": 3,
        "fewshot_k": -1,
        "normalized": True,
    },
}


def probed(folder: Path, **changed: Any) -> Record:
    """Return the Record of CLIP_benchmark's linear probe with some settings."""
    table = {**PROBE, "metrics": {**PROBE["metrics"], **changed}}
    (folder / "probe.json").write_text(json.dumps(table))
    (found,) = interop.read(folder / "probe.json")
    return found


def test_linear_probes_are_probes_and_their_settings_are_the_protocol(tmp_path: Path) -> None:
    found = probed(tmp_path)
    assert (found.evaluator, found.task, found.primary) == ("probe", "cifar10_probe", "acc1")
    assert {name: e.value for name, e in found.metrics.items()} == {
        "acc1": 0.95,
        "acc5": 0.99,
        "mean_per_class_recall": 0.94,
    }
    assert {key: found.signature.protocol[key] for key in ("probe", "features", "training")} == {
        "probe": "clip_benchmark",
        "features": "projected, unit length",
        "training": {"epochs": 10},
    }
    assert found.notes[0].text == "weight decay 0.01"
    few = probed(tmp_path, fewshot_k=10, normalized=False)
    assert list(few.metrics) == ["acc1@10shot", "acc5@10shot", "mean_per_class_recall@10shot"]
    assert (few.signature.protocol["seeds"], few.signature.protocol["features"]) == ([3], "projected, as they are")


def test_linear_probes_are_compared_with_the_same_probe_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = probed(tmp_path / "theirs")
    for name, compared in (("clip_benchmark", True), ("ridge", False)):
        parts = {"task": "cifar10_probe", "evaluator": "probe", "probe": name, "shots": [1, "all"]}
        ours = record("ViT-B-32:openai", task="cifar10_probe", metrics={"acc1": estimate(0.96, 0.004)}, protocol=parts)
        (row,) = compare_models([ours.model_copy(update={"evaluator": "probe"}), theirs]).rows
        assert (row.difference is not None) == compared, name


def test_linear_probes_round_trip_through_the_csv(tmp_path: Path) -> None:
    few, every = probed(tmp_path, fewshot_k=10), probed(tmp_path)
    (tmp_path / "out.csv").write_text(to_csv([few, every]))
    again = interop.read(tmp_path / "out.csv")
    assert [r.metrics for r in again] == [few.metrics, every.metrics]
    assert [r.signature.protocol["probe"] for r in again] == ["clip_benchmark"] * 2


def test_export_does_not_call_another_probe_clip_benchmarks() -> None:
    parts = {"evaluator": "probe", "probe": "ridge"}
    ours = record("m", task="cifar10_probe", metrics={"acc1": estimate(0.96, 0.004)}, protocol=parts)
    (row,) = csv.DictReader(io.StringIO(to_csv([ours.model_copy(update={"evaluator": "probe"})])))
    assert (row["dataset"], row["task"], row["acc1"]) == ("cifar10", "probe", "0.96")


def test_a_linear_probe_that_found_too_few_images_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps({**PROBE, "metrics": None}))
    with pytest.raises(ResultsError, match="too few training images for its shots, and measured nothing"):
        interop.read(tmp_path / "none.json")
    with pytest.raises(ResultsError, match="could not convert string to float: 'many'; wanted the metrics of"):
        probed(tmp_path, fewshot_k="many")


def test_imported_prompts_have_our_hash(tmp_path: Path) -> None:
    prompts = {"classnames": ["cat"], "templates": ["a {c}", "the {c}"]}
    (tmp_path / "a.json").write_text(json.dumps(FILES["a.json"] | prompts))
    (found,) = interop.read(tmp_path / "a.json")
    assert found.signature.protocol["prompts"] == digest([["cat", "a cat", "the cat"]])


def test_imported_records_are_compared_by_known_parts(folder: Path) -> None:
    ours = record("ViT-B-32:openai", metrics={"acc1": estimate(0.634, 0.004)}, protocol={"task": "imagenet1k"})
    (row,) = compare_models([ours, *interop.read(folder / "a.json")]).rows
    assert row.difference is not None
    assert row.difference.value == pytest.approx(0.1)
    assert "imported from CLIP_benchmark" in row.cells[1].notes[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not JSON"),
        ("x.json", "{}", "no 'metrics'"),
        ("x.json", '{"metrics": {"acc1": 1}, "model": "m"}', "no dataset, pretrained, task"),
        ("x.csv", "a,b\n", "no rows"),
        ("x.csv", "dataset,model,pretrained,task,acc1\nd,m,p,t,high\n", "x.csv:2: acc1: got 'high'; wanted a number"),
        ("x.txt", "", "wanted CLIP_benchmark's .json"),
    ],
)
def test_import_errors_name_the_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ResultsError, match=message.replace(".", r"\.")):
        interop.read(tmp_path / name)


def test_import_and_export_round_trip(command: Command, folder: Path, tmp_path: Path) -> None:
    result = command("import", folder, "--output", tmp_path / "results")
    assert (result.code, len(result.out.splitlines())) == (0, 4)
    tasks = {"imagenet1k", "flickr30k", "flickr30k_captions", "sugar_crepe/add_att"}
    assert {r.task for r in read(tmp_path / "results")} == tasks
    command("export", tmp_path / "results", "--format", "clip_benchmark", "--output", tmp_path / "out.csv")
    assert numbers(tmp_path / "out.csv") == {k: v for k, v in numbers(folder).items() if v is not None}
    assert command("import", folder / "none.json", "--output", tmp_path / "results").code == 2


N = 40


def their_metrics(seed: int) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    train = pytest.importorskip("open_clip_train.train")
    generator = torch.Generator().manual_seed(seed)
    images, noise = (torch.randn(N, 8, generator=generator) for _ in range(2))
    rows = [torch.nn.functional.normalize(x, dim=-1) for x in (images, images + seed * noise)]
    found = train.get_clip_metrics(*rows, torch.tensor(1.0))
    return {key: float(value) for key, value in found.items()}


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "logs" / "my_run" / "checkpoints" / "results.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_import_of_results_jsonl_gives_a_record_per_epoch_and_task(tmp_path: Path) -> None:
    top1 = "imagenet-zeroshot-val-top1"
    entries = [
        {**their_metrics(seed), "clip_val_loss": 1.2, "epoch": epoch, "num_samples": N, top1: hits}
        for epoch, seed, hits in ((1, 2, 0.1), (2, 1, 0.2))
    ]
    found = interop.read(written(tmp_path, *entries))
    assert [(r.model, r.task) for r in found] == [
        ("my_run (open_clip_train)/epoch_1", "imagenet1k"),
        ("my_run (open_clip_train)/epoch_1", "open_clip_train_val"),
        ("my_run (open_clip_train)/epoch_2", "imagenet1k"),
        ("my_run (open_clip_train)/epoch_2", "open_clip_train_val"),
    ]
    last = found[-1].metrics
    assert last["t2i_recall@5"].value == pytest.approx(entries[1]["text_to_image_R@5"])
    assert last["i2t_recall@1"].value == pytest.approx(entries[1]["image_to_text_R@1"])
    assert last["t2i_mean_rank"].value == pytest.approx(entries[1]["text_to_image_mean_rank"])
    assert found[-1].definitions["i2t_median_rank"].unit == "rank"
    assert {(b.task, b.epoch.number) for b in best_epochs(found) if b.metric in ("acc1", "t2i_recall@5")} == {
        ("imagenet1k", 2),
        ("open_clip_train_val", 2),
    }


def test_imported_recalls_have_wilsons_interval(tmp_path: Path) -> None:
    """20 of 40: 0.352 to 0.648."""
    path = written(tmp_path, {"image_to_text_R@1": 0.5, "epoch": 1, "num_samples": N})
    estimate = interop.read(path)[0].metrics["i2t_recall@1"]
    assert (estimate.low, estimate.high, estimate.n) == pytest.approx((0.352, 0.648, N), abs=1e-3)


def test_import_takes_the_last_measurement_of_an_epoch(tmp_path: Path) -> None:
    path = written(tmp_path, *({"imagenet-zeroshot-val-top1": v, "epoch": 1} for v in (0.1, 0.3)))
    assert [r.metrics["acc1"].value for r in interop.read(path)] == [0.3]


def test_import_numbers_lines_without_an_epoch(tmp_path: Path) -> None:
    found = interop.read(written(tmp_path, {"imagenet-zeroshot-val-top1": 0.1}, {"imagenet-zeroshot-val-top1": 0.3}))
    assert [r.model.rpartition("/")[2] for r in found] == ["entry_1", "entry_2"]
    assert "does not say which epoch" in found[0].notes[0].text


@pytest.mark.parametrize(
    ("text", "message"), [("", "no lines"), ("{\n", "jsonl:1: not JSON"), ("{}\n", "no known metric")]
)
def test_import_errors_name_the_line_of_results_jsonl(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(ResultsError, match=message.replace(".", r"\.")):
        interop.read(path)
