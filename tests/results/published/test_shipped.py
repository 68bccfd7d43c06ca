"""Published numbers stand beside those of shipped tasks: the same images, the metric that the task leads with."""

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cocabench.core.types import Chance, Dataset, Example, Machine
from cocabench.kinds.base import near_chance as alarms_of
from cocabench.kinds.base import notes_of
from cocabench.kinds.classification import ACC1, Classification
from cocabench.metrics.ranking import Ranks
from cocabench.results import published
from cocabench.specs.registry import Task, all_tasks

TASKS = {name: task for name, task in all_tasks().items() if isinstance(task.kind, Classification)}
TABLE = published.read()
NOT_PUBLISHED = {"caltech101", "eurosat", "resisc45"}
"""The whole sets, of which VTAB tests a part: theirs are the tasks vtab/…"""


def rows(name: str) -> pd.DataFrame:
    return TABLE[TABLE["task"] == name]


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if "demo" not in task.spec.groups])
def test_a_task_has_published_numbers_of_as_many_images(name: str) -> None:
    found = rows(name)
    assert found.empty == (name in NOT_PUBLISHED)
    others = set(found["n"]) - {TASKS[name].spec.expect.images}
    assert not others or (name, others) == ("vtab/caltech101", {6084})  # CLIP_benchmark's, of another version of TFDS


@pytest.mark.parametrize("name", [name for name in TASKS if not rows(name).query("source == 'open_clip'").empty])
def test_a_task_leads_with_the_metric_that_open_clip_publishes(name: str) -> None:
    assert set(rows(name).query("source == 'open_clip'")["metric"]) == {TASKS[name].spec.primary}


def near_chance(task: Task, value: float) -> bool:
    images, classes = task.spec.expect.images or 0, task.spec.expect.classes or 0
    hits = (np.arange(images) < round(value * images)).astype(float)
    ids = [str(i) for i in range(images)]
    ranks = {"n_above": 1 - hits} | dict.fromkeys(Ranks._fields[1:], 0)
    samples = pd.DataFrame({"id": ids, "image_id": ids, **ranks})
    return bool(alarms_of(ACC1, samples, Chance(1 / classes)))


@pytest.mark.parametrize("name", [name for name in TASKS if "acc1" in set(rows(name)["metric"])])
def test_near_chance_is_expected_where_most_published_models_are_near_chance(name: str) -> None:
    task = TASKS[name]
    assert isinstance(task.kind, Classification)
    values = rows(name).query("metric == 'acc1'")["value"]
    assert task.kind.near_chance_expected is bool(np.median([near_chance(task, value) for value in values]))


@pytest.mark.parametrize(("expected", "alarms"), [(False, 1), (True, 0)])
def test_a_score_near_chance_raises_no_note_where_it_is_expected(expected: bool, alarms: int) -> None:
    evaluator = Classification(near_chance_expected=expected)
    ids = [str(i) for i in range(100)]
    ranks = {"n_above": [0, 1] * 50} | dict.fromkeys(Ranks._fields[1:], 0)
    samples = pd.DataFrame({"id": ids, "image_id": ids, **ranks})
    data = Dataset("d", "test", [Example(name, cast(Any, None), label=i % 2) for i, name in enumerate(ids)], ("a", "b"))
    assert len(notes_of(evaluator, data, samples, [ACC1])) == alarms
    assert evaluator.protocol(data, Machine()) == Classification().protocol(data, Machine())
