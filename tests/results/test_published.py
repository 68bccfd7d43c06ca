"""The published table: literal numbers of the sources, the metric of each, and Records made of them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cocabench.core.errors import UnknownNameError
from cocabench.core.types import Chance, Dataset, Example, Machine
from cocabench.kinds.base import near_chance as alarms_of
from cocabench.kinds.base import notes_of
from cocabench.kinds.classification import ACC1, Classification
from cocabench.metrics.ranking import Ranks
from cocabench.results import published
from cocabench.results.compare import compare_models
from cocabench.results.published_check import check
from cocabench.results.records import choose, set_of
from cocabench.specs.registry import Task, all_tasks
from tests.report.records import estimate, record

COCA, CLIP, BLOG = "coca_ViT-L-14:laion2b_s13b_b90k", "ViT-L-14:laion2b_s32b_b82k", "ViT-L-14:laion_blog"


@pytest.mark.parametrize(
    ("spec", "source", "task", "metric", "value"),
    [
        (COCA, "open_clip", "imagenet1k", "acc1", 0.7561),
        (COCA, "open_clip", "flickr30k", "t2i_recall@5", 0.9202),
        (COCA, "open_clip", "flickr30k", "mean_recall@1", 0.8134),
        (COCA, "LAION blog", "imagenet1k", "acc1", 0.755),
        (CLIP, "CLIP_benchmark", "imagenet1k", "acc5", 0.9425),
        (CLIP, "open_clip", "pets", "mean_per_class_recall", 0.9309),
        (CLIP, "open_clip", "wilds/fmow", "acc_worst_group", 0.2007),
        (BLOG, "LAION blog", "imagenet1k", "acc1", 0.731),
        ("ViT-B-32:openai", "SugarCrepe paper", "sugar_crepe/swap_obj", "acc", 151 / 246),
        ("ViT-L-14:openai", "ECCV Caption", "eccv_caption", "t2i_map@r", 0.3196),
        ("ViT-L-14:openai", "ECCV Caption", "coco_1k", "i2t_recall@1", 0.7426),
        ("CoCa:paper", "CoCa paper", "coco_karpathy_test", "CIDEr", 1.436),
        ("coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k", "open_clip", "imagenet1k", "acc1", 0.0079),
        (COCA, "open_clip", "crossmodal3600/de", "t2i_recall@1", 0.2806),
        (COCA, "open_clip", "multilingual_mscoco_captions/jp", "i2t_recall@10", 0.238),
        ("nllb-clip-large-siglip:mrl", "open_clip", "crossmodal3600/ja", "t2i_recall@5", 0.8997),
    ],
)
def test_published_table_holds_the_numbers_of_its_sources(
    spec: str, source: str, task: str, metric: str, value: float
) -> None:
    found = published.rows(spec).query("source == @source and task == @task and metric == @metric")
    assert found["value"].tolist() == pytest.approx([value], abs=1e-4)


def test_published_table_is_complete() -> None:
    table = published.read()
    assert not table.duplicated(["source", "spec", "task", "metric"]).any()
    assert table.groupby("source")["spec"].nunique().to_dict() == {
        "CLIP_benchmark": 13,
        "CoCa paper": 1,
        "ECCV Caption": 1,
        "LAION blog": 3,
        "MobileCLIP": 12,
        "SugarCrepe paper": 1,
        "open_clip": 123,
    }
    assert set(table["metric"]) <= set(published.definitions())
    assert set(table["source"]) == set(published.SOURCES)
    assert table["value"].notna().all()
    assert table.loc[table["metric"] != "CIDEr", "value"].between(0, 1).all()


def test_published_languages_are_those_of_the_tasks_and_of_whole_numbers_of_images() -> None:
    """123 models, four of them CoCas; a caption for each image, since every recall is k / 3,600 or k / 1,000."""
    found = TABLE[TABLE["language"] != ""]
    assert found["spec"].nunique() == 123
    assert sum(name.startswith("coca_") for name in found["spec"].unique()) == 4
    specs = {task.name: task.spec for task in all_tasks().values()}
    per_set = found.assign(set=[specs[task].family for task in found["task"]]).groupby("set")
    assert per_set["language"].nunique().to_dict() == {"crossmodal3600": 36, "multilingual_mscoco_captions": 11}
    for name, table in found.groupby("task"):
        assert set(table["n"]) == {specs[str(name)].expect.images} == {specs[str(name)].expect.texts}
        assert len(table) == 123 * 6
    hits = found["value"] * found["n"].astype(float)
    assert ((hits - hits.round()).abs() <= 5.1e-5 * found["n"].astype(float)).all()


def test_published_languages_are_a_set_and_are_checked() -> None:
    records = {r.task: r for r in published.as_records([COCA])}
    german = records["crossmodal3600/de"]
    assert (set_of(german), german.primary) == ("crossmodal3600", "t2i_recall@5")
    assert german.metrics["t2i_recall@5"].n == 3600
    assert set_of(records["imagenet1k"]) == ""
    ours = record(
        COCA, "crossmodal3600/de", {"t2i_recall@1": estimate(0.2806, 0.01, n=3600)}, protocol={"data": {"images": 3600}}
    )
    assert [(m.verdict, m.source) for m in check([ours])] == [("inside", "open_clip")]


def test_published_languages_stand_beside_measured_ones_alone() -> None:
    """Else a comparison with one measured task would list 47 languages without a result."""
    of_others = published.as_records([COCA])
    measured = [record("mine", task) for task in ("imagenet1k", "crossmodal3600/de")]
    kept = {r.task for r in choose([*measured, *of_others]).records if r.model != "mine"}
    assert {task for task in kept if "crossmodal" in task or "multilingual" in task} == {"crossmodal3600/de"}
    assert "cifar10" in kept
    assert len(choose(of_others).records) == len(of_others)


def test_published_mean_recall_is_the_mean_of_both_directions() -> None:
    rows = published.rows(COCA).query("source == 'open_clip' and task == 'flickr30k'").set_index("metric")["value"]
    assert rows["mean_recall@1"] == pytest.approx((rows["t2i_recall@1"] + rows["i2t_recall@1"]) / 2)


def test_published_records_of_two_models_share_a_source() -> None:
    by_task = {r.task: r for r in published.as_records([COCA, BLOG]) if r.model.startswith("coca")}
    assert by_task["imagenet1k"].signature.protocol == {"published": "LAION blog"}
    assert by_task["cifar10"].signature.protocol == {"published": "open_clip"}
    rows = {row.task: row for row in compare_models(published.as_records([COCA, BLOG])).rows}
    assert rows["imagenet1k"].difference is not None
    assert rows["imagenet1k"].difference.value == pytest.approx(2.4)


@pytest.mark.parametrize("spec", [COCA, BLOG, "ViT-L-14:openai"])
def test_published_numbers_are_those_of_the_records(spec: str) -> None:
    records = published.as_records([spec])
    assert published.numbers(spec) == {(r.task, name): e.value for r in records for name, e in r.metrics.items()}


def test_a_task_that_one_source_alone_has_is_a_record_of_it() -> None:
    found = {r.task: r for r in published.as_records(["ViT-L-14:openai", "ViT-B-32:openai"]) if "L-14" in r.model}
    found |= {r.task: r for r in published.as_records(["ViT-B-32:openai"]) if r.task.startswith("sugar")}
    assert found["eccv_caption"].primary == "t2i_map@r"
    assert found["cxc"].primary == "t2i_recall@1"
    assert found["sugar_crepe/swap_obj"].metrics["acc"].n == 246
    assert found["mscoco_captions"].signature.protocol != {"published": "ECCV Caption"}, (
        "others have it for both models"
    )


def test_published_n_is_0_if_unknown() -> None:
    records = {r.task: r for r in published.as_records([BLOG])}
    assert records["flickr30k"].metrics["t2i_recall@5"].n == 1000
    assert records["flickr8k"].metrics["t2i_recall@5"].n == 0
    assert any("whole data set" in note.text for note in records["flickr8k"].notes)


def test_published_parameters_per_tower() -> None:
    assert published.parameters("coca_ViT-L-14") == {
        "image_encoder": 306_720_000,
        "text_encoder": 123_650_000,
        "text_decoder": 208_070_000,
    }
    assert published.parameters("none") == {}


def test_describe_names_the_sources() -> None:
    ours = published.as_records([COCA, CLIP])
    blogs = [r for r in published.as_records([COCA, BLOG]) if r.task == "imagenet1k"]
    assert "not the blog's CLIP baseline" in published.describe(ours)
    assert published.describe(blogs) == "published by LAION blog"
    assert published.describe([]) == ""


def test_unknown_published_model_error_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean coca_ViT-L-14:laion2b_s13b_b90k"):
        published.as_records(["coca_ViT-L14:laion2b_s13b_b90k"])


TASKS = {name: task for name, task in all_tasks().items() if isinstance(task.kind, Classification)}
TABLE = published.read()
NOT_PUBLISHED = {"cola_single", "caltech101", "eurosat", "resisc45", "vtab/cub", "vtab/inaturalist", "imagenet-w"}
"""The whole sets, of which VTAB tests a part (theirs are the tasks vtab/…), and what CLIP_benchmark has beside VTAB."""
OF_NOBODY = {"classification_likelihood", "multilingual"}
"""Groups of tasks of classification without published numbers."""


def rows(name: str) -> pd.DataFrame:
    return TABLE[TABLE["task"] == name]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if "demo" not in task.spec.groups])
def test_published_numbers_have_the_tasks_image_counts(name: str) -> None:
    found = rows(name)
    assert found.empty == (name in NOT_PUBLISHED or bool(set(TASKS[name].spec.groups) & OF_NOBODY))
    others = set(found["n"]) - {TASKS[name].spec.expect.images}
    assert not others or (name, others) == ("vtab/caltech101", {6084})  # CLIP_benchmark's, of another version of TFDS


@pytest.mark.parametrize("name", [name for name in TASKS if not rows(name).query("source == 'open_clip'").empty])
def test_primary_metric_is_the_one_that_open_clip_publishes(name: str) -> None:
    assert set(rows(name).query("source == 'open_clip'")["metric"]) == {TASKS[name].spec.primary}


def near_chance(task: Task, value: float) -> bool:
    images, classes = task.spec.expect.images or 0, task.spec.expect.classes or 0
    hits = (np.arange(images) < round(value * images)).astype(float)
    ids = [str(i) for i in range(images)]
    ranks = {"n_above": 1 - hits} | dict.fromkeys(Ranks._fields[1:], 0)
    samples = pd.DataFrame({"id": ids, "image_id": ids, **ranks})
    return bool(alarms_of(ACC1, samples, Chance(1 / classes)))


@pytest.mark.parametrize("name", [name for name in TASKS if "acc1" in set(rows(name)["metric"])])
def test_near_chance_is_expected_if_most_published_models_are_near_chance(name: str) -> None:
    task = TASKS[name]
    assert isinstance(task.kind, Classification)
    values = sorted(rows(name).query("metric == 'acc1'")["value"])
    assert task.kind.near_chance_expected is near_chance(task, values[(len(values) - 1) // 2])


@pytest.mark.parametrize(("expected", "alarms"), [(False, 1), (True, 0)])
def test_score_near_chance_raises_no_note_if_it_is_expected(expected: bool, alarms: int) -> None:
    evaluator = Classification(near_chance_expected=expected)
    ids = [str(i) for i in range(100)]
    ranks = {"n_above": [0, 1] * 50} | dict.fromkeys(Ranks._fields[1:], 0)
    labels = {
        "label": [0, 1] * 50,
        "label_name": ["a", "b"] * 50,
        "top5_names": [["a"], ["a"]] * 25 + [["b"], ["b"]] * 25,
    }
    samples = pd.DataFrame({"id": ids, "image_id": ids, **ranks, **labels})
    data = Dataset("d", "test", [Example(name, cast(Any, None), label=i % 2) for i, name in enumerate(ids)], ("a", "b"))
    assert len(notes_of(evaluator, data, samples, [ACC1])) == alarms
    assert evaluator.protocol(data, Machine()) == Classification().protocol(data, Machine())
