"""Several processes give what one gives, and one that fails or dies ends the right thing with its cause."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import cocabench
from cocabench.core.errors import BadImageError, CocabenchError, LostProcessError, UsageError
from cocabench.data.images import BytesImage
from cocabench.models.hardware import hardware
from cocabench.models.processes import Alone, Group, Sharded, device_names, processes, sharded
from cocabench.models.processes.sharded import deal
from tests.conftest import Command
from tests.models.processes.toys import Plan

CPU = hardware(device="cpu", batch_size=4)


def pictures(n: int, bad: tuple[int, ...] = ()) -> list[BytesImage]:
    return [BytesImage(b"", f"{'bad' if i in bad else 'good'} {i}") for i in range(n)]


@pytest.mark.parametrize(("n", "batch", "size"), [(0, 4, 3), (1, 4, 3), (23, 4, 3), (24, 4, 2), (7, 1, 2), (5, 9, 1)])
def test_samples_are_dealt_in_whole_batches_each_to_one(n: int, batch: int, size: int) -> None:
    dealt = deal(n, batch, size)
    assert len(dealt) == size
    assert sorted(i for own in dealt for i in own) == list(range(n))
    whole = [list(range(start, min(start + batch, n))) for start in range(0, n, batch)]
    got = [own[start : start + batch].tolist() for own in dealt for start in range(0, len(own), batch)]
    assert sorted(got) == whole
    assert max(map(len, dealt)) - min(map(len, dealt)) <= batch


@pytest.fixture(scope="class")
def three() -> Iterator[Group]:
    with processes(["cpu", "cpu", "cpu"]) as group:
        yield group


class TestThreeProcesses:
    def test_all_encode_and_what_they_give_is_in_order(self, three: Group, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sharded, "TEXTS", 5)
        model = Sharded.load(three, Plan(), CPU)
        assert model.parameters == {"image_encoder": 7}
        assert model.warnings == ["on cpu"]
        steps: list[tuple[str, int, int]] = []
        found = model.encode_images(pictures(30, bad=(3, 4, 5, 6, 7, 29)), progress=lambda *step: steps.append(step))
        assert found.kept.tolist() == [0, 1, 2, *range(8, 29)]
        assert found.rows[:, 0].tolist() == found.kept.tolist()
        assert len(set(found.rows[:, 1])) == 3
        assert os.getpid() in found.rows[:, 1]
        assert steps == [("images", 30, 30)]
        assert model.warnings == ["on cpu", "halved"]
        rows = model.encode_texts(["x" * i for i in range(23)])
        assert rows[:, 0].tolist() == list(range(23))
        assert rows[:, 1].tolist() == [5] * 20 + [3] * 3
        assert len(set(rows[:, 2])) == 3
        written = model.caption(pictures(10, bad=(0,)), {"a": "!"})
        assert written.texts == [f"good {i} !" for i in range(1, 10)]
        assert written.kept.tolist() == list(range(1, 10))
        assert written.features is not None
        assert written.features[:, 0].tolist() == list(range(1, 10))
        assert model.caption(pictures(10), {"a": "!", "gives": False}).features is None
        assert np.shape(model.caption(pictures(2, bad=(0, 1)), {"a": "!"}).features) == (0, 0)
        assert written.truncated == [i % 2 == 0 for i in (1, 2, 3, 0, 1, 2, 3, 0, 1)]
        assert len(model.encode_images(pictures(0)).kept) == 0
        assert len(model.encode_images(pictures(2, bad=(0, 1))).kept) == 0

    def test_an_error_of_another_process_is_raised_here_and_all_go_on(self, three: Group) -> None:
        with pytest.raises(BadImageError, match="good 4: not an image; f"):
            Sharded.load(three, Plan(behaviour="fails"), CPU).encode_images(pictures(12))
        with pytest.raises(CocabenchError, match="process 1: ZeroDivisionError: division by zero"):
            Sharded.load(three, Plan(behaviour="surprises"), CPU).encode_images(pictures(12))
        assert len(Sharded.load(three, Plan(), CPU).encode_images(pictures(12)).kept) == 12


def test_one_process_deals_the_same_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "TEXTS", 5)
    model = Sharded.load(Alone(), Plan(), CPU)
    assert model.encode_texts(["x"] * 12)[:, 1].tolist() == [5] * 10 + [2] * 2


def test_a_process_that_dies_is_named_with_its_cause() -> None:
    with pytest.raises(LostProcessError, match="process 1 of 2 died of signal 9"), processes(["cpu", "cpu"]) as group:
        Sharded.load(group, Plan(behaviour="dies"), CPU).encode_images(pictures(12))


def test_processes_that_are_not_asked_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocabench.models.processes.starting.get_context", lambda kind: pytest.fail("started"))
    with processes(["cpu", "cpu"]):
        pass


def test_devices_are_named_as_people_do() -> None:
    assert device_names("auto") == ["auto"]
    assert device_names("0,2") == ["cuda:0", "cuda:2"]
    assert device_names("cpu, cpu") == ["cpu", "cpu"]
    assert device_names("all")
    with pytest.raises(UsageError, match="an empty name"):
        device_names("cpu,")


def kept(folder: Path) -> list[tuple[Any, pd.DataFrame]]:
    """Return each Record of a folder but for its times, with its samples."""
    found = cocabench.load(folder)
    records = sorted(found, key=lambda record: (record.model, record.task))
    return [(record.model_dump(exclude={"timing", "created"}), found.samples(record)) for record in records]


def same(a: Path, b: Path) -> None:
    for (record, samples), (other, others) in zip(kept(a), kept(b), strict=True):
        assert record == other
        pd.testing.assert_frame_equal(samples, others, check_exact=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads move the last digits on the CPU, and processes share what there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_give_the_records_of_one(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    tasks = ",".join(str(data / f"{name}.toml") for name in ("find", "name", "tell", "choose", "prefer"))
    common = ("run", "--model", models / "coca", "--tasks", tasks, "--data-root", data, "--batch-size", 4)
    for devices in ("cpu", "cpu,cpu"):
        told = command(*common, "--no-cache", "--device", devices, "--output", tmp_path / devices)
        assert told.code == 0, told.err
    same(tmp_path / "cpu", tmp_path / "cpu,cpu")


@pytest.mark.slow
def test_a_death_ends_the_run_with_its_cause_and_a_restart_goes_on(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = {"toy": Plan(behaviour="dies")}
    from cocabench.specs import registry

    original = registry.model_plans
    monkeypatch.setattr(registry, "model_plans", lambda specs, **k: [*original(specs, **k), *plans.values()])
    arguments = ("run", "--model", models / "clip", "--tasks", data / "find.toml", "--data-root", data)
    options = ("--batch-size", 4, "--output", tmp_path, "--devices", "cpu,cpu")
    told = command(*arguments, *options)
    assert told.code == 1
    assert "process 1 of 2 died of signal 9" in told.err
    assert "the same command goes on" in told.err
    assert "Traceback" not in told.err
    assert [record.model for record in cocabench.load(tmp_path)] == [str(models / "clip")]
    plans["toy"] = Plan()
    told = command(*arguments, *options)
    assert "done before" in told.err


@pytest.mark.parametrize(("devices", "said"), [("cpu,", "an empty name"), ("cpu,tpu9", "--device tpu9")])
def test_devices_that_there_are_not_are_told(
    command: Command, models: Path, data: Path, tmp_path: Path, devices: str, said: str
) -> None:
    told = command(
        "run", "--model", models / "clip", "--tasks", data / "find.toml", "--output", tmp_path, "--devices", devices
    )
    assert told.code == 2
    assert said in told.err


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_the_demo_is_the_same_under_torchrun(processes: int, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["run", "--model", "demo", "--tasks", "emoji_retrieval,emoji_objects,emoji_captions", "--no-cache"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    for name, start in (("one", [sys.executable]), ("many", launch)):
        command = [*start, "-m", "cocabench", *arguments, "--json", "--output", str(tmp_path / name)]
        told = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert len(json.loads(told.stdout)) == 5, told.stderr
        assert told.returncode == 0, told.stderr
    same(tmp_path / "one", tmp_path / "many")


@pytest.mark.slow
def test_a_death_under_torchrun_ends_all(tmp_path: Path, models: Path, data: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    code = (
        "import os, sys\n"
        "from cocabench import cli\n"
        "from cocabench.models.processes import worker\n"
        "def dies(self, images, *, progress): os.kill(os.getpid(), 9)\n"
        "if os.environ['RANK'] == '1': worker.Worker.encode_images = dies\n"
        "cli.main()\n"
    )
    (tmp_path / "dying.py").write_text(code)
    arguments = ["run", "--model", models / "clip", "--tasks", data / "find.toml", "--data-root", data, "--no-cache"]
    command = [*launch, tmp_path / "dying.py", *arguments, "--output", tmp_path / "r"]
    told = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=300)
    assert told.returncode != 0
    assert "-9" in told.stderr


def test_the_end_of_a_group_is_the_end_of_its_threads(tmp_path: Path) -> None:
    """A model's loading imports what may hold the group for ever, and threads that outlive Python abort it."""
    code = (
        "from pathlib import Path\n"
        "from cocabench.models.processes import processes\n"
        "from cocabench.models.processes.starting import LEFTOVER\n"
        "with processes(['cpu']) as group:\n"
        "    group.ask('settle', [()])\n"
        "    __import__(LEFTOVER)\n"
        "names = [path.read_text() for path in Path('/proc/self/task').glob('*/comm')]\n"
        "assert not any('gloo' in name for name in names), names\n"
    )
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "localhost"}
    environment = {**os.environ, **alone, "MASTER_PORT": "0", "CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_nothing_to_do_under_many_processes_ends_well(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    arguments = ("run", "--model", models / "clip", "--tasks", data / "find.toml", "--data-root", data)
    assert command(*arguments, "--output", tmp_path).code == 0
    told = command(*arguments, "--output", tmp_path, "--devices", "cpu,cpu")
    assert told.code == 0
    assert "done before" in told.err
    assert np.isfinite(cocabench.load(tmp_path).records[0].metrics["t2i_recall@5"].value or np.nan)
