"""The published table: literal numbers of the sources, the metric of each, and Records made of them."""

from __future__ import annotations

import pytest

from cocabench.core.errors import UnknownNameError
from cocabench.results import published
from cocabench.results.compare import compare

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
        (CLIP, "open_clip", "wilds/fmow", "acc_worst_region", 0.2007),
        (BLOG, "LAION blog", "imagenet1k", "acc1", 0.731),
        ("CoCa:paper", "CoCa paper", "coco_karpathy_test", "CIDEr", 1.436),
        ("coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k", "open_clip", "imagenet1k", "acc1", 0.0079),
    ],
)
def test_numbers_of_the_sources(spec: str, source: str, task: str, metric: str, value: float) -> None:
    found = published.rows(spec).query("source == @source and task == @task and metric == @metric")
    assert found["value"].tolist() == pytest.approx([value], abs=1e-4)


def test_the_table_is_whole() -> None:
    table = published.read()
    assert not table.duplicated(["source", "spec", "task", "metric"]).any()
    assert table.groupby("source")["spec"].nunique().to_dict() == {
        "CLIP_benchmark": 13,
        "CoCa paper": 1,
        "LAION blog": 3,
        "open_clip": 121,
    }
    assert set(table["metric"]) <= set(published.definitions())
    assert table["value"].notna().all()
    assert table.loc[table["metric"] != "CIDEr", "value"].between(0, 1).all()


def test_the_mean_columns_are_means_of_both_directions() -> None:
    rows = published.rows(COCA).query("source == 'open_clip' and task == 'flickr30k'").set_index("metric")["value"]
    assert rows["mean_recall@1"] == pytest.approx((rows["t2i_recall@1"] + rows["i2t_recall@1"]) / 2)


def test_records_of_two_models_share_a_source_where_they_can() -> None:
    by_task = {r.task: r for r in published.as_records([COCA, BLOG]) if r.model.startswith("coca")}
    assert by_task["imagenet1k"].signature.protocol == {"published": "LAION blog"}
    assert by_task["cifar10"].signature.protocol == {"published": "open_clip"}
    rows = {row.task: row for row in compare(published.as_records([COCA, BLOG])).rows}
    assert rows["imagenet1k"].difference is not None
    assert rows["imagenet1k"].difference.value == pytest.approx(2.4)


def test_n_is_kept_where_it_is_known_and_0_where_not() -> None:
    records = {r.task: r for r in published.as_records([BLOG])}
    assert records["flickr30k"].metrics["t2i_recall@5"].n == 1000
    assert records["flickr8k"].metrics["t2i_recall@5"].n == 0
    assert any("whole data set" in note.text for note in records["flickr8k"].notes)


def test_parameters_per_tower() -> None:
    assert published.parameters("coca_ViT-L-14") == {
        "image_encoder": 306_720_000,
        "text_encoder": 123_650_000,
        "text_decoder": 208_070_000,
    }
    assert published.parameters("none") == {}


def test_a_title_says_whose_numbers_and_whose_not() -> None:
    ours = published.as_records([COCA, CLIP])
    blogs = [r for r in published.as_records([COCA, BLOG]) if r.task == "imagenet1k"]
    assert "another CLIP baseline than the blog's" in published.describe(ours)
    assert published.describe(blogs) == "published by LAION blog"
    assert published.describe([]) == ""


def test_an_unknown_model_gets_the_closest_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean coca_ViT-L-14:laion2b_s13b_b90k"):
        published.as_records(["coca_ViT-L14:laion2b_s13b_b90k"])
