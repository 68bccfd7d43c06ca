"""Measured beside published numbers: inside or outside, with likely causes."""

from __future__ import annotations

from typing import Any

import pytest

from cocabench.core.types import Note, Record
from cocabench.results.published import read
from cocabench.results.published_check import Expected, State, check
from cocabench.run.expected import expected
from tests.conftest import Command
from tests.report.records import estimate, record

COCA = "coca_ViT-L-14:laion2b_s13b_b90k"
MODEL = {"precision": "fp32", "quick_gelu": False, "preprocess": "p", "architecture": "a", "vocabulary": ""}
PROTOCOL = {"data": {"images": 50_000}, "prompts": "x", "standard": True}
AS_PUBLISHED = Expected({"data": {"images": 50_000}, "prompts": "x"}, MODEL)


def ours(value: float = 0.70, *, model: dict[str, Any] | None = None, **protocol: Any) -> Record:
    made = record(COCA, metrics={"acc1": estimate(value, 0.004, n=50_000)}, protocol={**PROTOCOL, **protocol})
    signature = made.signature.model_copy(update={"model": {**MODEL, **(model or {})}})
    return made.model_copy(update={"signature": signature})


@pytest.mark.parametrize(
    ("value", "inside"),
    [(0.7561, True), (0.7502, True), (0.7500, False), (0.7620, True), (0.7622, False)],
)
def test_check_is_inside_within_interval_and_tolerance(value: float, inside: bool) -> None:
    """75.61 published; the interval is ±0.4 points, so 0.6 are allowed."""
    match = next(m for m in check([ours(value)]) if m.source == "open_clip")
    assert match.inside is inside
    assert match.difference == pytest.approx(100 * (value - 0.7561), abs=0.01)
    assert bool(match.causes) is not inside


def test_check_matches_every_source_in_order_of_trust() -> None:
    assert [m.source for m in check([ours()])] == ["open_clip", "LAION blog"]
    assert check([record("mine", metrics=0.5)]) == []


def test_check_matches_vtab_numbers_with_a_note() -> None:
    metrics = {"acc1": estimate(0.7, 0.004, n=6149), "mean_per_class_recall": estimate(0.7, 0.004, n=6149)}
    found = check([record("ViT-L-14:openai", "flowers", metrics)])
    assert [(m.source, m.metric) for m in found] == [
        ("open_clip", "mean_per_class_recall"),
        ("CLIP_benchmark", "acc1"),
        ("CLIP_benchmark", "mean_per_class_recall"),
    ]
    assert all("class names of TFDS" in match.note for match in found)
    assert check([record("ViT-L-14:openai", "eurosat", metrics)]) == []
    assert len(check([record("ViT-L-14:openai", "vtab/eurosat", metrics)])) == 3


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"data": {"images": 8000}}, "split and counts"),
        ({"limit": 100}, "split and counts"),
        ({"standard": False}, "split and counts"),
        ({"prompts": "y"}, "prompts"),
        ({"model": {"precision": "fp16"}}, "precision"),
        ({"model": {"preprocess": "q"}}, "preprocessing"),
        ({"model": {"architecture": "b"}}, "tokenizer and context length"),
        ({"model": {"vocabulary": "v"}}, "vocabulary"),
        ({"model": {"quick_gelu": True}}, "quick-GELU"),
    ],
)
def test_check_finds_each_cause(changed: dict[str, Any], what: str) -> None:
    match = next(iter(check([ours(**changed)], lambda _: AS_PUBLISHED)))
    assert [c.what for c in match.causes if c.state is State.DIFFERS] == [what]


def test_check_claims_no_cause_without_evidence() -> None:
    known, unknown = (next(iter(check([ours()], lambda _, e=e: e))) for e in (AS_PUBLISHED, Expected()))
    assert {c.state for c in known.causes} == {State.SAME}
    states = {c.what: c.state for c in unknown.causes}
    assert states["prompts"] is State.UNKNOWN
    assert states["split and counts"] is State.SAME  # n was published


def test_check_finds_other_decoding() -> None:
    made = ours(decoding={"num_beams": 1}).model_copy(update={"evaluator": "captioning"})
    match = next(iter(check([made], lambda _: Expected({"decoding": {"num_beams": 6}}, MODEL))))
    assert [c.detail for c in match.causes if c.what == "decoding"] == ["num_beams 1, not 6"]


