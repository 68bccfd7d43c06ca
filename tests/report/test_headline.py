"""The sentences of a report: one for every case, and every number of them counted again from the page's data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.types import Record
from cocabench.report.content import gather
from cocabench.report.page import jsonable
from cocabench.report.pictures import Thumbnails
from cocabench.report.write import content_of
from cocabench.results.store import load
from tests.report import constructed
from tests.report.records import estimate, record
from tests.samples import classified, right

Values = Mapping[str, Sequence[float | None]]


def made(values: Values, half: float | None = 0.02, kind: str = "classification", task: str = "t") -> list[Record]:
    """Return Records of {model: its numbers on the tasks}, with intervals of that half width; None: no result."""
    metric = {"classification": "acc1", "retrieval": "t2i_recall@5", "captioning": "CIDEr"}[kind]
    return [
        record(model, f"{task}{i}", {metric: estimate(value, half)}, evaluator=kind, primary=metric)
        for model, numbers in values.items()
        for i, value in enumerate(numbers)
        if value is not None
    ]


def data_of(records: Sequence[Record]) -> dict[str, Any]:
    return jsonable(content_of(gather(records), Thumbnails(max_images=0), figures=False))


FAR, NEAR, SAME = (0.9, 0.5), (0.52, 0.5), (0.5, 0.5)


def pair(*rows: tuple[float, float]) -> Values:
    return {"a": [one for one, _ in rows], "b": [other for _, other in rows]}


def flat(values: Mapping[str, float], n: int) -> Values:
    return {model: [value] * n for model, value in values.items()}


CASES: Mapping[str, tuple[list[Record], str]] = {
    "one model": (made({"a": [0.25, 0.35]}), "a: 30.0 % mean acc@1 on 2 tasks."),
    "one model of two kinds": (
        [*made({"a": [0.25, 0.35]}), *made({"a": [0.45]}, kind="captioning", task="c")],
        "a: 30.0 % mean acc@1 on 2 tasks, 45.0 CIDEr.",
    ),
    "some significant": (
        made(pair(FAR, FAR, *[NEAR] * 3)),
        "a beats b on 2 of 5 tasks; 3 are not significant.",
    ),
    "all significant": (made(pair(FAR, FAR)), "a beats b on 2 of 2 tasks."),
    "one is not significant": (made(pair(FAR, NEAR)), "a beats b on 1 of 2 tasks; 1 is not significant."),
    "the second is better": (made(pair(FAR[::-1], NEAR)), "b beats a on 1 of 2 tasks; 1 is not significant."),
    "significant both ways": (
        made(pair(FAR, FAR, FAR[::-1], SAME)),
        "a beats b on 2 of 4 tasks, b beats a on 1; 1 is not significant.",
    ),
    "nothing significant": (
        made(pair(*[NEAR] * 3)),
        "a and b do not differ significantly on any of 3 tasks (smallest detectable: 4.7 points).",
    ),
    "one task, not significant": (
        made(pair(NEAR)),
        "a and b do not differ significantly on t0 (smallest detectable: 4.1 points).",
    ),
    "untested": (
        made(pair(FAR, FAR, NEAR[::-1], SAME), half=None),
        "a scores higher on 2 of 4 tasks; without samples nothing can be tested.",
    ),
    "untested, level": (
        made(pair(FAR, FAR[::-1], SAME), half=None),
        "a and b each score higher on 1 of 3 tasks; without samples nothing can be tested.",
    ),
    "some untested": (
        [*made(pair(FAR, NEAR)), *made(pair(FAR), half=None, task="u")],
        "a beats b on 1 of 3 tasks; 1 is not significant, 1 is not tested.",
    ),
    "no task in common": (
        made({"a": [0.5, None], "b": [None, 0.5]}),
        "a and b have no comparable task in common.",
    ),
    "one is best at all kinds": (
        [
            *made(flat({"a": 0.9, "b": 0.5, "c": 0.4}, 1)),
            *made(flat({"a": 0.9, "b": 0.5, "c": 0.4}, 1), kind="retrieval", task="r"),
        ],
        "a is best at classification and retrieval.",
    ),
    "different models are best": (
        [
            *made(flat({"a": 0.9, "b": 0.5, "c": 0.4}, 1)),
            *made(flat({"a": 0.9, "b": 0.5, "c": 0.4}, 1), kind="retrieval", task="r"),
            *made(flat({"b": 0.9, "c": 0.4}, 1), kind="captioning", task="c"),
        ],
        "a classifies and retrieves best; b captions best.",
    ),
    "none of three is best": (
        made(flat({"a": 0.52, "b": 0.51, "c": 0.2}, 3)),
        "2 of 3 models lead: a and b are not significantly beaten on most tasks.",
    ),
    "three, nothing significant": (
        made(flat({"a": 0.52, "b": 0.51, "c": 0.50}, 3)),
        "a, b and c do not differ significantly on any of 3 tasks (smallest detectable: 5.3 points).",
    ),
    "three, untested": (
        made({"a": [0.5, 0.4, 0.5], "b": [0.6, 0.5, 0.5], "c": [0.1, 0.1, 0.1]}, half=None),
        "b scores highest on 2 of 3 tasks; without samples nothing can be tested.",
    ),
    "no model leads": (
        made({"a": [0.9, 0.2, 0.5], "b": [0.2, 0.9, 0.2], "c": [0.2, 0.2, 0.9]}),
        "No model leads: a is not significantly beaten on 1 of 3 tasks.",
    ),
    "every model leads": (
        made({"a": [0.9, 0.2, *[0.5] * 3], "b": [0.2, 0.9, *[0.5] * 3], "c": [0.55, 0.55, *[0.5] * 3]}),
        "None of 3 models leads: each is not significantly beaten on most tasks.",
    ),
    "many models": (
        made(flat({**{f"m{i:02}": 0.2 + 0.01 * i for i in range(47)}, "x": 0.9, "y": 0.9, "z": 0.9}, 3)),
        "3 of 50 models lead: x, y and z are not significantly beaten on most tasks.",
    ),
    "many leaders": (
        made(flat({**{f"m{i:02}": 0.9 for i in range(5)}, "x": 0.1}, 2)),
        "5 of 6 models lead: m00, m01 and 3 more are not significantly beaten on most tasks.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_headline_of_every_case(case: str) -> None:
    records, sentence = CASES[case]
    assert data_of(records)["headline"] == sentence


def test_a_difference_that_rounds_to_nothing_is_no_win() -> None:
    tie = made(pair((0.5004, 0.5), (0.6, 0.5)), half=None)
    assert data_of(tie)["headline"].startswith("a scores higher on 1 of 2 tasks")


def test_lower_ranks_are_better() -> None:
    ranks = [
        record(m, "r", {"t2i_median_rank": estimate(v, 0.5)}, evaluator="retrieval", primary="t2i_median_rank")
        for m, v in (("a", 9.0), ("b", 3.0))
    ]
    assert data_of(ranks)["headline"] == "b beats a on 1 of 1 task."
    assert finding(ranks).startswith("Text → image median rank (lower is better).")
    assert data_of(ranks[:1])["headline"] == "a: 9.0 text → image median rank (lower is better)."


# Every number of a sentence, counted from data.json alone.


def outcomes(data: Mapping[str, Any], a: str, b: str) -> dict[str, int]:
    """Return on how many tasks a beats b, b beats a, and neither, from the tests in the data."""
    found = {"wins": 0, "losses": 0, "same": 0, "untested": 0}
    for gap in data["differences"]:
        if gap["task"].startswith("mean:") or {gap["first"], gap["second"]} != {a, b}:
            continue
        if gap["adjusted"] is None:
            found["untested"] += 1
        elif gap["adjusted"] >= 0.05:
            found["same"] += 1
        else:
            found["wins" if (gap["value"] > 0) == (gap["first"] == a) else "losses"] += 1
    return found


@pytest.mark.parametrize("case", [name for name, (_, text) in CASES.items() if " beats " in text])
def test_the_counts_of_two_models_are_those_of_the_data(case: str) -> None:
    data = data_of(CASES[case][0])
    text = data["headline"]
    said = re.match(r"(\w) beats (\w) on (\d+) of (\d+) tasks?", text)
    assert said
    found = outcomes(data, said[1], said[2])
    assert int(said[3]) == found["wins"]
    assert int(said[4]) == sum(found.values())
    for pattern, count in ((r", \w beats \w on (\d+)", "losses"), (r"(\d+) (?:is|are) not significant", "same")):
        more = re.search(pattern, text)
        assert int(more[1] if more else 0) == found[count]
    untested = re.search(r"(\d+) (?:is|are) not tested", text)
    assert int(untested[1] if untested else 0) == found["untested"]


@pytest.mark.parametrize("case", CASES)
def test_the_counts_of_unbeaten_tasks_and_of_leaders_are_those_of_the_data(case: str) -> None:
    data = data_of(CASES[case][0])
    tasks = {gap["task"] for gap in data["differences"] if not gap["task"].startswith("mean:")}
    for model, (k, n) in data["unbeaten"].items():
        beaten = tested = 0
        for task in tasks:
            gaps = [
                (gap["value"] if gap["first"] == model else -gap["value"], gap["adjusted"])
                for gap in data["differences"]
                if gap["task"] == task and model in (gap["first"], gap["second"]) and gap["adjusted"] is not None
            ]
            tested += bool(gaps)
            beaten += any(value < 0 and p < 0.05 for value, p in gaps)
        assert (k, n) == (tested - beaten, tested)
    if said := re.match(r"(\d+) of (\d+) models leads?: ", data["headline"]):
        most = [model for model, (k, n) in data["unbeaten"].items() if 2 * k > n]
        assert (int(said[1]), int(said[2])) == (len(most), len(data["unbeaten"]))


@pytest.mark.slow
def test_many_models_that_single_tasks_do_not_tell_apart_are_by_their_mean(tmp_path: Path) -> None:
    data = data_of(constructed.many(tmp_path, models=14, tasks=12))
    said = re.match(
        r"(\d+) of 14 models leads?: .* not significantly beaten on the mean of 12 tasks\.$", data["headline"]
    )
    assert said
    assert sum(2 * k > n for k, n in data["unbeaten"].values()) > 7, "most tasks tell few of them apart"
    means = [gap for gap in data["differences"] if gap["task"] == "mean:classification" and gap["adjusted"] < 0.05]
    beaten = {gap["second" if gap["value"] > 0 else "first"] for gap in means}
    assert int(said[1]) == 14 - len(beaten)


def test_three_models_that_only_their_mean_tells_apart(tmp_path: Path) -> None:
    for model, numbers in {"a": (80, *[55] * 7), "b": (80, *[55] * 7), "c": (40, *[53] * 7)}.items():
        for i, n in enumerate(numbers):
            classified(tmp_path, model, right(n, 100), f"t{i}", ids=f"{i}-")
    said = data_of(load(tmp_path))["headline"]
    assert said == "2 of 3 models lead: a and b are not significantly beaten on the mean of 8 tasks."


@pytest.mark.parametrize("case", [name for name, (_, text) in CASES.items() if " best" in text])
def test_a_model_is_best_only_if_it_beats_every_other(case: str) -> None:
    data = data_of(CASES[case][0])
    for finding in data["findings"]:
        best, *others = [model for model, _ in finding["ranking"]]
        task = {"retrieval": "r0", "captioning": "c0", "classification": "t0"}[finding["kind"]]
        keys = [gap for gap in data["differences"] if gap["task"] == task]
        beaten = {
            gap["second"] if gap["first"] == best else gap["first"]
            for gap in keys
            if best in (gap["first"], gap["second"]) and gap["adjusted"] < 0.05
        }
        assert beaten == set(others)


# A finding per kind.


def finding(records: Sequence[Record]) -> str:
    (only,) = data_of(records)["findings"]
    return str(only["text"])


def sampled(root: Path, **hits: Sequence[int]) -> list[str]:
    """Return the texts of the findings of {model: images right, of 100, on each task}."""
    for model, numbers in hits.items():
        for i, n in enumerate(numbers):
            classified(root, model, right(n, 100), f"t{i}", ids=f"{i}-")
    return [found["text"] for found in data_of(load(root))["findings"]]


def test_a_finding_names_the_lead_and_the_only_task_with_a_significant_difference(tmp_path: Path) -> None:
    (said,) = sampled(tmp_path, a=(90, 52, 51), b=(50, 50, 50))
    assert re.fullmatch(
        r"Mean acc@1 of 3 tasks\. a leads b by 14\.3 ± \d\.\d points: significant\. "
        r"Task by task a beats b on t0 alone \(\+40\.0\); 2 differences are not significant\.",
        said,
    )


def test_a_finding_without_significance_says_what_would_be_detected(tmp_path: Path) -> None:
    (said,) = sampled(tmp_path, a=(52, 51), b=(50, 50))
    assert said.startswith("Mean acc@1 of 2 tasks. a and b: not significant (detects ")
    assert said.endswith("Task by task none of the 2 differences is significant.")


def test_a_finding_of_several_models_says_that_every_difference_is_significant(tmp_path: Path) -> None:
    (said,) = sampled(tmp_path, a=(90, 90), b=(50, 50), c=(10, 10))
    assert "Every difference is significant. Task by task a beats b on 2 of 2 tasks." in said


def test_a_finding_names_models_without_a_result() -> None:
    said = finding([*made(pair(FAR)), record("c", "t0", {"acc1": estimate(None)})])
    assert said.endswith("No result: c.")


def test_untested_and_incomparable_numbers_are_called_that() -> None:
    assert "The differences are not tested." in finding(made(pair(FAR), half=None))
    mine = [record(m, t, 0.5, protocol={"data": {"images": n}}) for m, t, n in (("a", "t", 7), ("b", "t", 8))]
    data = data_of(mine)
    assert data["headline"] == "a and b have no comparable task in common."
    assert "No result: b." in data["findings"][0]["text"]
