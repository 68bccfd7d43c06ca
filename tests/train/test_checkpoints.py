"""Checkpoints are evaluated as they come: complete ones only, each once, in order of epoch."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cocabench.core.errors import MissingDataError
from cocabench.train.checkpoints import arrivals
from tests.conftest import Command
from tests.models.tiny import CLIP, random_network, write_architecture, write_training_checkpoint


class Time:
    """A clock that only waiting moves; at each wait the next event happens."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self.now, self.events = 0.0, list(events)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.events:
            self.events.pop(0)()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    torch.save({"state_dict": {"a": torch.zeros(100)}}, tmp_path / "made.pt")
    return (tmp_path / "made.pt").read_bytes()


def watched(folder: Path, result: Time, timeout: float | None = 30.0) -> list[str]:
    return [
        path.name for path in arrivals(folder, timeout=timeout, interval=10, clock=result.clock, sleep=result.sleep)
    ]


def test_epoch_2_comes_before_epoch_10_and_each_once(tmp_path: Path, whole: bytes) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("epoch_10.pt", "epoch_2.pt", "epoch_latest.pt", "tmp.pt"):
        (folder / name).write_bytes(whole)
    later = Time(lambda: None, lambda: (folder / "epoch_11.pt").write_bytes(whole))
    assert watched(folder, later) == ["epoch_2.pt", "epoch_10.pt", "epoch_11.pt"]


def test_a_file_that_is_still_written_is_waited_for(tmp_path: Path, whole: bytes) -> None:
    folder = tmp_path / "made" / "later"
    path = folder / "epoch_1.pt"

    def write(n: int) -> Callable[[], object]:
        def do() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole[:n])

        return do

    grown = Time(write(100), lambda: None, write(len(whole) - 1), write(len(whole)))
    seen = arrivals(folder, timeout=100, interval=10, clock=grown.clock, sleep=grown.sleep)
    assert next(seen) == path
    assert path.read_bytes() == whole
    assert grown.now == 50, "after two looks at the complete file"


def test_a_stop_file_ends_after_what_is_there(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "epoch_1.pt").write_bytes(whole)
    (tmp_path / "epoch_2.pt").write_bytes(whole[:-9])
    (tmp_path / "stop").touch()
    assert watched(tmp_path, Time(), timeout=None) == ["epoch_1.pt"], "what is never complete is not waited for"


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no complete checkpoint came"):
        watched(tmp_path / "absent", Time())


def test_the_command_evaluates_on_arrival_and_names_the_best(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocabench.train.checkpoints.arrivals.__kwdefaults__", {
        **arrivals.__kwdefaults__, "interval": 0.05,
    })  # fmt: skip
    folder, arch = tmp_path / "run" / "checkpoints", write_architecture(tmp_path / "tiny.json", CLIP)
    folder.mkdir(parents=True)
    for epoch in (0, 1):
        write_training_checkpoint(tmp_path / f"{epoch}.pt", random_network(tmp_path, CLIP, seed=epoch))
    write_architecture(tmp_path / "other.json", {**CLIP, "embed_dim": 8})
    write_training_checkpoint(tmp_path / "2.pt", random_network(tmp_path, {**CLIP, "embed_dim": 8}))

    def train() -> None:
        for epoch in (0, 1, 2):
            time.sleep(0.1)
            (tmp_path / f"{epoch}.pt").rename(folder / f"epoch_{epoch}.pt")
        (folder / "stop").touch()

    trainer = threading.Thread(target=train)
    trainer.start()
    given = ["run", "--model", arch, "--watch", folder, "--tasks", data / "find.toml", "--data-root", data, "--quiet"]
    result = command(*given, "--output", tmp_path / "results", "--report", tmp_path / "report")
    trainer.join()
    assert result.code == 1, "epoch 2 is of another architecture"
    assert "another architecture" in result.err
    assert "best of 2 is epoch" in result.out, "both that could be read"
    lines = [line for line in result.out.splitlines() if line.startswith("epoch ")]
    assert [line.partition(": ")[0] for line in lines] == ["epoch 0", "epoch 1"], "a line per checkpoint, from 0 on"
    assert all(" % text → image R@" in line for line in lines)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "epoch 0" in page
    assert 'id="checkpoints"' in page
    assert command("run", "--model", "a,b", "--watch", folder, "--tasks", data / "find.toml").code == 2
