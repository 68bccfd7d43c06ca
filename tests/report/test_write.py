"""report.md and the figures, from a few Records and from published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocabench.errors import ResultsError, UnknownNameError
from cocabench.report.figures import colours, shortened
from cocabench.report.write import write_report
from cocabench.types import Record
from tests.report.records import estimate, record

FIGURES = {f"classification_{kind}.{suffix}" for kind in ("scores", "differences") for suffix in ("svg", "png")}
COCA, CLIP = "coca_ViT-L-14:laion2b_s13b_b90k", "ViT-L-14:laion2b_s32b_b82k"


def two_models() -> list[Record]:
    recall = {f"{d}_recall@{k}": estimate(0.1 * k**0.5, 0.02) for d in ("t2i", "i2t") for k in (10, 1, 5)}
    captions = {"CIDEr": estimate(0.83, 0.06, 300), "BLEU@4": estimate(0.21)}
    return [
        record("a|x", "t1", {"acc1": estimate(0.6, 0.05)}, parameters={"image_encoder": 306_720_000}),
        record("a|x", "t2", {"acc1": estimate(0.5, 0.05)}, warnings=("random weights",)),
        record("a|x", "r", recall, evaluator="retrieval", primary="t2i_recall@5"),
        record("a|x", "c", captions, evaluator="captioning", skipped_metrics={"SPICE": "no jars"}),
        record("b", "t1", 0.4),
        record("b", "t2", 0.7),
        record("b", "r", recall, evaluator="retrieval", primary="t2i_recall@5"),
    ]


def test_a_report_has_the_blogs_tables_and_both_figures(tmp_path: Path) -> None:
    paths = write_report(two_models(), tmp_path, title="T <b>")
    assert paths[0] == tmp_path / "report.md"
    assert {p.name for p in paths if p.parent.name == "figures"} == FIGURES
    text = paths[0].read_text(encoding="utf-8")
    assert "# T &lt;b&gt;\n\n**a\\|x against b: ahead on 1 and behind on 1 of 2 classification tasks (mean 0.0" in text
    assert "| task | model | t2i_recall@1 | t2i_recall@5 | t2i_recall@10 |" in text
    assert "| c | a\\|x | 21.0 (n=1000) | 83.0 ± 6.0 (n=300) | skipped \\[2\\] |" in text
    assert "\\[1\\] random weights" in text
    assert "\\[2\\] SPICE skipped: no jars" in text
    assert "| a\\|x | 306.72 |" in text
    assert "data images: 1000" in text


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_report(two_models(), tmp_path / folder)
    for name in FIGURES:
        assert (tmp_path / "one/figures" / name).read_bytes() == (tmp_path / "two/figures" / name).read_bytes()
    assert "<dc:date>" not in (tmp_path / "one/figures/classification_scores.svg").read_text(encoding="utf-8")


def test_swapped_models_draw_another_figure(tmp_path: Path) -> None:
    for folder, pair in (("one", ("a|x", "b")), ("two", ("b", "a|x"))):
        write_report(two_models(), tmp_path / folder, pair=pair)
    one, two = (tmp_path / f / "figures/classification_differences.png" for f in ("one", "two"))
    assert one.read_bytes() != two.read_bytes()


def test_published_numbers_alone_draw_the_figures(tmp_path: Path) -> None:
    paths = write_report([], tmp_path, published=[COCA, CLIP])
    assert {p.name for p in paths if p.parent.name == "figures"} == FIGURES
    text = paths[0].read_text(encoding="utf-8")
    assert "ahead on 22 and behind on 13 of 35 classification tasks" in text
    assert "incomparable (published by LAION blog and by CLIP_benchmark)" in text


def test_published_beside_measured_is_shown_and_not_subtracted(tmp_path: Path) -> None:
    (report, *_rest) = write_report([record(COCA, "imagenet1k", 0.75)], tmp_path, published=[COCA])
    text = report.read_text(encoding="utf-8")
    assert "75.0 (n=1000) | 75.6 (n=50000) | incomparable (published by open_clip, protocol not recorded)" in text
    assert "No figure: no classification task" in text


def test_one_model_has_no_figures_and_nothing_is_an_error(tmp_path: Path) -> None:
    paths = write_report([record()], tmp_path)
    assert "need two models" in paths[0].read_text(encoding="utf-8")
    with pytest.raises(ResultsError, match="no Records"):
        write_report([], tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean"):
        write_report(two_models(), tmp_path, pair=("a|x", "bb"))


def test_three_models_name_the_one_that_is_best_most_often(tmp_path: Path) -> None:
    records = [record(m, t, v) for m, v in (("a", 0.5), ("b", 0.7), ("c", 0.6)) for t in ("t1", "t2")]
    text = write_report(records, tmp_path)[0].read_text(encoding="utf-8")
    assert "**Best most often: b (2 of 2 classification tasks, ties included).**" in text


def test_a_model_has_one_colour_measured_or_published() -> None:
    palette = colours(["a", "b", "a (published)"])
    assert palette["a"] == palette["a (published)"] != palette["b"]


def test_long_names_lose_their_middle() -> None:
    assert shortened("ViT-L-14:/runs/" + "x" * 60 + "/epoch_5.pt", 21) == "ViT-L-14:/…epoch_5.pt"
