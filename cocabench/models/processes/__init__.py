"""Several processes on one machine, a device each, that share the samples of every task."""

from cocabench.models.processes.group import Alone, Group
from cocabench.models.processes.sharded import Sharded
from cocabench.models.processes.starting import device_names, joined, processes

__all__ = ["Alone", "Group", "Sharded", "device_names", "joined", "processes"]
