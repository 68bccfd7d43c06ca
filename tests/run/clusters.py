"""Real clusters on one machine for tests: two Slurm nodes from Debian's packages, two Ray nodes on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
PATIENCE_S = 30

CONF = """
ClusterName=cocabench
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
SchedulerParameters=sched_min_interval=200000,batch_sched_delay=0,bf_interval=1,sched_interval=1
MpiDefault=none
KillWait=5
MaxArraySize={max_array}
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.0.1 Port={port1} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname=n2 NodeAddr=127.0.0.1 Port={port2} CPUs=1 RealMemory=2000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=UNLIMITED State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Return why no Slurm cluster can be started here, '' if one can."""
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        return f"not installed: {', '.join(absent)}"
    if os.geteuid() != 0:
        return "not root"
    words = ["unshare", "-u", "-p", "-f", "--kill-child", "--mount-proc", "hostname", "n1"]
    return "" if subprocess.run(words, capture_output=True, check=False).returncode == 0 else "no right to unshare"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass
class Slurm:
    """A running cluster. env: what commands need to reach it."""

    folder: Path
    env: dict[str, str]
    port: int
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, node: str) -> None:
        words = ["unshare", "-u", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c"]
        words += [f"hostname {node}; exec slurmd -D -N {node} -f {self.folder}/slurm.conf"]
        self.nodes[node] = self._daemon(words, f"{node}.out")

    def kill(self, node: str) -> None:
        """Kill a node with all that runs on it, as a power failure would."""
        process = self.nodes.pop(node)
        process.kill()  # of unshare: the kernel then kills all of its process namespace
        process.wait()

    def run(self, *words: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def idle(self) -> bool:
        return not self.run("squeue", "--noheader")

    def wait(self, until: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, self.report()
            time.sleep(0.2)

    def report(self) -> str:
        logs = [f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log"))]
        return "\n".join([self.run("squeue"), self.run("sinfo"), *logs])

    def _daemon(self, words: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(words, env=self.env, stdout=out, stderr=out, start_new_session=True)


@contextmanager
def slurm(*, max_array: int = 1001, port: int = 16817) -> Iterator[Slurm]:
    """Start two nodes of one CPU each, n1 and n2, and end them with the body.

    Their folder lies in /tmp wherever tests have theirs, since the path of a socket may have 107 characters.
    """
    with TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield from _slurm(Path(folder), max_array, port)


def _slurm(folder: Path, max_array: int, port: int) -> Iterator[Slurm]:
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    ports = {"port": port, "port1": port + 1, "port2": port + 2}
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, max_array=max_array, **ports))
    env = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    cluster = Slurm(folder, env, port)
    files = [
        f"--{name}={folder}/munge.{name.partition('-')[0]}"
        for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")
    ]
    daemons = [cluster._daemon(["munged", "--foreground", "--force", *files], "munged.out")]
    try:
        cluster.wait(lambda: (folder / "munge.socket").exists())
        daemons.append(cluster._daemon(["slurmctld", "-D", "-f", f"{folder}/slurm.conf"], "slurmctld.out"))
        for node in ("n1", "n2"):
            cluster.start(node)
        cluster.wait(lambda: _said(cluster, "sinfo", "--noheader", "--format=%T %D").split() == ["idle", "2"])
        yield cluster
    finally:
        for process in [*cluster.nodes.values(), *reversed(daemons)]:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _said(cluster: Slurm, *words: str) -> str:
    """Return what a command prints; '' while the controller is not up."""
    done = subprocess.run(words, env=cluster.env, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else ""


@dataclass
class RayNodes:
    """A Ray cluster of a head without CPUs and two nodes of one CPU each. cache: of its workers."""

    cluster: Any
    cache: Path
    nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def start(self) -> None:
        env = {"COCABENCH_CACHE": str(self.cache)}
        self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20, env_vars=env))

    def kill(self) -> None:
        """Kill the older node with -9, and all that runs on it."""
        self.cluster.remove_node(self.nodes.pop(0), allow_graceful=False)


@contextmanager
def ray_nodes(cache: Path) -> Iterator[RayNodes]:
    """Start the cluster, with a cache for its workers and health checks of 1 s x 3, and end it with the body."""
    from ray.cluster_utils import Cluster

    checks = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "object_store_memory": 100 << 20, "_system_config": checks, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = RayNodes(cluster, cache)
    try:
        for _ in range(2):
            nodes.start()
        yield nodes
    finally:
        cluster.shutdown()
