"""A Source for a network in memory, possibly in the middle of its training.

The network is not changed: modules keep their mode, forward, dtype and device. Random state is not changed either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import JsonValue

from cocabench.core.errors import UsageError
from cocabench.core.types import Ability, Note
from cocabench.models.hardware import Hardware
from cocabench.models.identity import architecture_digest, preprocess_digest, state_digest, tokenizer_digest
from cocabench.models.open_clip.adapter import OpenClipSource
from cocabench.models.open_clip.model import OpenClip, abilities_of
from cocabench.models.pixels import named_resize


@dataclass(frozen=True)
class InMemory:
    """An open_clip network with its preprocess and tokenizer. identity: its signature, taken at creation."""

    id: str
    net: Any = field(repr=False, compare=False)
    preprocess: Callable[[Any], Any] = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    identity: dict[str, JsonValue]
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = OpenClipSource.packages
    features_version: ClassVar[int] = OpenClipSource.features_version

    @property
    def abilities(self) -> frozenset[Ability]:
        return abilities_of(self.net)

    def signature(self) -> dict[str, JsonValue]:
        """Return hashes of the weights, the network's settings, and what preprocess and tokenizer do."""
        return {"id": self.id, **self.identity}

    def load(self, hardware: Hardware) -> OpenClip:
        """Return the network as a Model; UsageError if it is on another device than the hardware's."""
        check_device(self.id, self.net, hardware)
        return OpenClip(self.id, self.net, self.tokenizer, self.preprocess, hardware, notes=self.notes)


PARTS = ("visual", "encode_image", "encode_text", "parameters")
"""What a network of open_clip has."""


def is_of_open_clip(model: Any) -> bool:
    """Return whether an object is a network of open_clip, also inside DDP or torch.compile."""
    net = unwrapped(model)
    return all(hasattr(net, part) for part in PARTS)


def in_memory(model: Any, preprocess: Any, tokenizer: Any, *, name: str = "") -> InMemory:
    """Return the Source of an open_clip network; UsageError for other objects, or if an argument is missing."""
    net = unwrapped(model)
    if not is_of_open_clip(net):
        raise UsageError("model", f"an object of type {type(net).__name__}", wanted="a network of open_clip")
    for what, given in (("preprocess", preprocess), ("tokenizer", tokenizer)):
        if given is None:
            fix = "open_clip.create_model_and_transforms and get_tokenizer return them"
            raise UsageError(what, "not given", wanted=f"the network's own {what}", fix=fix)
    check_whole(net)
    identity: dict[str, JsonValue] = {
        "weights": state_digest(net),
        "architecture": architecture_digest(net),
        "preprocess": preprocess_digest(preprocess, tensor=True, sides=_sides(net.visual)),
        **named_resize(preprocess),
        "vocabulary": tokenizer_digest(tokenizer),
    }
    return InMemory(name or type(net).__name__, net, preprocess, tokenizer, identity)


def _sides(visual: Any) -> tuple[int, int] | None:
    """Return the height and width of images that an image tower takes, None if it takes several."""
    from open_clip.transformer import VisionTransformer  # its version is checked by then

    if not isinstance(visual, VisionTransformer):
        return None
    size = visual.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def unwrapped(model: Any) -> Any:
    """Return the network inside DistributedDataParallel, DeepSpeed's engine and torch.compile.

    DDP's forward would wait for other processes, and torch.compile changes the names of parameters.
    """
    if isinstance(model, torch.nn.parallel.DistributedDataParallel | torch.nn.DataParallel):
        return unwrapped(model.module)
    if type(model).__name__ == "DeepSpeedEngine":
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return model if inner is None else unwrapped(inner)


def check_whole(net: Any) -> None:
    """Raise UsageError for a network of which this process holds a part: FSDP (both), tensor parallelism, ZeRO-3."""
    parameters = list(net.parameters())
    if any(hasattr(p, "ds_id") and not p.numel() for p in parameters):
        fix = (
            "gather it on all ranks: engine._zero3_consolidated_16bit_state_dict(), or save_checkpoint and the "
            "zero_to_fp32.py that it writes, and on one rank load that into a network of its own"
        )
        raise UsageError("model", "a sharded network (DeepSpeed's ZeRO-3)", wanted="one with all its weights", fix=fix)
    split = any(type(module).__name__ == "FullyShardedDataParallel" for module in net.modules())
    if split or any(type(p).__name__ == "DTensor" for p in parameters):
        fix = (
            "gather it on all ranks with torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
            "options=StateDictOptions(full_state_dict=True, cpu_offload=True)), and on one rank load that into a "
            "network of its own"
        )
        raise UsageError("model", "a sharded network (FSDP)", wanted="one with all its weights", fix=fix)
    if not parameters or any(p.device.type == "meta" for p in parameters):
        raise UsageError("model", "a network without weights in memory", fix="load them first")


def device_of(net: Any) -> torch.device:
    """Return the device of a network's parameters."""
    place: torch.device = next(net.parameters()).device
    return place


def check_device(name: str, net: Any, hardware: Hardware) -> None:
    """Raise UsageError if a network is on another device than the hardware's."""
    here = device_of(net)
    wanted = torch.device(hardware.device)
    if here.type != wanted.type or wanted.index not in (None, here.index):
        raise UsageError(name, f"a network on {here}", wanted=f"one on {hardware.device}", fix="move it first")
