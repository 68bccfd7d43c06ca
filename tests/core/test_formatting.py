"""Numbers and Markdown."""

from __future__ import annotations

import pytest

from cocabench.core.formatting import Footnotes, escape, number, plural, rounded_up, signed, table
from cocabench.core.types import Estimate
from tests.report.records import INFO, estimate


@pytest.mark.parametrize(
    ("given", "metric", "text"),
    [
        (estimate(0.584, 0.013, 5000), "acc1", "58.4 ± 1.3 (n=5000)"),
        (Estimate(value=0.98, low=0.9111, high=0.99, n=50), "acc1", "98.0 ± 6.9 (n=50)"),  # 6.89: longer side, up
        (Estimate(value=0.5, low=0.4879, high=0.5121, n=50), "acc1", "50.0 ± 1.3 (n=50)"),  # 1.21 is not 1.2
        (estimate(1.253), "CIDEr", "125.3 (n=1000)"),
        (estimate(3.0, 1.0), "t2i_median_rank", "3.0 ± 1.0 (n=1000)"),
        (estimate(0.7, n=0), "acc1", "70.0"),  # published without its n
        (estimate(1.2614, 0.0301), "brier", "1.261 ± 0.031 (n=1000)"),  # 0-2
        (estimate(None), "acc1", "undefined (n=0)"),
    ],
)
def test_number(given: Estimate, metric: str, text: str) -> None:
    assert number(given, INFO[metric]) == text


def test_a_half_width_that_is_already_rounded_is_kept() -> None:
    assert [rounded_up(v) for v in (51.3 - 50.0, 1.31, 1.35)] == [1.3, 1.4, 1.4]


@pytest.mark.parametrize(("value", "text"), [(1.26, "+1.3"), (-0.5, "−0.5"), (0.04, "0.0"), (-0.04, "0.0")])
def test_signed(value: float, text: str) -> None:
    assert signed(value) == text


def test_escape_keeps_names_readable_and_disables_markup() -> None:
    assert escape("mean_per_class_recall") == "mean_per_class_recall"
    assert escape("a|b <i>`*_x_\n[l](u)") == r"a\|b &lt;i&gt;\`\*\_x\_ \[l\](u)"


def test_footnotes_are_numbered_once() -> None:
    notes = Footnotes()
    assert notes.mark(["a", "b"]) + notes.mark(["b"]) + notes.mark([]) == r" \[1\] \[2\] \[2\]"
    assert notes.markdown() == "\\[1\\] a  \n\\[2\\] b  \n"


def test_table() -> None:
    assert table(["x", "y"], [["a", "1"]]) == "| x | y |\n| :--- | ---: |\n| a | 1 |\n"


def test_plural_is_of_more_and_fewer_than_one() -> None:
    assert [plural(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert plural(1, "class is", "classes are") == "1 class is"
    assert plural(2000, "image", form=",") == "2,000 images"
