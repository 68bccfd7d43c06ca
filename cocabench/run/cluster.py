"""Ray: which devices compute, and a connection to a cluster, or a cluster of this machine alone."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cocabench.core.errors import UsageError
from cocabench.core.temporary import folder_for_sockets, temporary_folder
from cocabench.core.types import Machine
from cocabench.models.hardware import Hardware, count_gpus, machine_name, threads
from cocabench.run.prepare import Settings

INSTALL = "install it with `pip install 'cocabench[ray]'`"
ANSWER_S = 10.0
"""How long a cluster has to answer."""

MAX_READERS = 8
OBJECT_STORE_BYTES = 256 << 20
"""Of Ray on this machine: features and samples on their way. Larger ones go to the disk."""


@dataclass(frozen=True)
class Chosen:
    """What computes: n workers of a kind of device, each with CPUs of its own. address: a cluster's; '': this machine.

    visible: the GPUs of this machine to use, '' for all.
    """

    kind: str
    n: int
    cpus: int
    address: str = ""
    visible: str = ""

    def readers(self, workers: int | None) -> int:
        """Return the data-loading processes of each worker. workers: of --workers, for all together."""
        if workers is not None:
            return workers // self.n
        return min(MAX_READERS, self.cpus - 1) if self.kind == "cuda" else 0

    def hardware(self, settings: Settings) -> Hardware:
        """Return the Hardware of one worker, which this machine need not have."""
        own = settings
        auto = "fp16" if self.kind == "cuda" else "fp32"
        precision: Any = auto if own.precision == "auto" else own.precision
        return Hardware(self.kind, precision, own.batch_size, own.workers, own.skip_bad_images, own.compile)

    def machine(self) -> Machine:
        """Return what kinds know of a worker on this machine."""
        device = f"cuda:{self.visible.partition(',')[0] or 0}" if self.kind == "cuda" else "cpu"
        return Machine(machine_name(device), self.cpus, self.kind)


def on_this_machine(names: Sequence[str]) -> Chosen:
    """Return the workers for --devices. UsageError for devices of two kinds, or GPUs that are not there."""
    kinds = {name.partition(":")[0] for name in names}
    if len(kinds) > 1 or not kinds <= {"cpu", "cuda"}:
        raise UsageError(f"--devices {','.join(names)}", "devices of several kinds", wanted="GPUs alone, or CPUs alone")
    if kinds == {"cuda"}:
        numbers = [int(name.partition(":")[2] or 0) for name in names]
        absent = [i for i in numbers if i >= count_gpus()]
        if absent or len(set(numbers)) < len(numbers):
            got = f"no GPU {absent[0]}" if absent else "a GPU twice"
            raise UsageError(f"--devices {','.join(names)}", got, wanted="different GPUs that `cocabench doctor` lists")
        cpus = max(1, (os.cpu_count() or 1) // len(names))
        return Chosen("cuda", len(names), cpus, visible=",".join(map(str, numbers)))
    cpus = max(1, min(threads(), (os.cpu_count() or 1) // len(names)))
    return Chosen("cpu", len(names), cpus)


def on_cluster(ray: Any, address: str, names: Sequence[str]) -> Chosen:
    """Return the workers on a cluster that ``ray`` is connected to: one per GPU, or per node without GPUs."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU")]
    gpus = [(int(node["GPU"]), int(node.get("CPU", 1))) for node in nodes if node.get("GPU")]
    kinds = {"cpu" if gpus == [] else "cuda"} if set(names) <= {"auto", "all"} else set(names)
    if not (kinds == {"cpu"} or kinds == {"cuda"}):
        raise UsageError(
            f"--devices {','.join(names)}", "single devices of a cluster", wanted="all, cuda, cpu or cpu,cpu"
        )
    if kinds == {"cuda"}:
        if not gpus:
            raise UsageError(f"--ray {address}", "no GPU in the cluster", fix="leave --devices out, or name cpu")
        return Chosen("cuda", sum(n for n, _ in gpus), max(1, min(own // n for n, own in gpus)), address)
    if not cpus:
        raise UsageError(f"--ray {address}", "no CPU in the cluster", fix="start nodes with `ray start --num-cpus`")
    n = len(names) if len(names) > 1 else len(cpus)
    return Chosen("cpu", n, max(1, min(min(cpus), sum(cpus) // n)), address)


def imported_ray() -> Any:
    """Return the module ray, which prints nothing. UsageError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--devices, --ray", "Ray is not installed", fix=INSTALL) from None
    # It prints a report of every dead worker on stdout, whatever log_to_driver says; we say it in a line of our own.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    return ray


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Connect to a cluster, and disconnect at the end. UsageError of one line if that fails."""
    where = f"--ray {address}"
    if address.startswith("ray://"):
        fix = "run on a node of the cluster, with --ray auto or the head's HOST:6379; `ray job submit` starts it there"
        raise UsageError(where, "an address for Ray's clients", wanted="auto or HOST:PORT", fix=fix)
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise UsageError(where, f"got {address!r}", wanted="auto or HOST:PORT")
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
        except OSError as error:
            fix = "is the head running? `ray start --head` prints its address"
            raise UsageError(where, f"no answer ({error.strerror or error})", fix=fix) from None
    try:
        ray.init(address=address, **_QUIET)
    except (RuntimeError, ConnectionError, TimeoutError, ValueError) as error:
        raise _refused(where, error) from None
    try:
        yield
    finally:
        ray.shutdown()


RAY_SOCKET_BYTES = len("ray-0123456789abcdef/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store.1")

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}


def _refused(where: str, error: Exception) -> UsageError:
    text = " ".join(str(error).split())
    versions = re.findall(r"(Ray|Python): ([\w.+-]+)", text)
    if "ersion mismatch" in text and versions:
        half = len(versions) // 2
        there, here = (", ".join(" ".join(pair) for pair in part) for part in (versions[:half], versions[half:]))
        fix = "use the same versions on all machines"
        return UsageError(where, f"another version on the cluster ({there}; here {here})", fix=fix)
    return UsageError(where, text[:200], fix="is the head running? `ray status` tells")


@contextmanager
def started_here(ray: Any, chosen: Chosen) -> Iterator[None]:
    """Start Ray on this machine alone, with its logs in a temporary folder, and end it with the body."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen.visible:
        known = before.split(",") if before else None
        numbers = [int(number) for number in chosen.visible.split(",")]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(known[i] if known else str(i) for i in numbers)
    with temporary_folder("ray-", folder_for_sockets(RAY_SOCKET_BYTES)) as folder:
        try:
            ray.init(
                address="local",
                num_cpus=chosen.n * chosen.cpus,
                num_gpus=chosen.n if chosen.kind == "cuda" else 0,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
                **_QUIET,
            )
            yield
        finally:
            ray.shutdown()
            if chosen.visible:
                del os.environ["CUDA_VISIBLE_DEVICES"]
                os.environ |= {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
