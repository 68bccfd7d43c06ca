"""open_clip_train's results.jsonl, with the metrics that its own function computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import ResultsError
from cocabench.results import interop
from cocabench.results.epochs import best_epochs

N = 40


def their_metrics(seed: int) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    train = pytest.importorskip("open_clip_train.train")
    generator = torch.Generator().manual_seed(seed)
    images, noise = (torch.randn(N, 8, generator=generator) for _ in range(2))
    rows = [torch.nn.functional.normalize(x, dim=-1) for x in (images, images + seed * noise)]
    found = train.get_clip_metrics(*rows, torch.tensor(1.0))
    return {key: float(value) for key, value in found.items()}


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "logs" / "my_run" / "checkpoints" / "results.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_epochs_become_records_of_one_run(tmp_path: Path) -> None:
    top1 = "imagenet-zeroshot-val-top1"
    entries = [
        {**their_metrics(seed), "clip_val_loss": 1.2, "epoch": epoch, "num_samples": N, top1: hits}
        for epoch, seed, hits in ((1, 2, 0.1), (2, 1, 0.2))
    ]
    found = interop.read(written(tmp_path, *entries))
    assert [(r.model, r.task) for r in found] == [
        ("my_run (open_clip_train)/epoch_1", "imagenet1k"),
        ("my_run (open_clip_train)/epoch_1", "open_clip_train_val"),
        ("my_run (open_clip_train)/epoch_2", "imagenet1k"),
        ("my_run (open_clip_train)/epoch_2", "open_clip_train_val"),
    ]
    last = found[-1].metrics
    assert last["t2i_recall@5"].value == pytest.approx(entries[1]["text_to_image_R@5"])
    assert last["i2t_recall@1"].value == pytest.approx(entries[1]["image_to_text_R@1"])
    assert last["t2i_mean_rank"].value == pytest.approx(entries[1]["text_to_image_mean_rank"])
    assert found[-1].definitions["i2t_median_rank"].unit == "rank"
    assert {(b.task, b.epoch.number) for b in best_epochs(found) if b.metric in ("acc1", "t2i_recall@5")} == {
        ("imagenet1k", 2),
        ("open_clip_train_val", 2),
    }


def test_recalls_get_wilsons_interval_where_the_count_is_known(tmp_path: Path) -> None:
    """20 of 40: 0.352 to 0.648."""
    path = written(tmp_path, {"image_to_text_R@1": 0.5, "epoch": 1, "num_samples": N})
    estimate = interop.read(path)[0].metrics["i2t_recall@1"]
    assert (estimate.low, estimate.high, estimate.n) == pytest.approx((0.352, 0.648, N), abs=1e-3)


def test_of_an_epoch_measured_twice_the_last_counts(tmp_path: Path) -> None:
    path = written(tmp_path, *({"imagenet-zeroshot-val-top1": v, "epoch": 1} for v in (0.1, 0.3)))
    assert [r.metrics["acc1"].value for r in interop.read(path)] == [0.3]


def test_lines_without_an_epoch_are_numbered_and_say_so(tmp_path: Path) -> None:
    found = interop.read(written(tmp_path, {"imagenet-zeroshot-val-top1": 0.1}, {"imagenet-zeroshot-val-top1": 0.3}))
    assert [r.model.rpartition("/")[2] for r in found] == ["entry_1", "entry_2"]
    assert "does not say which epoch" in found[0].notes[0].text


@pytest.mark.parametrize(("text", "said"), [("", "no lines"), ("{\n", "jsonl:1: not JSON"), ("{}\n", "no metric")])
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(ResultsError, match=said.replace(".", r"\.")):
        interop.read(path)
