"""Silence while open_clip speaks: one thread at a time, and logging is as it was afterwards."""

import logging
import threading

import pytest

from cocabench.models.open_clip.weights import quiet


def test_silence_is_for_one_thread_at_a_time_and_ends() -> None:
    """Where two overlapped, the first to leave would restore, and the second restore the first one's silence."""
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    entered, leave = threading.Event(), threading.Event()

    def another() -> None:
        with quiet():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=another)
    with quiet():
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    leave.set()
    thread.join()
    assert (logging.root.manager.disable, logging.root.handlers) == (before, handlers)


def test_an_unforeseen_error_is_told_while_another_thread_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cocabench.run.plan import surprise

    monkeypatch.setattr(logging.root, "handlers", [])
    with quiet():
        logging.getLogger("open_clip").warning("noise")
        logging.warning("noise")
        error = surprise("task", ZeroDivisionError("division by zero"))
    assert "this is a bug" in error.fix
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "noise" not in told
