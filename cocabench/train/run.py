"""Runs a training: writes what it starts from, calls the trainer, and looks at what it left."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from cocabench.core.errors import CocabenchError, UsageError
from cocabench.train.checkpoints import complete, epochs_in
from cocabench.train.command import Training
from cocabench.train.start import write_architecture, write_weights


def check_folder(training: Training, *, resume: bool) -> None:
    """UsageError where the folder holds a run that is not to be resumed, or a checkpoint that was cut off."""
    if not resume and (training.folder / "out.log").exists():
        fix = "--resume goes on with it; --output names another folder"
        raise UsageError(str(training.folder), "holds a run already", fix=fix)
    for path in epochs_in(training.checkpoints).values():
        if not complete(path):
            raise UsageError(str(path), "cut off while it was written", fix="remove it; --resume takes the one before")


def run(training: Training) -> list[Path]:
    """Train; return the checkpoints in order of epoch. What the trainer prints goes where ours does."""
    if training.architecture:
        write_architecture(training.plan, training.architecture)
    if training.weights and not training.weights.exists():
        write_weights(training.plan, training.weights)
    code = _call(training.words)
    found = epochs_in(training.checkpoints)
    if code:
        raise CocabenchError("open_clip_train", _ending(code), fix=_advice(training, found))
    if training.settings["epochs"] not in found:
        got = f"no checkpoint of epoch {training.settings['epochs']} in {training.checkpoints}"
        raise CocabenchError("open_clip_train", got, fix=f"see {training.folder / 'out.log'}")
    return list(found.values())


def _call(words: list[str]) -> int:
    """Run a command to its end; Ctrl-C reaches it too, and it is waited for."""
    process = subprocess.Popen(words)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _advice(training: Training, found: dict[int, Path]) -> str:
    smaller = training.settings["batch_size"] // 2
    memory = f"if memory ran out: --set batch_size={smaller} --set accum_freq={2 * training.settings['accum_freq']}"
    after = f"; --resume goes on after epoch {max(found)}" if found else ""
    return f"its last lines say why{after}; {memory}"
