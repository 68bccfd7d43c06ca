"""DataComp's means against what others published, and its files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from cocabench.core.errors import ResultsError
from cocabench.core.types import Record
from cocabench.results import interop, published
from cocabench.results.groups import group_means
from cocabench.specs.groups import AVERAGE, datacomp, groups, means
from cocabench.specs.registry import all_tasks, find_tasks

PUBLISHED = {
    "MobileCLIP-S0:datacompdr": 58.1,
    "MobileCLIP-S1:datacompdr": 61.3,
    "MobileCLIP-S2:datacompdr": 63.7,
    "MobileCLIP-B:datacompdr": 65.2,
    "MobileCLIP2-S0:dfndr2b": 59.7,
    "MobileCLIP2-B:dfndr2b": 65.8,
    "MobileCLIP2-S3:dfndr2b": 66.8,
    "MobileCLIP2-L-14:dfndr2b": 67.8,
    "MobileCLIP2-S4:dfndr2b": 67.5,
    "MobileCLIP-S3:datacompdr": 66.3,
    "MobileCLIP-L-14:datacompdr": 66.9,
    "MobileCLIP-S4:datacompdr": 68.1,
}
"""Average performance on 38 data sets, by the README of apple/ml-mobileclip."""

AVERAGES = pd.read_csv(Path(__file__).parent / "openclip_averages.csv", index_col="spec")["average"]
"""The column "Average perf. on 38 datasets" of open_clip's docs/openclip_results.csv (commit 89fb801), all rows."""


@pytest.fixture(scope="module")
def apples() -> list[Record]:
    return published.as_records(list(PUBLISHED))


def test_the_means_of_38_are_the_published_ones(apples: list[Record]) -> None:
    means_of = group_means(apples)[AVERAGE]
    found = {model: round(100 * (means_of[model + published.SUFFIX].value or 0), 1) for model in PUBLISHED}
    assert found == PUBLISHED
    mean = means_of["MobileCLIP-S0:datacompdr" + published.SUFFIX]
    assert mean.of == mean.n == 38
    assert mean.half is None, "published numbers have no intervals, so that the mean has none"


def test_the_mean_of_open_clips_columns_is_its_average_in_all_rows() -> None:
    pairs = pd.DataFrame([{"task": m.task, "metric": m.metric} for m in means()[AVERAGE]])
    table = published.read().query("source == 'open_clip'").merge(pairs, on=["task", "metric"])
    found = table.groupby("spec")["value"].agg(["mean", "size"])
    assert (found["size"] == 38).all()
    assert len(AVERAGES) == len(found) == 121
    assert (found["mean"] - AVERAGES).abs().max() <= 6e-5


def test_a_mean_without_one_of_its_tasks_says_so_and_is_no_number(apples: list[Record]) -> None:
    records = [r for r in apples if r.model.startswith("MobileCLIP-S0:") and r.task != "wilds/fmow"]
    found = {name: next(iter(own.values())) for name, own in group_means(records).items()}
    assert (found[AVERAGE].value, found[AVERAGE].missing, found[AVERAGE].text) == (
        None,
        ("wilds/fmow",),
        "37 of 38 tasks",
    )
    assert found["datacomp_vtab"].value is not None


def test_faces_enter_no_mean(apples: list[Record]) -> None:
    records = [r for r in apples if r.model.startswith("MobileCLIP-S0:")]
    without = [r for r in records if not r.task.startswith("fairness/f") and r.task != "fairness/utkface"]
    assert len(records) - len(without) == 2
    assert group_means(records)[AVERAGE] == group_means(without)[AVERAGE]


def test_groups_hold_datacomps_tasks_and_parts() -> None:
    assert {name: len(members) for name, members in groups().items()} == {
        "datacomp": 40, "datacomp_vtab": 13, "datacomp_shifts": 6, "datacomp_retrieval": 3, "datacomp_wilds": 3,
        "datacomp_fairness": 4,
    }  # fmt: skip
    assert {name: len(members) for name, members in means().items()} == {
        "datacomp_shifts": 6, "datacomp_vtab": 13, "datacomp_retrieval": 3, "datacomp_average": 38,
    }  # fmt: skip
    assert len(find_tasks(["datacomp"])) == 40
    assert len(find_tasks(["vtab"])) == 19, "ours stays CLIP_benchmark's"


def test_members_are_shipped_tasks_of_their_size_that_have_the_metric() -> None:
    tasks = all_tasks()
    for member in datacomp():
        task = tasks[member.task]
        assert task.spec.evaluator == member.kind, member.task
        counts = task.spec.expect.model_dump()
        assert member.size in (counts["images"], counts.get("items")), member.task
        if member.metric:
            assert type(task.kind).metric(member.metric), member.task
        if member.random is not None:
            assert 0 < member.random < 1


