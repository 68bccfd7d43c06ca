"""Records to compare: sources, and which metrics are comparable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import ResultsError
from cocabench.core.types import MetricInfo, Record
from cocabench.results.compare import compare, compare_models
from cocabench.results.difference import Finding
from cocabench.results.gate import Rules, gate
from cocabench.results.records import choose, incomparable, measured_otherwise, read, unknown_parts
from cocabench.results.store import RecordSet, Store
from cocabench.results.verdicts import legend
from tests.report.records import estimate, record
from tests.samples import classified, right

CAPTIONS = {"data": {"images": 10}, "decoding": {"num_beams": 6}}


def captioned(model: str, metrics: dict[str, str], **protocol: Any) -> Record:
    return record(
        model,
        "coco",
        {name: estimate(0.5, 0.001) for name in metrics},
        evaluator="captioning",
        protocol={**CAPTIONS, "caption_metrics": {"tokenizer": "PTB", **metrics}, **protocol},
    )


def test_other_lists_of_metrics_are_comparable() -> None:
    a = captioned("a", {"CIDEr": "v1"})
    b = captioned("b", {"CIDEr": "v1", "METEOR": "v1"}, scorer={"weights": "x"})
    assert incomparable(a, b, "CIDEr") == unknown_parts(a, b, "CIDEr") == ()


def test_another_definition_makes_one_metric_incomparable() -> None:
    a, b = (captioned(m, {"CIDEr": "v1", "METEOR": version}) for m, version in (("a", "v1"), ("b", "v2")))
    assert incomparable(a, b, "CIDEr") == ()
    assert incomparable(a, b, "METEOR") == ("caption_metrics.METEOR: v1 against v2",)


def test_part_of_one_side_only_is_unknown_and_noted() -> None:
    a, b = captioned("a", {"CIDEr": "v1"}), captioned("a", {"CIDEr": "v1"}, decoding={"num_beams": 6, "new": 1})
    assert incomparable(a, b, "CIDEr") == ()
    (note,) = unknown_parts(a, b, "CIDEr")
    assert note.code == "protocol_part_unknown"
    assert "decoding.new" in note.text
    (verdict,) = gate([a], [b], Rules())
    assert verdict.status != "incomparable"
    assert verdict.notes == (note,)
    assert any("decoding.new" in sentence for sentence in legend([verdict]))
    (row,) = compare_models([a, b.model_copy(update={"model": "b"})]).rows
    assert row.cells[1].notes == (note.text,)


def test_absent_part_with_a_meaning_differs() -> None:
    plain = captioned("a", {"CIDEr": "v1"})
    prompted = captioned("b", {"CIDEr": "v1"}, decoding={"num_beams": 6, "prompt": "a photo of"})
    assert incomparable(plain, prompted, "CIDEr") == ("decoding.prompt: absent against a photo of",)
    empty = captioned("b", {"CIDEr": "v1"}, decoding={"num_beams": 6, "prompt": ""})
    assert incomparable(plain, empty, "CIDEr") == unknown_parts(plain, empty, "CIDEr") == ()
    limited = captioned("b", {"CIDEr": "v1"}, limit=5)
    assert incomparable(plain, limited, "CIDEr") == ("limit: absent against 5",)


def test_another_precision_of_the_scorer_concerns_clipscore_only() -> None:
    scorers = ({"weights": "x"}, {"weights": "x", "precision": "bf16"})
    a, b = (captioned(m, {"CIDEr": "v1", "CLIPScore": "v"}, scorer=s) for m, s in zip("ab", scorers, strict=True))
    assert incomparable(a, b, "CIDEr") == ()
    assert incomparable(a, b, "CLIPScore") == ("scorer.precision: absent against bf16",)


def test_versions_of_a_metric_are_incomparable() -> None:
    info = MetricInfo(unit="fraction", higher_is_better=True, summary="s")
    a, b = (
        record(m, definitions={"acc1": info.model_copy(update={"version": version})})
        for m, version in (("a", 1), ("b", 2))
    )
    assert incomparable(a, b, "acc1") == ("version of acc1: 1 against 2",)


def test_read_labels_a_model_of_two_folders(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    classified(old, "m", right(90, 100))
    classified(new, "m", right(60, 100))
    found = read(old, new)
    assert [r.model for r in found] == [f"m [{old}]", f"m [{new}]"]
    (row,) = compare_models(found).rows
    assert row.difference is not None
    assert (row.difference.paired, row.difference.changed) == (True, 30)
    assert row.finding is Finding.FIRST


def test_read_keeps_other_names_and_the_order_of_sources(tmp_path: Path) -> None:
    classified(tmp_path / "one", "zebra", right(1, 2))
    classified(tmp_path / "two", "ape", right(1, 2))
    assert [r.model for r in read(tmp_path / "one", tmp_path / "two")] == ["zebra", "ape"]


def test_read_labels_two_records_of_one_task_by_signature(tmp_path: Path) -> None:
    records = [classified(tmp_path, "m", right(1, 2), protocol={"precision": p}) for p in ("fp16", "fp32")]
    files = [Store(tmp_path).path(r.model, r.task, r.signature) for r in records]
    assert [r.model for r in read(*files)] == [f"m [{file.stem.rpartition('-')[2]}]" for file in files]
    assert [r.model for r in read(*reversed(files))] == [r.model for r in reversed(read(*files).records)]
    assert {r.model for r in read(tmp_path)} == {"m"}


def test_read_takes_published_models() -> None:
    found = read("published:coca_ViT-L-14:laion2b_s13b_b90k")
    assert {r.model for r in found} == {"coca_ViT-L-14:laion2b_s13b_b90k (published)"}
    with pytest.raises(ResultsError, match="no such file"):
        read("publishd:coca_ViT-L-14")


def resized(model: str, resize: str = "", **more: Any) -> Record:
    made = record(model, **more)
    parts = made.signature.model | ({"resize": resize} if resize else {})
    return made.model_copy(update={"signature": made.signature.model_copy(update={"model": parts})})


def test_a_fast_resize_is_comparable_with_itself_alone() -> None:
    own, fast, other = resized("a"), resized("a", "fast"), resized("b", "fast")
    why = "--resize: own against fast"
    assert incomparable(own, fast, "acc1") == (why,)
    assert incomparable(fast, other, "acc1") == ()
    (verdict,) = gate([own], [fast], Rules())
    assert (verdict.status, verdict.detail) == ("incomparable", why)
    assert gate([fast], [fast], Rules())[0].status != "incomparable"
    (row,) = compare_models([own, other]).rows
    assert row.cells[1].incomparable == (why,)
    assert row.difference is None
    assert row.cells[1].notes == ("--resize fast: images resized by torch instead of Pillow",)
    assert compare_models([fast, other]).rows[0].difference is not None


def test_a_fast_resize_is_incomparable_with_imported_and_published_numbers() -> None:
    fast = resized("a", "fast")
    imported = record("b", protocol={"imported": "clip_benchmark"})
    published = record("a (published)", protocol={"published": "source"})
    assert incomparable(imported, fast, "acc1") == ("--resize: own against fast",)
    (verdict,) = gate([published], [fast], Rules())
    assert (verdict.status, verdict.detail) == ("incomparable", "--resize: own against fast")


def test_of_two_results_the_one_without_a_fast_resize_is_chosen() -> None:
    own, fast = resized("a"), resized("a", "fast", created="2025-02-01T00:00:00Z")
    assert choose([fast, own]).records == (own,)
    assert "(--resize fast; " in choose([own, fast]).left_out[0]


def test_a_result_that_is_comparable_with_another_model_is_chosen_before_others() -> None:
    own, fast, other = resized("a"), resized("a", "fast"), resized("b", "fast")
    chosen, left_out = choose([own, fast, other])
    assert chosen == (fast, other)
    assert "(comparable with no other; " in left_out[0]
    assert choose([own, fast, other, resized("c")]).records[0] == own
    assert choose([own, fast, resized("c"), other], models=("a", "b")).records[0] == fast
    for models in ((), ("b", "a")):
        assert compare_models([own, fast, other], models=models).rows[0].difference is not None
    both = (RecordSet(tuple(records), (None,) * len(records)) for records in ((own, fast), (other,)))
    assert compare(*both)["difference"].notna().all()


def test_a_limited_result_replaces_a_full_one_only_where_that_is_comparable_with_none() -> None:
    whole, part = record("a"), record("a", protocol={"limit": 10})
    assert choose([whole, part, record("b", protocol={"limit": 10})]).records[0] == part
    assert choose([whole, part, record("b", protocol={"limit": 10}), record("c")]).records[0] == whole
    assert choose([whole, part, record("b", protocol={"limit": 20})]).records[0] == whole


def test_the_gate_takes_the_comparable_result_of_either_side() -> None:
    own, fast = resized("a"), resized("a", "fast")
    for baseline, current in (([own, fast], [fast]), ([fast], [fast, own]), ([own, fast], [own]), ([own], [fast, own])):
        (verdict,) = gate(baseline, current, Rules())
        assert verdict.status != "incomparable", verdict.detail
    (verdict,) = gate([own, fast, resized("b")], [fast, resized("b")], Rules())[:1]
    assert (verdict.model, verdict.status != "incomparable") == ("a", True)


def measured(packages: dict[str, str], **more: Any) -> Record:
    environment = {"device": more.pop("device", "x86_64 CPU, 2 cores")}
    made = record("m", environment=environment)
    model = {"id": "m", "weights": "w", "precision": "fp32", **more, "packages": packages}
    return made.model_copy(update={"signature": made.signature.model_copy(update={"model": model})})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (measured({"torch": "2"}), ""),
        (measured({"torch": "2"}, weights="v"), ""),
        (measured({"torch": "2", "transformers": "5"}), ""),
        (measured({"torch": "3"}), "torch 2 against 3"),
        (measured({"torch": "2"}, precision="bf16"), "precision fp32 against bf16"),
        (measured({"torch": "2"}, device="NVIDIA A100"), "device x86_64 CPU, 2 cores against NVIDIA A100"),
        (measured({"torch": "2"}, compile=True), "--compile no against yes"),
    ],
)
def test_packages_precision_and_device_are_said_and_compared(other: Record, said: str) -> None:
    first, wanted = measured({"torch": "2"}), f"not measured alike: {said}"
    assert [note.text for note in measured_otherwise(first, other)] == [wanted] * bool(said)
    (verdict,) = gate([first], [other], Rules())
    assert verdict.status != "incomparable"
    assert [note.code for note in verdict.notes] == ["measured_otherwise"] * bool(said)
    assert any(wanted in sentence for sentence in legend([verdict])) is bool(said)
    (row,) = compare_models([first, other.model_copy(update={"model": "n"})]).rows
    assert row.cells[1].notes == (wanted,) * bool(said)
    assert row.difference is not None
