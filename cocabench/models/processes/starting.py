"""Processes come to be: started here, one per device, or by torchrun."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

import torch
import torch.distributed as dist
import torch.distributed.nn  # before any group is made: see LEFTOVER
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cocabench.core.errors import LostProcessError, UsageError
from cocabench.models.processes.group import Alone, Group, Together, serve
from cocabench.models.processes.worker import Worker

LEFTOVER = "torch.distributed.nn.functional"
"""This module's functions have the group that there is when it is imported as a default argument. open_clip imports it,
so that a group which was there before outlived destroy_process_group: its threads met the end of the interpreter, and
now and then aborted a process whose work was done ("terminate called without an active exception")."""

PATIENCE = timedelta(days=30)
"""Processes wait for each other this long: while the first one scores, the others have nothing to do. One that dies is
noticed by its closed connection."""


def device_names(text: str) -> list[str]:
    """Return the devices that --devices means, one per process: ``auto``, ``all``, ``cuda:1``, ``0,1``, ``cpu,cpu``."""
    if text == "all":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--devices {text}", "an empty name", wanted="auto, all, cpu, cuda:1, or several with commas")
    return [f"cuda:{name}" if name.isdecimal() else name for name in names]


def joined(devices: Sequence[str]) -> bool:
    """Serve the run's first process where torchrun started this one as another, and return True when that is over."""
    if not dist.is_torchelastic_launched() or (rank := int(os.environ["RANK"])) == 0:
        return False
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        serve(Worker(rank, torch.device(_torchruns(devices)), _loaders(dist.get_world_size())))
    finally:
        dist.destroy_process_group()
    return True


@contextmanager
def processes(devices: Sequence[str]) -> Iterator[Group]:
    """Give the group of this process and others: torchrun's, or one per device, started when they are first asked.

    An exception ends the others at once, as does the end of this process.
    """
    if dist.is_torchelastic_launched():
        with _with_torchruns(_torchruns(devices)) as group:
            yield group
    elif len(devices) == 1:
        yield Alone(devices)
    else:
        with _with_children(devices) as group:
            yield group


def _torchruns(devices: Sequence[str]) -> str:
    """Return the device of a process that torchrun started: the GPU of its local rank, or the CPU."""
    if len(devices) > 1:
        raise UsageError(f"--devices {','.join(devices)}", "several devices under torchrun", fix="leave --devices out")
    if devices[0] in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return "cpu" if devices[0] == "auto" else devices[0]


@contextmanager
def _with_torchruns(device: str) -> Iterator[Group]:
    dist.init_process_group("gloo", timeout=PATIENCE)
    size = dist.get_world_size()
    worker = Worker(0, torch.device(device), _loaders(size))
    group = Together([device], worker, size, lost=lambda: "one of them died")
    try:
        yield group
        group.dismiss()
    finally:
        dist.destroy_process_group()


@contextmanager
def _with_children(devices: Sequence[str]) -> Iterator[Group]:
    size, threads = len(devices), torch.get_num_threads()
    share = max(1, threads // size)
    children: list[BaseProcess] = []

    def connect() -> None:
        torch.set_num_threads(share)
        store = TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
        for rank, device in enumerate(devices[1:], 1):
            children.append(get_context("spawn").Process(target=_child, args=(rank, size, store.port, device, share)))
            children[-1].start()
        _await(store, children)
        dist.init_process_group("gloo", store=store, rank=0, world_size=size, timeout=PATIENCE)

    worker = Worker(0, torch.device(devices[0]), _loaders(size))
    group = Together(devices, worker, size, lost=lambda: _obituary(children), connect=connect)
    try:
        yield group
        group.dismiss()
    except BaseException:
        for child in children:
            child.terminate()
        raise
    finally:
        for child in children:
            child.join()
        torch.set_num_threads(threads)
        if dist.is_initialized():
            dist.destroy_process_group()


def _child(rank: int, size: int, port: int, device: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process is told too, and ends this one
    torch.set_num_threads(threads)
    store = TCPStore("127.0.0.1", port, size, is_master=False)
    store.set(f"ready/{rank}", "")
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    serve(Worker(rank, torch.device(device), _loaders(size)))
    dist.destroy_process_group()


def _await(store: TCPStore, children: Sequence[BaseProcess]) -> None:
    """Wait until every child has come so far that it will connect; LostProcessError where one has died."""
    while not store.check([f"ready/{rank}" for rank in range(1, len(children) + 1)]):
        if any(child.exitcode is not None for child in children):
            raise LostProcessError("--devices", _obituary(children), fix="use one device")
        time.sleep(0.05)


def _obituary(children: Sequence[BaseProcess]) -> str:
    """Return which child died and of what, waiting for its end to be known."""
    for _ in range(100):
        for rank, child in enumerate(children, 1):
            if child.exitcode:
                how = f"signal {-child.exitcode}" if child.exitcode < 0 else f"exit code {child.exitcode}"
                return f"process {rank} of {len(children) + 1} died of {how}"
        time.sleep(0.05)
    return "one of them is out of reach"


def _loaders(size: int) -> int:
    """Return the data-loading processes of each of size processes: what cores are left, 8 at most."""
    return min(8, max(0, (os.cpu_count() or 1) // size - 1))
