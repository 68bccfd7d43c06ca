"""Epochs in model strings, and the best epoch of a metric."""

import pytest

from cocabench.core.types import Estimate, MetricInfo, Record, Signature
from cocabench.results.epochs import Epoch, best_epochs, epoch_of, runs


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("ViT-B-32:runs/x/checkpoints/epoch_5.pt", Epoch("ViT-B-32:runs/x", 5)),
        ("ViT-B-32:checkpoints/epoch_12.pt", Epoch("ViT-B-32", 12)),
        ("ViT-B-32:epoch_3.pt", Epoch("ViT-B-32", 3)),
        ("ViT-B-32:/runs/epoch_sweep/a-epoch=07.pth", Epoch("ViT-B-32:/runs/epoch_sweep/a", 7)),
        ("/a/arch.json:/runs/x/checkpoints/epoch_2.pt", Epoch("/a/arch.json:/runs/x", 2)),
        ("local-dir:runs/x/step_1000", Epoch("local-dir:runs/x", 1000, "step")),
        ("ViT-B-32:runs/x/epoch_1_step_20.pt", Epoch("ViT-B-32:runs/x/epoch_1", 20, "step")),
        ("ViT-B-32:runs/x/checkpoints/epoch_latest.pt", None),
        ("ViT-B-32:laion2b_s34b_b79k", None),
        ("ViT-B-32:runs/epoch_5/model.pt", None),
        ("ViT-B-32:random@5", None),
        ("demo/coca", None),
        ("epoch_5", None),
    ],
)
def test_epoch_of_parses_run_and_epoch(model: str, wanted: Epoch | None) -> None:
    assert epoch_of(model) == wanted


def test_runs_are_ordered_by_epoch_number() -> None:
    names = [f"A:r/checkpoints/epoch_{k}.pt" for k in (10, 2, 1)] + ["demo/coca", "B:r/epoch_1.pt"]
    assert runs(names) == {"A:r": [f"A:r/checkpoints/epoch_{k}.pt" for k in (1, 2, 10)], "B:r": ["B:r/epoch_1.pt"]}


def record(epoch: int, *, created: str = "2026-01-01", protocol: str = "p", **values: float | None) -> Record:
    metrics = {k: Estimate(value=v, low=None, high=None, n=0 if v is None else 9) for k, v in values.items()}
    kinds = {
        k: MetricInfo(unit="rank" if k == "rank" else "fraction", higher_is_better=k != "rank", summary="")
        for k in values
    }
    return Record(
        task="t",
        model=f"A:r/checkpoints/epoch_{epoch}.pt",
        evaluator="e",
        primary="acc",
        signature=Signature(protocol={"p": protocol}, model={}),
        metrics=metrics,
        definitions=kinds,
        created=created,
    )


def test_best_epochs_are_found_per_metric() -> None:
    records = [record(2, acc=0.3, rank=4.0), record(10, acc=0.5, rank=9.0), record(1, acc=0.5, rank=5.0)]
    found = {best.metric: best for best in best_epochs(records)}
    assert found["acc"].epoch.number == 1, "the earliest of equals"
    assert found["rank"].epoch.number == 2, "lower ranks are better"
    assert found["acc"].n_epochs == 3
    assert found["acc"].estimate.n == 9


def test_best_epochs_ignore_undefined_values_and_single_epochs() -> None:
    assert best_epochs([record(1, acc=0.5), record(2, acc=None)]) == []
    assert best_epochs([record(1, acc=0.5), record(1, acc=0.6, created="2026-01-02")]) == []


def test_best_epochs_do_not_compare_protocols() -> None:
    records = [
        record(1, acc=0.5),
        record(2, acc=0.4),
        record(1, acc=0.9, protocol="q"),
        record(2, acc=1.0, protocol="q"),
    ]
    assert [(best.epoch.number, best.estimate.value) for best in best_epochs(records)] == [(1, 0.5), (2, 1.0)]
