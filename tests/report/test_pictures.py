"""The samples on the page: which images, with what answers, and what is counted of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cocabench.kinds import find
from cocabench.kinds.base import Kind
from cocabench.kinds.retrieval import Retrieval
from cocabench.report import breakdowns, pivots
from cocabench.report.content import gather
from cocabench.report.pictures import Near, Strip, Task, Thumbnails, strips
from cocabench.report.write import content_of, write_report
from cocabench.results.store import RecordSet, Store, load
from tests.report.pictured import results
from tests.report.records import estimate, record


@pytest.fixture
def found(tmp_path: Path) -> RecordSet:
    return results(tmp_path)


def samples(found: RecordSet, task: str) -> dict[str, pd.DataFrame]:
    return {r.model: found.samples(r) for r in found if r.task == task}


CLASSIFICATION, RETRIEVAL, CAPTIONING = (find(name) for name in ("classification", "retrieval", "captioning"))


def shown(kind: type[Kind], frames: dict[str, pd.DataFrame], thumbnails: frozenset[str] = frozenset()) -> list[Strip]:
    return strips(kind, [Task("t", "t", frames, thumbnails)])[0]


def test_groups_of_classes_are_the_lowest_and_the_most_different(found: RecordSet) -> None:
    (dots,) = breakdowns.groups(CLASSIFICATION, "named", samples(found, "named"))
    # "one" is wrong on even images, "two" on every third: all four cats of "two", none of its dogs and owls.
    rows = [(row.label, row.about, [p.score.value for p in row.points]) for row in dots.panels[0].rows]
    assert rows == [("cat", "n=4", [50, 0]), ("dog", "n=4", [50, 100]), ("owl", "n=4", [50, 100])]


def test_classes_of_one_image_are_not_ranked(found: RecordSet) -> None:
    few = {model: frame.drop_duplicates("label") for model, frame in samples(found, "named").items()}
    assert not list(breakdowns.groups(CLASSIFICATION, "named", few))


def test_small_groups_are_one_and_categories_keep_their_order() -> None:
    texts = [["a red cat", "a black cat"]] * 21 + [["a dog", "a big dog"]] * 5 + [["an owl", "an emu"]] * 3
    frame = pd.DataFrame({"texts": texts, "text_right": [1] * 21 + [0] * 8, "image_id": range(29), "id": range(29)})
    (dots,) = breakdowns.groups(find("image_caption_selection"), "t", {"a": frame})
    rows = [(row.label, row.about, row.points[0].score.value) for row in dots.panels[0].rows]
    assert rows == [("red → black", "n=21", 100), ("all others", "n=8", 0)]
    assert not list(breakdowns.groups(find("image_caption_selection"), "t", {"a": frame.drop(columns="texts")}))
    words = pd.DataFrame(
        {"caption_words": [12, 3, 3, 2] * 5, "cider": [0.1] * 20, "id": range(20), "image_id": range(20)}
    )
    (lengths,) = breakdowns.groups(CAPTIONING, "t", {"a": words})
    assert [row.label for row in lengths.panels[0].rows] == ["2", "3", "10 to 12"]


def test_confusions_name_the_frequent_ones_only(found: RecordSet) -> None:
    (listing,) = breakdowns.listings(CLASSIFICATION, "named", samples(found, "named"), frozenset({"x3"}))
    said = {model: [(o.truth, o.answer, o.n, o.of) for o in items] for model, items in listing.models.items()}
    assert said["two"] == [("cat", "dog", 4, 4)]
    assert ("owl", "cat", 2, 4) in said["one"]
    assert "x3" in listing.models["two"][0].images


def test_repeated_captions_are_counted(found: RecordSet) -> None:
    (listing,) = breakdowns.listings(CAPTIONING, "captioned", samples(found, "captioned"), frozenset())
    assert next((o.answer, o.n) for o in listing.models["one"]) == ("a thing", 6)


def test_agreement_counts_each_image_once(found: RecordSet) -> None:
    (agreement,) = breakdowns.agreements(CLASSIFICATION, "named", samples(found, "named")).values()
    one, two = (np.array([i % k != 0 for i in range(12)]) for k in (2, 3))
    expected = [int(x.sum()) for x in (one & two, one & ~two, ~one & two, ~one & ~two)]
    assert list(agreement[1:]) == expected
    frames = samples(found, "named")
    shuffled = {model: frame.sample(frac=1, random_state=i) for i, (model, frame) in enumerate(frames.items())}
    assert list(breakdowns.agreements(CLASSIFICATION, "named", shuffled).values()) == [agreement]
    frames["two"] = frames["two"][1:]
    assert not breakdowns.agreements(CLASSIFICATION, "named", frames)
    assert not breakdowns.agreements(CAPTIONING, "captioned", samples(found, "captioned"))


def test_a_curve_is_recall_at_every_k_with_chance(found: RecordSet) -> None:
    frames = samples(found, "found")
    levels = {f"t2i_recall@{k}": 100 * k / 12 for k in (1, 5, 10)}
    t2i, i2t = breakdowns.curves(RETRIEVAL, "found", frames, levels)
    assert (t2i.name, i2t.name) == ("found-t2i", "found-i2t")
    (one, two) = t2i.lines
    assert [(k, round(s.value)) for k, s in one.points][:2] == [(1, 50), (2, 100)]
    assert two.points[0][1].value == pytest.approx(100 * 8 / 12)
    assert t2i.chance == tuple((float(k), 100 * k / 12) for k in (1, 5, 10))


def test_a_trend_is_recall_over_the_length_of_the_caption(found: RecordSet) -> None:
    """Four captions of 8 words and eight of 30; a model without lengths, or with one length, has no line."""
    frame = samples(found, "found")["one"]
    texts = frame["t2i_n_above"].notna()
    words = np.where(np.arange(texts.sum()) < 4, 8, 30)
    long = frame.assign(text_words=pd.Series(words, index=frame.index[texts]))
    assert not list(breakdowns.trends(RETRIEVAL, "found", {"one": long, "bare": frame})), "four are too few"
    words[4] = 10
    long = frame.assign(text_words=pd.Series(words, index=frame.index[texts]))
    (chart,) = breakdowns.trends(RETRIEVAL, "found", {"one": long, "bare": frame})
    (line,) = chart.lines
    assert (chart.name, chart.x_label, chart.x.log) == ("found-length", "words", True)
    right = RETRIEVAL.metric("t2i_recall@1").statistic.per_row(frame[texts])
    assert [(x, s.value) for x, s in line.points] == [
        (pytest.approx((4 * 8 + 10) / 5), pytest.approx(100 * right[:5].mean())),
        (30, pytest.approx(100 * right[5:].mean())),
    ]


def test_chance_of_retrieval_is_that_of_a_random_order(found: RecordSet) -> None:
    frame = samples(found, "found")["one"]
    assert Retrieval.chance_level("t2i_recall@5", {}, frame) == pytest.approx(5 / 12)
    assert Retrieval.chance_level("i2t_recall@1", {}, frame) == pytest.approx(1 / 12)
    assert Retrieval.chance_level("t2i_median_rank", {}, frame) is None
    assert CLASSIFICATION.chance_level("acc5", {"classes": 20}, frame) == 0.25
    assert CLASSIFICATION.chance_level("acc5", {"classes": 3}, frame) == 1


def test_cards_show_disagreement_first_and_each_image_once(found: RecordSet) -> None:
    (strip,) = shown(CLASSIFICATION, samples(found, "named"))
    outs = [tuple(answer.out for answer in card.answers) for card in strip.cards]
    assert set(outs[:2]) == {(0, 1), (1, 0)}
    assert len({card.picture for card in strip.cards}) == len(strip.cards) == 12
    card = next(card for card in strip.cards if card.answers[0].word == "wrong")
    assert card.answers[0].hint == "right answer is no. 2"
    assert card.title in ("cat", "dog", "owl")


def test_retrieval_shows_the_right_image_at_its_rank(found: RecordSet) -> None:
    t2i, i2t = shown(RETRIEVAL, samples(found, "found"))
    card = t2i.cards[0]
    other = f"x{(int(card.picture[1:]) + 1) % 12}"
    for answer in card.answers:
        right, wrong = Near(card.picture, True), Near(other, False)
        assert answer.near == ((right, wrong) if answer.out == 1 else (wrong, right))
        assert answer.score == ("rank 1" if answer.out == 1 else "rank 2")
    card = i2t.cards[0]
    assert card.title == f"picture {card.picture[1:]}"
    assert {(a.word, a.text) for a in card.answers} == {("right", card.title), ("wrong", "not it")}


def test_captions_come_with_scores_the_most_different_first(found: RecordSet) -> None:
    (strip,) = shown(CAPTIONING, samples(found, "captioned"))
    assert strip.graded
    assert strip.cards[0].tag.startswith("most different, by 1")
    card = next(card for card in strip.cards if card.picture == "x1")
    assert (card.title, card.answers[0].text, card.answers[0].score) == ("one dog", "a dog", "121")
    assert max(answer.bar or 0 for card in strip.cards for answer in card.answers) == 1


def test_only_what_is_bad_is_called_worst(found: RecordSet) -> None:
    frames = {model: frame.iloc[:1] for model, frame in samples(found, "captioned").items()}
    same = dict.fromkeys(frames, frames["one"])
    assert [card.tag for card in shown(CAPTIONING, same)[0].cards] == [""]
    tags = [card.tag for card in shown(CAPTIONING, samples(found, "captioned"))[0].cards]
    assert "worst for both" in tags
    assert "best for both" in tags


def test_a_question_is_no_answer() -> None:
    rows = {"id": ["0"], "image_id": ["0"], "question": ["what?"], "answers": [["red", "dark red"]], "answer": ["blue"]}
    frame = pd.DataFrame({**rows, "accuracy": [0.0]})
    (strip,) = shown(find("vqa"), {"one": frame})
    assert (strip.cards[0].title, strip.cards[0].also) == ("what?", "right: red; dark red")


def test_images_that_every_model_gets_wrong_are_those_with_the_worst_ranks(found: RecordSet) -> None:
    _, hard = strips(RETRIEVAL, [Task("t", "t", samples(found, "found"), frozenset())])
    assert hard is not None
    assert {card.picture for card in hard.cards} == {"x0", "x6"}
    assert all(answer.word == "wrong" for card in hard.cards for answer in card.answers)


def test_images_with_thumbnails_are_preferred(found: RecordSet) -> None:
    (strip,) = shown(CLASSIFICATION, samples(found, "named"), frozenset({"x3", "x7", "elsewhere"}))
    assert {card.picture for card in strip.cards} == {"x3", "x7"}


def test_a_choice_is_right_where_its_text_is() -> None:
    rows = {"id": ["0", "1"], "image_id": ["0", "1"], "texts": [["a", "b"], ["c", "d"]], "text_right": [1, 0]}
    frame = pd.DataFrame({**rows, "scores": [[0.9, 0.1], [0.2, 0.3]], "selected": ["a", "d"]})
    (strip,) = shown(find("image_caption_selection"), {"one": frame})
    said = {card.picture: (card.title, card.answers[0].word, card.answers[0].text) for card in strip.cards}
    assert said == {"0": ("a", "right", "a"), "1": ("c", "wrong", "d")}


OWN_KIND = """
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Choices, Column, Groups, Presentation, View
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
            View("answers", "Questions", ("right",), Choices("answers", "scores"), ("sure",), "question"),
        ),
        breakdowns=(Groups("regions", "Regions: the {n} hardest", "right", "region", "region", worst=True),),
    )
