"""What to change where a training needs more memory than there is."""

from __future__ import annotations

from typing import Any

from cocabench.core.errors import UsageError
from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.models.training import GIB, available, footprint


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
    return UsageError(f"memory of {device}", got, fix=f"{fix}; --no-memory-check goes on all the same")