def test_check_lists_a_broken_run_first() -> None:
    broken = ours(0.001).model_copy(update={"notes": (Note("near_chance", "acc1 of 0.1 % is near chance (0.1 %)"),)})
    match = next(iter(check([broken], lambda _: AS_PUBLISHED)))
    assert (match.causes[0].what, match.causes[0].state) == ("broken run", State.DIFFERS)


def test_expected_signature_comes_from_task_and_tag() -> None:
    found = expected(record(COCA))
    assert found.protocol["data"] == {"images": 50_000}
    assert set(found.protocol) == {"data", "prompts"}
    assert {"architecture", "quick_gelu", "preprocess"} <= set(found.model)
    assert expected(record("ViT-B-32:openai")).model["quick_gelu"] is True
    assert expected(record("mine", "my_task")) == ({}, {})


def test_print_published_gives_the_causes(command: Command, tmp_path: Any) -> None:
    from cocabench.cli.tables import print_published

    print_published([ours(model={"precision": "fp16"})])
    result = command("--version")  # collects what was printed
    assert "outside" in result.out
    assert "differs  precision: fp16; rerun with --precision fp32" in result.out
    print_published([record("mine")])
    assert "published" not in command("--version").out


def of_50(value: float, half: float | None, n: int = 50, **protocol: Any) -> Record:
    made = record(COCA, metrics={"acc1": estimate(value, half, n=n)}, protocol={**PROTOCOL, **protocol})
    return made.model_copy(update={"signature": made.signature.model_copy(update={"model": MODEL})})


@pytest.mark.parametrize(
    ("made", "verdict", "why"),
    [
        (of_50(0.7261, 0.12), "cannot tell", "n=50: one image is worth 2.0 points"),
        (of_50(0.50, 0.12), "outside", ""),
        (of_50(0.50, None), "cannot tell", "n=50: one image is worth 2.0 points"),
        (of_50(0.7261, 0.04, n=499), "cannot tell", "n=499: one image is worth 0.2 points"),
        (of_50(0.7261, 0.04, n=500), "inside", ""),
        (of_50(0.7261, 0.04, n=50_000), "inside", ""),
        (of_50(0.7261, 0.03, n=1000, limit=1000), "cannot tell", "limited to 1000 images: ± 3.0 points"),
        (of_50(0.7561, 0.001, n=40_000, data={"images": 40_000}), "inside", ""),
        (of_50(0.60, 0.03, n=1000, limit=1000), "outside", ""),
    ],
)
def test_check_cannot_tell_where_the_tolerance_could_not_show(made: Record, verdict: str, why: str) -> None:
    match = next(m for m in check([made], lambda _: AS_PUBLISHED) if m.source == "open_clip")
    assert (match.verdict, match.cannot_tell) == (verdict, why)
    assert bool(match.causes) is (verdict == "outside")


def test_sources_that_disagree_are_a_cause() -> None:
    """At most one of two sources that are ten points apart can be measured again."""
    by_key: dict[tuple[str, str], dict[str, float]] = {}
    for row in read().query("metric == 'acc1'").to_dict("records"):
        by_key.setdefault((row["spec"], row["task"]), {})[row["source"]] = row["value"]
    far = {key: values for key, values in by_key.items() if max(values.values()) - min(values.values()) > 0.1}
    assert far, "the published tables hold such pairs"
    (spec, task), values = next(iter(far.items()))
    lowest, highest = (pick(values, key=lambda source: values[source]) for pick in (min, max))
    made = record(spec, task, {"acc1": estimate(values[lowest], 0.004, n=20_000)})
    found = {match.source: match for match in check([made])}
    said = f"{highest} says {100 * values[highest]:.1f}, {lowest} {100 * values[lowest]:.1f}"
    assert found[lowest].causes == ()
    disagreeing = [c for c in found[highest].causes if c.what == "published sources disagree"]
    assert (State.DIFFERS, said) in [(c.state, c.detail) for c in disagreeing]
    agreeing = check([ours(0.001)])
    assert not [c for m in agreeing for c in m.causes if c.what == "published sources disagree"]
