"""The samples on the page: hardest classes, confusions, ranks, and the gallery's choice of images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.kinds.retrieval import Retrieval
from cocabench.report import galleries, pivots
from cocabench.report.content import gather
from cocabench.report.galleries import Choice
from cocabench.report.grid import Table
from cocabench.report.samples import BEST, DIFFERENT, WORST, Thumbnails, order, roles_of, task_galleries
from cocabench.report.write import write_report
from cocabench.results.store import RecordSet, Store, load
from tests.report.pictured import results
from tests.report.records import estimate, record


@pytest.fixture
def found(tmp_path: Path) -> RecordSet:
    return results(tmp_path)


def samples(found: RecordSet, task: str) -> dict[str, pd.DataFrame]:
    return {r.model: found.samples(r) for r in found if r.task == task}


CLASSIFICATION, RETRIEVAL = find("classification"), find("retrieval")


def broken_down(kind: type[Kind], task: str, frames: dict[str, pd.DataFrame]) -> dict[str, Table]:
    return {table.name: table for table in galleries.breakdowns(kind, task, frames)}


def test_hardest_classes_are_the_lowest_means_of_the_models(found: RecordSet) -> None:
    table = broken_down(CLASSIFICATION, "named", samples(found, "named"))["named-hardest"]
    assert table.columns == ("class", "images", "one", "two")
    # "one" is wrong on even images, "two" on every third: all four cats of "two", none of its dogs and owls.
    assert [[e.text for e in line.entries] for line in table.lines] == [
        ["cat", "4", "50.0", "0.0"],
        ["dog", "4", "50.0", "100.0"],
        ["owl", "4", "50.0", "100.0"],
    ]


def test_classes_of_one_image_are_not_ranked(found: RecordSet) -> None:
    few = {model: frame.drop_duplicates("label") for model, frame in samples(found, "named").items()}
    assert not broken_down(CLASSIFICATION, "named", few)


def test_confusions_name_the_frequent_ones_only(found: RecordSet) -> None:
    table = broken_down(CLASSIFICATION, "named", samples(found, "named"))["named-confusions"]
    said = [tuple(e.text for e in line.entries) for line in table.lines]
    assert ("two", "cat", "dog", "4") in said
    assert ("one", "owl", "cat", "2") in said
    assert len(said) == 4


def test_the_histogram_holds_every_query_once(found: RecordSet) -> None:
    table = broken_down(RETRIEVAL, "found", samples(found, "found"))["found-t2i"]
    assert table.columns == ("rank", "one", "two")
    shares = [[e.value for e in line.entries[1:]] for line in table.lines]
    assert shares[0] == pytest.approx([50, 100 * 8 / 12])
    assert shares[1] == pytest.approx([50, 100 * 4 / 12])
    assert [sum(column) for column in zip(*shares, strict=True)] == pytest.approx([100, 100])  # type: ignore[arg-type]


def test_the_gallery_shows_disagreement_first_and_each_image_once(found: RecordSet) -> None:
    (shown,) = galleries.galleries(CLASSIFICATION, samples(found, "named"), frozenset(), max_items=6)
    values = [tuple(answer.value for answer in item.answers) for item in shown.examples]
    assert set(values[:2]) == {(0, 1), (1, 0)}
    assert len({item.picture for item in shown.examples}) == 6
    item = shown.examples[0]
    assert [c.right for c in item.answers[0].choices].count(True) == 1


def test_retrieval_has_both_directions_with_neighbours(found: RecordSet) -> None:
    t2i, i2t = galleries.galleries(RETRIEVAL, samples(found, "found"), frozenset(), max_items=4)
    item = t2i.examples[0]
    assert t2i.view.query
    assert t2i.pictured
    assert not i2t.pictured
    assert item.answers[0].choices[0].picture == f"x{(int(item.picture[1:]) + 1) % 12}"
    assert {a.words for item in t2i.examples for a in item.answers} == {"rank 1", "rank 2"}
    assert i2t.examples[0].truth == (f"picture {i2t.examples[0].picture[1:]}",)
    assert i2t.examples[0].answers[0].choices[0].text == "not it"


def test_items_show_their_captions_with_the_scores_by_each_image() -> None:
    rows = {"id": ["0", "1"], "image_id": ["0", "1"], "texts": [["a", "b"], ["c", "d"]], "text_right": [1, 0]}
    frames = {
        "one": pd.DataFrame({**rows, "image_right": [0, 1], "scores": [[0.9, 0.1, 0.2, 0.8], [0.1, 0.2, 0.3, 0.4]]}),
        "two": pd.DataFrame({**rows, "scores": [[0.9, 0.1], [0.2, 0.3]]}),
    }
    (shown,) = galleries.galleries(find("image_caption_selection"), frames, frozenset(), max_items=4)
    answers = {item.picture: item.answers for item in shown.examples}
    assert [(a.value, a.words) for a in answers["0"]] == [(0, "wrong"), (1, "right")]
    assert [(c.text, c.score, c.right) for c in answers["0"][0].choices] == [
        ("a", "0.900, 0.200", True),
        ("b", "0.100, 0.800", True),
    ]
    assert [(c.text, c.score, c.right) for c in answers["1"][1].choices] == [
        ("c", "0.200", True),
        ("d", "0.300", False),
    ]


def test_captions_come_with_references_and_scores(found: RecordSet) -> None:
    (shown,) = galleries.galleries(find("captioning"), samples(found, "captioned"), frozenset(), max_items=12)
    item = next(item for item in shown.examples if item.picture == "x1")
    assert item.truth == ("one dog",)
    assert item.answers[0].choices[0].text == "a dog"
    assert item.answers[0].words == "CIDEr 121.0"


def test_images_with_thumbnails_are_preferred(found: RecordSet) -> None:
    frame = samples(found, "named")["one"]
    assert set(galleries.pool(frame, frozenset({"x3", "x7", "elsewhere"}))) == {"x3", "x7"}
    assert set(galleries.pool(frame, frozenset({"elsewhere"}))) == {f"x{i}" for i in range(12)}


def test_with_many_models_the_best_the_most_different_and_the_worst_come_first(tmp_path: Path) -> None:
    """Model i is wrong on every (i + 2)-th image; the Records say that the first is the best and the last the worst."""
    found = results(tmp_path, models=tuple("abcdef"), images=60)
    report = gather(found)
    row = next(row for row in report.comparison.rows if row.task == "named")
    records = {r.model: r for r in report.records if r.task == "named"}
    roles = roles_of(report, row, records)
    assert roles == {"a": BEST, "d": DIFFERENT, "f": WORST}
    right = {m: {i for i in range(60) if i % (k + 2)} for k, m in enumerate("abcdef")}
    gained = {m: len(right[m] - right["a"]) for m in "bcde"}
    assert max(gained.values()) == gained["d"]
    assert order(report, row, roles, records) == ["a", "d", "f", "b", "c", "e"]
    assert order(gather(found, baseline=["c"]), row, roles, records)[:2] == ["a", "c"]
    assert roles_of(report, row, {m: records[m] for m in "ab"}) == {}


OWN_KIND = """
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Choices, Column, Hardest, Histogram, Presentation, TableSpec, View
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Hits, Mean

