"""What every kind of task provides by default, and the errors of invalid ones."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cocabench.core.errors import CocabenchError
from cocabench.core.types import Context, Dataset, Model, SampleScore
from cocabench.kinds import every, find
from cocabench.kinds.base import Kind
from cocabench.kinds.classification import Classification
from cocabench.kinds.shown import Choices, Column, Presentation, View
from cocabench.kinds.testing import check_kind
from cocabench.metrics.base import Metric, Side
from cocabench.metrics.statistics import Hits
from cocabench.specs.decoding import OPTIONS
from cocabench.specs.spec import Spec
from tests.metrics.frames import EVERY

RIGHT = Metric("right", "Share of hits.", Hits("hit"), ("hit",))
SAMPLES = pd.DataFrame({"id": ["a", "b"], "image_id": ["a", "b"], "hit": [1, 0]})


class Plain(Kind):
    name = "plain"
    declared = (RIGHT,)
    samples = (Column("hit", "int", "1 where right"),)

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        yield from ()


def test_a_param_named_like_an_attribute_of_a_kind_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"Odd\.version: a param with the name of an attribute of Kind; .*alias='version'"
    ):

        class Odd(Plain):
            version: int = 3  # type: ignore[misc]


@pytest.mark.parametrize("kind", every(), ids=lambda kind: kind.name)
def test_a_metric_is_found_by_its_name(kind: type[Kind]) -> None:
    assert kind.listed()
    for metric in kind.listed():
        found = kind.metric(metric.name)
        assert found is not None
        assert (found.name, found.columns, found.summary) == (metric.name, metric.columns, metric.summary)
        inside = kind.metric(f"{metric.name}[near]")
        assert inside is not None
        assert (inside.name, inside.domain) == (f"{metric.name}[near]", "near")
    assert kind.metric("nothing") is None


@pytest.mark.parametrize("kind", every(), ids=lambda kind: kind.name)
def test_every_column_that_is_read_or_shown_is_declared(kind: type[Kind]) -> None:
    columns = {column.name for column in kind.samples}
    for metric in kind.listed():
        assert {*metric.columns, *metric.also} <= columns | {"id"}
    for view in kind.shown.views:
        assert {*view.columns, view.answer} - {""} <= columns
        assert all(kind.metric(name) for name in (*view.outcome, *view.says))
    assert all(column.summary for column in kind.samples)
    assert all(kind.metric(name) for name in kind.primaries)


@pytest.mark.parametrize("kind", every(), ids=lambda kind: kind.name)
def test_every_param_is_the_kinds_own_and_is_read(kind: type[Kind]) -> None:
    assert unread_params(kind) == []


class Deaf(Plain):
    loud: int = 1


class Heir(Deaf):
    name = "heir"

    def counts(self, data: Dataset) -> dict[str, int]:
        return {"n": self.loud}


def test_params_that_are_inherited_from_another_kind_or_never_read_are_found() -> None:
    assert unread_params(Deaf) == ["a kind that is Plain", "loud"]
    assert unread_params(Heir) == ["a kind that is Deaf", "a kind that is Plain"]


def unread_params(kind: type[Kind]) -> list[str]:
    """Return the kinds that a kind inherits from, whose params it may not read, and the params that it never reads.

    What a kind reads is searched in the code of its own classes: as self.NAME, or decoding options by their list.
    """
    own = [base for base in kind.__mro__ if issubclass(base, Spec) and base not in (Kind, Spec)]
    code = "".join(map(inspect.getsource, own))
    listed = OPTIONS if "in OPTIONS" in code else ()
    lost = [name for name in kind.model_fields if not re.search(rf"self\.{name}\b", code) and name not in listed]
    return [f"a kind that is {base.__name__}" for base in own[1:] if issubclass(base, Kind) and base.name] + lost


def test_families_are_found_by_any_number_and_by_no_other_text() -> None:
    kind = find("retrieval")
    assert kind.metric("t2i_recall@37") is not None
    assert [kind.metric(name) for name in ("t2i_recall@", "t2i_recall@0", "t2i_recall@1x", "x_recall@1")] == [None] * 4


@pytest.mark.parametrize("name", EVERY)
def test_paired_difference_equals_the_difference_of_values(name: str) -> None:
    metric, first, second = EVERY[name]
    rows = metric.rows(first), metric.rows(second)
    found = metric.statistic.compare(*(Side(metric.statistic, one) for one in rows), np.random.default_rng(0))
    values = [metric.statistic.value(one) for one in rows]
    assert found.value == pytest.approx(values[0] - values[1], abs=1e-12)


def test_a_kind_that_is_not_installed_has_bare_defaults() -> None:
    kind = find("counting")
    assert (kind.name, kind.title(), kind.listed(), kind.metric("recall")) == ("counting", "Counting", [], None)
    assert kind.shown.order == 100
    assert find("retrieval").shown.order < 100


def test_two_kinds_of_one_name_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cocabench.kinds]\nsame = {package}:Kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CocabenchError, match=r"kind same: declared by (one:Kind and two|two:Kind and one):Kind"):
        find("same")


def test_numbers_keeps_columns_that_metrics_read_without_texts() -> None:
    have = ["id", "image_id", "caption", "references", "domain", "decoder_score", "bleu_4", "cider", "caption_same_as"]
    assert find("captioning").numbers(have) == ["id", "image_id", "domain", "cider", "caption_same_as"]
    assert find("classification").numbers(["id", "label", "n_above", "top5", "label_name"]) == [
        "id",
        "label",
        "n_above",
    ]


def test_check_kind_accepts_a_valid_kind() -> None:
    check_kind(Plain(), SAMPLES)


class Undeclared(Plain):
    samples = ()


class Forgetful(Plain):
    declared = (replace(RIGHT, statistic=Hits(lambda rows: rows["hit"] * rows["weight"])),)
    samples = (Column("hit", "int", "1 where right"), Column("weight", "float", "What it counts"))


class Lost(Plain):
    declared = ()

    def metrics(self, data: Dataset | None = None) -> list[Metric]:
        return [RIGHT]


class Mistyped(Plain):
    samples = (Column("hit", "text", "1 where right"),)


class Misshown(Plain):
    shown = Presentation(views=(View("v", "V", ("rihgt",), Choices("texts")),))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Undeclared, "the column 'hit' is not declared"),
        (Forgetful, "'right' reads 'weight', which is not in its columns"),
        (Lost, "'right' is not among the declared metrics"),
        (Mistyped, "'hit' is declared as text, got 1"),
        (Misshown, "'rihgt' is not a metric"),
        (Misshown, "'texts' is not a column"),
    ],
)
def test_check_kind_lists_all_problems(kind: type[Kind], said: str) -> None:
    samples = SAMPLES.assign(weight=[0.5, 1.0]) if kind is Forgetful else SAMPLES
    with pytest.raises(AssertionError, match=said):
        check_kind(kind(), samples)


def test_the_former_key_hard_still_sets_near_chance_expected() -> None:
    kind = Classification.model_validate({"hard": True})
    assert kind.near_chance_expected
    assert kind.model_dump(by_alias=True, exclude_unset=True) == {"near_chance_expected": True}