LINES = (
    {"key": "wilds/camelyon17", "dataset": "Camelyon17", "metrics": {
        "acc1": 0.7, "acc5": None, "acc_slide:0": math.nan, "count_slide:0": 0.0, "acc_wg": 0.5, "main_metric": 0.7}},
    {"key": "wilds/iwildcam", "dataset": "iWildCam", "metrics": {"acc1": 0.3, "F1-macro_all": 0.1, "main_metric": 0.1}},
    {"key": "wilds/fmow", "dataset": "FMoW", "metrics": {"acc_worst_region": 0.0, "main_metric": 0.0}},
    {"key": "fairness/dollar_street", "dataset": "", "metrics": {"acc_top5_wg": 0.6, "acc5": 0.8}},
    {"key": "fairness/fairface", "dataset": "", "metrics": {"acc_race_avg": 0.8, "main_metric": None}},
    {"key": "misc/winogavil", "dataset": "", "metrics": {"jaccard_score_10-12": 0.5, "avg_jaccard_score": 0.6}},
    {"key": "retrieval/flickr30k", "dataset": "Flickr", "metrics": {
        "image_retrieval_recall@1": 0.7, "text_retrieval_recall@1": 0.9, "mean_recall@1": 0.8, "main_metric": 0.8}},
    {"key": "vtab/pets", "dataset": "Pets", "metrics": {"acc1": 0.9, "mean_per_class_recall": 0.8}},
    {"key": "comp/sugarcrepe_add_att", "dataset": "", "metrics": {"image_acc": 1.0, "text_acc": 0.8, "acc": 0.8}},
    {"key": "longclip/urban1k", "dataset": "", "metrics": {"image_retrieval_recall@1": 0.7}},
)  # fmt: skip


def imported(folder: Path, *lines: object) -> list[Record]:
    path = folder / "some_model.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return interop.read(path)


def test_datacomps_file_is_imported_under_our_names(tmp_path: Path) -> None:
    records = {r.task: r for r in imported(tmp_path, *LINES)}
    values = {task: {name: e.value for name, e in r.metrics.items()} for task, r in records.items()}
    assert values == {
        "wilds/camelyon17": {"acc1": 0.7, "acc5": None, "acc_wg": 0.5},
        "wilds/iwildcam": {"acc1": 0.3, "f1_macro": 0.1},
        "wilds/fmow": {"acc_worst_group": 0.0},
        "fairness/dollar_street": {"acc5_worst_group": 0.6, "acc5": 0.8},
        "fairness/fairface": {"acc_race_avg": 0.8},
        "winogavil": {"jaccard_10-12": 0.5, "jaccard_mean": 0.6},
        "flickr30k": {"t2i_recall@1": 0.7, "i2t_recall@1": 0.9, "mean_recall@1": 0.8},
        "pets": {"acc1": 0.9, "mean_per_class_recall": 0.8},
        "sugar_crepe/add_att": {"image_acc": 1.0, "text_acc": 0.8, "acc": 0.8},
        "urban1k": {"t2i_recall@1": 0.7},
    }
    assert {r.model for r in records.values()} == {"some_model (DataComp)"}
    kinds = {task: r.evaluator for task, r in records.items()}
    assert (kinds["winogavil"], kinds["fairness/fairface"], kinds["urban1k"]) == (
        "association",
        "faces",
        "retrieval",
    )
    assert kinds["sugar_crepe/add_att"] == "image_caption_selection"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"key": "wilds/fmow", "metrics": {"acc1": "high"}}, "jsonl:2: acc1: got 'high'; wanted a number"),
        ({"key": "wilds/fmow"}, "jsonl:2: no 'key' with 'metrics'"),
        ({"key": "other", "metrics": {"x": 1.0}}, "jsonl:2: the key 'other', without a known metric"),
        ({"key": "wilds/fmow", "metrics": {"main_metric": 1.0}}, "jsonl:2: no metric"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_it(line: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as error:
        imported(tmp_path, LINES[0], line)
    assert said in str(error.value)


def test_published_worst_regions_are_as_often_0_as_datacomps_definition_makes_them() -> None:
    """In the region of four images no answer is right for 31 of open_clip's 121 models."""
    table = published.read()
    mine: pd.DataFrame = table[(table["task"] == "wilds/fmow") & (table["source"] == "open_clip")]
    assert (len(mine), int((mine["value"] == 0).sum())) == (121, 31)