RIGHT = Metric("right", "Share answered right.", Hits(lambda rows: rows["is_right"].to_numpy(float)), ("is_right",))
SURE = Metric("sure", "Mean confidence.", Mean("confidence"), ("confidence",), unit="number")


class Answering(Kind):
    name = "answering_questions"
    declared = (RIGHT, SURE)
    samples = (
        Column("is_right", "bool", ""), Column("confidence", "float", ""), Column("question", "text", ""),
        Column("answers", "texts", ""), Column("scores", "floats", ""), Column("region", "text", ""),
    )
    shown = Presentation(
        views=(
            View("answers", "Questions", ("right",), Choices("answers", "scores", digits=1), ("sure",), "question"),
        ),
        breakdowns=(
            Hardest("regions", "Regions: the {n} hardest", "right", "region", "region"),
            Histogram("sure", "Confidence, % of questions", "sure", ((0.5, "up to 0.5"), (1.0, "above"))),
        ),
    )
"""


def test_a_kind_of_a_plugin_has_a_table_a_gallery_and_breakdowns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    info = package / "answering-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "answering.py").write_text(OWN_KIND)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: answering\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cocabench.kinds]\nanswering_questions = answering:Answering\n")
    monkeypatch.syspath_prepend(str(package))
    store = Store(tmp_path / "results")
    for side, model in enumerate(("one", "two")):
        right = [i % (side + 2) == 0 for i in range(6)]
        rows = {"id": [*"abcdef"], "image_id": [*"abcdef"], "is_right": right, "confidence": [0.5, 0.9] * 3}
        texts = {"question": ["why?"] * 6, "answers": [["yes", "no"]] * 6, "scores": [[0.75, 0.25]] * 6}
        metrics = {"right": estimate(sum(right) / 6, 0.1, 6), "sure": estimate(0.7, 0.1, 6)}
        made = record(model, "quiz", metrics, evaluator="answering_questions", primary="right")
        store.put(made, pd.DataFrame({**rows, **texts, "region": ["north", "south"] * 3}))
    report = gather(load(tmp_path / "results"))
    (table,) = pivots.pivots(report)
    assert table.columns == ("task", "model", "right", "sure")
    (task,) = task_galleries(report, Thumbnails())
    regions, sure = task.tables
    assert (regions.name, regions.columns) == ("quiz-regions", ("region", "images", "one", "two"))
    assert [[e.text for e in line.entries] for line in sure.lines] == [
        ["up to 0.5", "50.0", "50.0"],
        ["above", "50.0", "50.0"],
    ]
    (shown,) = task.galleries
    assert (shown.graded, shown.single, shown.pictured) == (False, False, False)
    item = shown.examples[0]
    assert item.title == "why?"
    assert item.answers[0].choices == (Choice("yes", "0.8"), Choice("no", "0.2"))
    assert item.answers[0].words in ("sure 0.5", "sure 0.9")
    page = write_report(load(tmp_path / "results"), tmp_path / "report")[0].read_text()
    assert "<h2>Answering questions</h2>" in page
    assert "<h3>Questions</h3>" in page
    assert "A right, B wrong" in page


def test_a_page_with_many_tasks_limits_the_number_of_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = gather(results(tmp_path, models=tuple(f"m{i}" for i in range(12))))
    assert {len(task.models) for task in task_galleries(report, Thumbnails())} == {12}
    monkeypatch.setattr("cocabench.report.samples.MAX_ANSWERS_ON_PAGE", 10)
    shown = task_galleries(report, Thumbnails())
    assert {len(task.models) for task in shown} == {8}
    assert all(len(item.answers) == 8 for task in shown for part in task.galleries for item in part.examples)
    assert all(len(table.columns) <= 6 for task in shown for table in task.tables)


def test_samples_can_be_read_for_some_images(found: RecordSet) -> None:
    report = gather(found)
    made = next(r for r in report.records if r.task == "found")
    some, every = report.samples(made, images=["x1", "x5"]), report.samples(made)
    pd.testing.assert_frame_equal(some, every[every["image_id"].isin(["x1", "x5"])].reset_index(drop=True))


def test_thumbnails_are_stored_once_and_within_limits(found: RecordSet) -> None:
    file = gather(found).thumbnails(found.records[0])
    thumbnails = Thumbnails(max_images=2)
    assert [thumbnails.add(file, name) for name in ("x0", "x1", "x0", "x2", "none")] == ["i0", "i1", "i0", "", ""]
    assert all(url.startswith("data:image/jpeg;base64,") for url in thumbnails.urls().values())
    assert Thumbnails(max_bytes=10).add(file, "x0") == ""
    assert Thumbnails(max_images=0).add(file, "x0") == ""


def test_a_report_has_galleries_for_every_task_with_samples(found: RecordSet) -> None:
    report, thumbnails = gather(found), Thumbnails()
    shown = task_galleries(report, thumbnails)
    assert [task.task for task in shown] == ["named", "found", "captioned"]
    assert all(task.models == ("one", "two") for task in shown)
    assert len(thumbnails.urls()) == 12
    assert not task_galleries(gather(found.records), Thumbnails())


def test_thumbnails_include_the_nearest_wrong_images_of_retrieval() -> None:
    from cocabench.core.types import Example
    from cocabench.run import thumbnails

    examples = [Example(str(i), image=None) for i in range(600)]  # type: ignore[arg-type]
    first = thumbnails.chosen(examples)
    outside = next(e for e in examples if e not in first)
    rows = [
        {"image_id": first[0].id, "t2i_wrong": [outside.id, first[1].id]},
        {"image_id": first[0].id, "t2i_wrong": None},
    ]
    assert thumbnails.wanted(examples, pd.DataFrame(rows), Retrieval) == [*first, outside]
    assert thumbnails.wanted(examples, pd.DataFrame({"image_id": []}), Retrieval) == first
