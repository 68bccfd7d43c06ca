"""Which devices a flag means."""

import sys
from pathlib import Path

import pytest
import torch

from cocabench.core.errors import UsageError
from cocabench.models import hardware
from cocabench.models.hardware import count_gpus, devices, has_gpu_driver
from cocabench.run.cluster import on_this_machine
from tests.conftest import Command


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("auto", ["auto"]),
        ("cpu ", ["cpu"]),
        ("2", ["cuda:2"]),
        ("cuda:1", ["cuda:1"]),
        ("0,1", ["cuda:0", "cuda:1"]),
        ("cpu,cpu", ["cpu", "cpu"]),
    ],
)
def test_device_names_are_parsed(text: str, names: list[str]) -> None:
    assert devices(text) == names


@pytest.mark.parametrize("found", ["a library", "a device file", "neither"])
def test_torch_is_asked_for_gpus_only_where_a_driver_is(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "DRIVERS", ("libc.so.6",) if found == "a library" else ("libnone.so.1",))
    monkeypatch.setattr(hardware, "DRIVER_FILES", (str(tmp_path / ("none" if found != "a device file" else ".")),))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert has_gpu_driver() == (found != "neither")
    assert count_gpus() == (0 if found == "neither" else 2)
    assert devices("all") == (["cpu"] if found == "neither" else ["cuda:0", "cuda:1"])


def test_a_device_without_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--device meta: .* wanted auto, cpu, cuda or cuda:1"):
        hardware.hardware(device="meta")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="mps is here")
def test_a_device_that_torch_has_not_here_is_one_whole_sentence() -> None:
    with pytest.raises(UsageError) as caught:
        hardware.hardware(device="mps")
    said = "--device mps: this machine, or this torch, has no mps; wanted auto, cpu, cuda or cuda:1; use --device cpu, "
    assert str(caught.value) == f"{said}or run `cocabench doctor --gpu` to find GPUs"


def test_an_empty_device_name_is_an_error() -> None:
    with pytest.raises(UsageError, match="--devices cpu,: an empty name"):
        devices("cpu,")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cpu", "cuda:0"], "devices of several kinds"),
        (["mps", "mps"], "devices of several kinds"),
        (["cuda:98", "cuda:99"], "no GPU 98"),
    ],
)
def test_devices_that_cannot_work_together_are_one_line(names: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        on_this_machine(names)


def test_torchrun_is_refused_by_the_first_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun: several processes in one run; start cocabench alone"):
        devices("auto")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as silent:
        devices("auto")
    assert silent.value.code == 2
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert devices("auto") == ["auto"]


def test_several_devices_without_ray_are_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = command("run", "--model", "demo", "--tasks", "demo", "--devices", "cpu,cpu")
    assert result.code == 2
    assert result.err.strip() == (
        "error --devices, --ray: Ray is not installed; install it with `pip install 'cocabench[ray]'`"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "an address for Ray's clients; wanted auto or HOST:PORT"),
        ("head", "got 'head'; wanted auto or HOST:PORT"),
        ("127.0.0.1:1", "no answer (Connection refused); is the head running?"),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_line(command: Command, address: str, said: str) -> None:
    pytest.importorskip("ray")
    result = command("run", "--model", "demo", "--tasks", "demo", "--ray", address)
    assert result.code == 2
    assert f"error --ray {address}: {said}" in result.err
    assert result.err.count("\n") == 1
