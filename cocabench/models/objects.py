"""A Source for a network in memory, possibly in the middle of its training.

The network is not changed: modules keep their mode, forward, dtype and device. Random state is not changed either.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import JsonValue

from cocabench.core.errors import UsageError
from cocabench.core.signature import digest
from cocabench.core.types import Ability, Note
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.adapter import OpenClipSource
from cocabench.models.open_clip.model import OpenClip, abilities_of

BYTES_PER_CHUNK = 1 << 26


@dataclass(frozen=True)
class InMemory:
    """An open_clip network with its preprocess and tokenizer. weights: their hash at creation."""

    id: str
    net: Any = field(repr=False, compare=False)
    preprocess: Callable[[Any], Any] = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    weights: str
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = OpenClipSource.packages
    features_version: ClassVar[int] = OpenClipSource.features_version

    @property
    def abilities(self) -> frozenset[Ability]:
        return abilities_of(self.net)

    def signature(self) -> dict[str, JsonValue]:
        """Return everything that can change a number, as far as it is known of an object in memory."""
        return {
            "id": self.id,
            "weights": self.weights,
            "architecture": digest(_without_addresses(self.net)),
            "preprocess": digest(_without_addresses(self.preprocess)),
            "vocabulary": digest(type(self.tokenizer).__name__, getattr(self.tokenizer, "context_length", 0)),
        }

    def load(self, hardware: Hardware) -> OpenClip:
        """Return the network as a Model; UsageError if it is on another device than the hardware's."""
        check_device(self.id, self.net, hardware)
        return OpenClip(self.id, self.net, self.tokenizer, self.preprocess, hardware, notes=self.notes)


def in_memory(model: Any, preprocess: Any, tokenizer: Any, *, name: str = "") -> InMemory:
    """Return the Source of an open_clip network; UsageError for other objects, or if an argument is missing."""
    net = unwrapped(model)
    if not all(hasattr(net, part) for part in ("visual", "encode_image", "encode_text", "parameters")):
        raise UsageError(
            "model", f"an object of type {type(net).__name__}", wanted="a model string or a network of open_clip"
        )
    for what, given in (("preprocess", preprocess), ("tokenizer", tokenizer)):
        if given is None:
            fix = "open_clip.create_model_and_transforms and get_tokenizer return them"
            raise UsageError(what, "not given", wanted=f"the network's own {what}", fix=fix)
    return InMemory(name or type(net).__name__, net, preprocess, tokenizer, state_digest(net))


def unwrapped(model: Any) -> Any:
    """Return the network inside DistributedDataParallel and torch.compile.

    The former's forward would wait for other processes, and the latter changes the names of parameters.
    """
    if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return model if inner is None else unwrapped(inner)


def device_of(net: Any) -> torch.device:
    """Return the device of a network's parameters."""
    place: torch.device = next(net.parameters()).device
    return place


def check_device(name: str, net: Any, hardware: Hardware) -> None:
    """Raise UsageError if a network is on another device than the hardware's."""
    here = device_of(net)
    if here.type != hardware.device.type or hardware.device.index not in (None, here.index):
        raise UsageError(name, f"a network on {here}", wanted=f"one on {hardware.device}", fix="move it first")


@torch.no_grad()
def state_digest(net: torch.nn.Module) -> str:
    """Return a hash of parameters and buffers, computed on their device, so that nothing is copied from a GPU.

    Per tensor two sums of its bits, weighted by position, modulo 2**64. Sums of integers do not depend on their order,
    so the hash is the same on every device. It guards against mistakes, not against malice.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted({**dict(net.named_parameters()), **dict(net.named_buffers())}.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8) if tensor.numel() else torch.empty(0)
        for part in flat.split(BYTES_PER_CHUNK):
            bits = torch.nn.functional.pad(part, (0, -part.numel() % 4)).view(torch.int32).to(torch.int64)
            at = torch.arange(1, bits.numel() + 1, device=bits.device)
            first = (bits * (at * 2654435761 + 97)).sum()
            second = ((bits ^ (bits << 21)) * (at * 40503 * 65537 + 12345)).sum()
            sha.update(f"{int(first)} {int(second)}".encode())
    return sha.hexdigest()[:16]


def _without_addresses(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
