"""Which device a flag means; several at once are one line."""

import pytest

from cocabench.core.errors import UsageError
from cocabench.models.hardware import one_device
from tests.conftest import Command


@pytest.mark.parametrize(("text", "device"), [("auto", "auto"), ("cpu ", "cpu"), ("2", "cuda:2"), ("cuda:1", "cuda:1")])
def test_device_names_are_parsed(text: str, device: str) -> None:
    assert one_device(text) == device


@pytest.mark.parametrize(("text", "said"), [("cpu,", "an empty name"), ("0,1", "2 devices"), ("cpu,cpu,cpu", "3 dev")])
def test_several_devices_in_one_run_are_an_error(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        one_device(text)


def test_torchrun_is_refused_by_the_first_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun: several processes in one run; start one command per device"):
        one_device("auto")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as silent:
        one_device("auto")
    assert silent.value.code == 2
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert one_device("auto") == "auto"


def test_several_devices_are_refused_in_one_line(command: Command) -> None:
    result = command("run", "--model", "demo", "--tasks", "demo", "--devices", "cpu,cpu")
    assert result.code == 2
    assert result.err.strip() == (
        "error --device cpu,cpu: 2 devices in one run; wanted one; start one command per device, each with some of "
        "the models and the same results folder"
    )
