"""A recipe made into the command lines that train it, checked for memory, and run."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cocabench.core import helpers
from cocabench.core.errors import CocabenchError, DataError, ModelError, UsageError
from cocabench.core.formatting import plural
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.blueprint import Blueprint, blueprint
from cocabench.models.open_clip.published import architecture
from cocabench.models.open_clip.weights import files
from cocabench.models.training import GIB, available, footprint
from cocabench.specs.spec import parse_model
from cocabench.train.checkpoints import complete, epochs_in
from cocabench.train.data import Inputs, check_sources, inputs
from cocabench.train.launch import trainer_name
from cocabench.train.recipe import Recipe, flag_words, parsed_flags
from cocabench.train.start import changed, write_architecture, write_weights


@dataclass(frozen=True)
class Training:
    """What will be run.

    plan: the architecture and where its weights come from. architecture: its file, where it is not one of open_clip's.
    weights: the file to write first, where it starts from random ones, or from shards, which the trainer cannot read.
    words: the trainer's command line.
    settings: every flag with its value. notes: for the user.
    """

    recipe: Recipe
    plan: Blueprint
    folder: Path
    device: str
    processes: int
    words: list[str]
    settings: dict[str, Any]
    weights: Path | None
    architecture: Path | None
    notes: tuple[str, ...]

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model(self) -> str:
        """What --model of `cocabench run` takes: one model per epoch."""
        return f"{self.architecture or self.plan.tokenizer}:{self.checkpoints}/epoch_*.pt"

    @property
    def script(self) -> str:
        """Shell lines that do what `cocabench train` does."""
        return "\n".join(shlex.join(words) for words in (self._start(), self.words) if words)

    def _start(self) -> list[str]:
        flags = {"--architecture": self.architecture, "--weights": self.weights}
        words = [word for flag, path in flags.items() if path for word in (flag, str(path))]
        changes = ["--changes", json.dumps(self.recipe.architecture)] if self.recipe.architecture else []
        return [sys.executable, "-m", "cocabench.train.start", self.recipe.model, *changes, *words] if words else []


def training(
    recipe: Recipe,
    output: Path,
    *,
    device: str = "auto",
    processes: int = 1,
    resume: bool = False,
    download: bool = True,
    data_later: bool = False,
    allow_pipe: bool = False,
) -> Training:
    """Return what a recipe stands for on this machine; errors for all that can be known to fail.

    data_later: data that are not there are a note, so that the commands can be read before the data exist.
    allow_pipe: data may be named as ``pipe:COMMAND``, which webdataset runs in a shell.
    """
    check_sources(recipe.trainer, allow_pipe=allow_pipe)
    device = _device(device, processes)
    plan = changed(blueprint(parse_model(recipe.model), download=download), recipe.architecture)
    own = None if plan.tokenizer and not recipe.architecture else output / "architecture.json"
    in_shards = plan.weights is not None and files(plan.weights) != [plan.weights]
    weights = output / "checkpoints" / "epoch_0.safetensors" if plan.seed is not None or in_shards else None
    found, lacking = _inputs(recipe, data_later)
    chosen = {"precision": "fp32" if device == "cpu" else "amp", **recipe.trainer, **found.flags}
    name = trainer_name(plan.config) if own else plan.tokenizer
    words = flag_words(
        {
            "model": name,
            "pretrained": str(weights or plan.weights or _tag(recipe)),
            **(_preprocessing(plan) if own else _activation(plan)),
            **chosen,
            "device": device,
            "logs": str(output.parent),
            "name": output.name,
            "resume": "latest" if resume else None,
        }
    )
    settings = parsed_flags(words, recipe.name)
    return Training(
        recipe=recipe,
        plan=plan,
        folder=output,
        device=device,
        processes=processes,
        words=_program(own, recipe.answers_after, processes) + words,
        settings=settings,
        weights=weights,
        architecture=own,
        notes=(*recipe.notes, *lacking, *_about_steps(settings, found.samples, found.shards, processes)),
    )


def _inputs(recipe: Recipe, later: bool) -> tuple[Inputs, list[str]]:
    """Return what is trained on; later: with a note in place of an error where it is not there."""
    try:
        return inputs(recipe.trainer, recipe.answers_after), []
    except (DataError, UsageError) as error:
        if not later:
            raise
        named = recipe.trainer.get("train_data", "TRAIN_DATA")
        return Inputs({"train_data": named}, 0), [f"the training could not start: {error}"]


def _device(device: str, processes: int) -> str:
    device = str(hardware(device=device).device)
    if device.startswith("cuda") and processes > torch.cuda.device_count():
        raise UsageError(f"--nproc {processes}", f"{torch.cuda.device_count()} GPUs here", fix="one process per GPU")
    return device


def _tag(recipe: Recipe) -> str:
    """Return a published tag that is not downloaded yet; open_clip's trainer fetches it by itself."""
    spec = parse_model(recipe.model)
    if not spec.weights:
        raise ModelError(
            f"model {recipe.model}",
            "its weights are not cached and were not downloaded",
            fix="use NAME:TAG or NAME:FILE",
        )
    return spec.weights