"""


def test_a_kind_of_a_plugin_has_a_section_cards_and_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    (section,) = content_of(report, Thumbnails()).sections
    (regions,) = section.groups
    assert regions.caption == "Regions: the 2 hardest"
    (strip,) = section.strips
    assert strip.cards[0].title == "why?"
    assert {answer.text for card in strip.cards for answer in card.answers} == {"yes"}
    assert {answer.score for card in strip.cards for answer in card.answers} <= {"sure 0.5", "sure 0.9"}
    page = write_report(load(tmp_path / "results"), tmp_path / "report", figures=False)[0].read_text()
    assert ">Answering questions <a" in page
    assert '<section class="strip" id="g-answering_questions-answers"' in page
    assert "Who is right where" in page


def test_samples_can_be_read_for_some_images(found: RecordSet) -> None:
    report = gather(found)
    made = next(r for r in report.records if r.task == "found")
    some, every = report.samples(made, images=["x1", "x5"]), report.samples(made)
    pd.testing.assert_frame_equal(some, every[every["image_id"].isin(["x1", "x5"])].reset_index(drop=True))


def test_thumbnails_are_stored_once_and_within_limits(found: RecordSet) -> None:
    file = gather(found).thumbnails(found.records[0])
    thumbnails = Thumbnails(max_images=2)
    assert [thumbnails.add(file, name) for name in ("x0", "x1", "x0", "x2", "none")] == ["i0", "i1", "i0", "", ""]
    assert [thumbnails.key(file, name) for name in ("x0", "x2")] == ["i0", ""]
    assert all(one.url.startswith("data:image/jpeg;base64,") for one in thumbnails.images)
    assert {(one.width, one.height) for one in thumbnails.images} == {(64, 48)}
    assert Thumbnails(max_bytes=10).add(file, "x0") == ""
    assert Thumbnails(max_images=0).add(file, "x0") == ""


def test_a_report_has_cards_for_every_task_with_samples(found: RecordSet) -> None:
    content = content_of(gather(found), Thumbnails())
    assert [section.area.kind for section in content.sections if section.strips] == [
        "classification",
        "retrieval",
        "captioning",
    ]
    assert len(content.thumbnails) == 12
    bare = content_of(gather(found.records), Thumbnails())
    assert not any(section.strips for section in bare.sections)


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


def test_hallucinated_words_are_marked_in_the_caption_and_escaped() -> None:
    from cocabench.report.pictures import Answer

    answer = Answer("m", 0.0, "", "", "Hot dogs & a dog, the hotdog <b>", marks=("hot dogs", "dog"))
    assert answer.parts == [("Hot dogs", True), (" & a ", False), ("dog", True), (", the hotdog <b>", False)]
    assert Answer("m", 0.0, "", "", "a dog").parts == [("a dog", False)]
    assert Answer("m", 0.0, "", "", "").parts == []
