"""Silence while open_clip speaks: one thread at a time, and logging is as it was afterwards."""

import logging
import threading

import pytest

from cocabench.models.open_clip.weights import quiet


def test_silencing_open_clip_affects_one_thread_and_ends() -> None:
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


def test_critical_errors_are_logged_while_open_clip_is_silenced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cocabench.run.plan import surprise

    monkeypatch.setattr(logging.root, "handlers", [])
    with quiet():
        logging.getLogger("open_clip").warning("noise")
        logging.warning("noise")
        error = surprise("task", ZeroDivisionError("division by zero"))
    assert "this is a bug" in error.fix
    printed = capsys.readouterr().err
    assert "ZeroDivisionError" in printed
    assert "noise" not in printed