def _preprocessing(plan: Blueprint) -> dict[str, Any]:
    """Return a folder's own preprocessing as flags; a named architecture's is what open_clip gives it."""
    known = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation"}
    return {flag: plan.preprocess[key] for key, flag in known.items() if key in plan.preprocess}


def _activation(plan: Blueprint) -> dict[str, Any]:
    """Return quick-GELU where the weights were trained with it and the architecture's name does not say so."""
    named = bool(architecture(plan.tokenizer).get("quick_gelu", False))
    return {"force_quick_gelu": bool(plan.config.get("quick_gelu", False)) and not named}


def _program(own: Path | None, answers_after: str, processes: int) -> list[str]:
    """Return the trainer's program, in as many processes."""
    given = {"--architecture": str(own or ""), "--answers-after": answers_after}
    words = ["cocabench.train.launch", *(word for flag, value in given.items() if value for word in (flag, value))]
    if processes == 1:
        return [sys.executable, "-m", *words]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*run, "--module", "--", *words]


def _about_steps(settings: dict[str, Any], samples: int, shards: int, processes: int) -> list[str]:
    """Return what to say of the number of steps; UsageError where there would be none."""
    if not samples:
        return []
    batch, accum = settings["batch_size"] * processes, settings["accum_freq"]
    batches = -(-samples // batch) if shards else samples // processes // settings["batch_size"]
    if shards and not settings["dataset_resampled"] and shards < settings["workers"] * processes:
        got = f"{shards} shards for {processes} x {settings['workers']} workers, which need one each"
        raise UsageError(
            "train_data", got, fix=f"--set workers={shards // processes}, or write more shards (--samples)"
        )
    steps = batches // accum * settings["epochs"]
    if not steps:
        step = f"batch_size {settings['batch_size']} x {processes} x accum_freq {accum}"
        got = f"{plural(samples, 'sample makes', 'samples make')} no step of {step}"
        raise UsageError("train_data", got, fix="--set batch_size=N with a smaller N")
    notes = [f"{samples:,} samples an epoch, {steps:,} steps of {batch * accum:,}"]
    if settings["warmup"] >= steps and not settings["skip_scheduler"]:
        usual = max(1, steps // 10)
        notes.append(f"warm-up of {settings['warmup']:,} steps never ends in {steps:,}; --set warmup={usual} is usual")
    return notes


def shortage(plan: Blueprint, flags: dict[str, Any], device: str, processes: int) -> UsageError | None:
    """Return an error with a batch size and accum_freq that fit, where a step needs more memory than there is."""
    room = available(device) // (1 if device.startswith("cuda") else processes)
    needed = footprint(plan, flags["precision"], checkpointing=bool(flags["grad_checkpointing"]))
    batch, accum = flags["batch_size"], flags["accum_freq"]
    if needed.total(batch, accum) <= room:
        return None
    fits = needed.fitting(batch, accum, room)
    fix = f"--set batch_size={fits[0]} --set accum_freq={fits[1]} keeps the batch" if fits else "take a smaller model"
    if not flags["grad_checkpointing"]:
        fix += "; --set grad_checkpointing=true takes less and is slower"
    got = f"about {needed.total(batch, accum) / GIB:.1f} GiB needed for batch_size {batch}, {room / GIB:.1f} GiB free"
    return UsageError(f"memory of {device}", got, fix=f"{fix}; --no-memory-check continues anyway")


def check_folder(training: Training, *, resume: bool) -> None:
    """UsageError where the folder holds a run that is not to be resumed, or a checkpoint that was cut off."""
    if not resume and (training.folder / "out.log").exists():
        fix = "--resume continues it; --output names another folder"
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
    """Run a command to its end; Ctrl-C reaches it too, and it is waited for. Modules in this folder are not its own."""
    process = helpers.start(words, env={**os.environ, "PYTHONSAFEPATH": "1"})
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
    after = f"; --resume continues after epoch {max(found)}" if found else ""
    return f"its last lines say why{after}; {memory}"
