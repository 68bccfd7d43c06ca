"""The figure of mixtures: a task set against ImageNet along the line between two checkpoints."""

from pathlib import Path
from typing import Any

import pytest

from cocabench.core.types import Record, Signature
from cocabench.report.write import write_report
from cocabench.results.store import RecordSet
from tests.report.records import record


def point(share: float, task: str, value: float, **fields: Any) -> Record:
    mixture = [{"weights": "aa", "share": 1 - share}, {"weights": "bb", "share": share}]
    made = record(f"mix(A,B,{share:g})", task, value, **fields)
    return made.model_copy(update={"signature": Signature(protocol={"data": {}}, model={"mixture": mixture})})


def end(model: str, weights: str, task: str, value: float) -> Record:
    made = record(model, task, value)
    return made.model_copy(update={"signature": Signature(protocol={"data": {}}, model={"weights": weights})})


def written(records: list[Record], folder: Path) -> tuple[str, list[str]]:
    page, *_ = write_report(RecordSet(tuple(records), (None,) * len(records)), folder)
    return page.read_text(encoding="utf-8"), sorted(file.name for file in (folder / "figures").glob("mixture*"))


@pytest.mark.slow
def test_each_task_is_set_against_imagenet_with_the_checkpoints_as_ends(tmp_path: Path) -> None:
    records = [
        made
        for task, values in (("imagenet1k", (0.7, 0.72, 0.6)), ("cars", (0.5, 0.7, 0.8)))
        for made in (
            end("A", "aa", task, values[0]),
            point(0.5, task, values[1]),
            end("B", "bb", task, values[2]),
            record("C", task, 0.1),
        )
    ]
    page, files = written(records, tmp_path)
    assert files == ["mixture_1.pdf", "mixture_1.png", "mixture_1.svg"]
    assert 'id="mixtures"' in page
    svg = (tmp_path / "figures" / "mixture_1.svg").read_text(encoding="utf-8")
    for text in ("imagenet1k, acc@1", "cars (acc@1) against imagenet1k", "A to B", "0.5"):
        assert text in svg
        assert text in page


@pytest.mark.slow
def test_two_models_are_no_line(tmp_path: Path) -> None:
    records = [point(share, task, 0.5) for task in ("imagenet1k", "cars") for share in (0.25, 0.5)]
    assert written(records, tmp_path)[1] == []
