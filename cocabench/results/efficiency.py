"""Training cost of a CoCa relative to the CLIP of its size, beside published claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cocabench.core.signature import protocol_differences
from cocabench.core.types import Record
from cocabench.kinds import find

DOCUMENTED_SPEED, DOCUMENTED_MEMORY = 0.6, 1.4
"""Of coca_ViT-L-14 against ViT-L-14 in training: open_clip's documentation of CoCa."""

BLOG_COST = 1.2
"""Of CoCa against CLIP in training: LAION's blog of 2 February 2023 ("about 20 %", table 8b of the CoCa paper)."""


@dataclass(frozen=True)
class TrainingCost:
    """A CoCa's training step relative to its CLIP's, on the same machine with the same batch.

    speed: CLIP's time over CoCa's (below 1: CoCa is slower); slowest, fastest: its range over the repeats. memory:
    CoCa's over CLIP's. None if not measured.
    """

    coca: Record
    clip: Record
    speed: float | None
    slowest: float | None
    fastest: float | None
    memory: float | None


def training_costs(records: Iterable[Record]) -> list[TrainingCost]:
    """Return a TrainingCost per CoCa whose CLIP (coca_X and X, demo/coca and demo/clip) was measured the same way.

    The same way: protocol (machine, threads, batch) and precision are equal.
    """
    measured = [record for record in records if find(record.evaluator).shown.costs]
    return [_cost(coca, clip) for coca in measured if (clip := _clip_of(coca, measured)) is not None]


def _clip_of(coca: Record, records: Sequence[Record]) -> Record | None:
    name = coca.model.partition(":")[0]
    twin = "demo/clip" if name == "demo/coca" else name.removeprefix("coca_")
    alike = [r for r in records if r.model.partition(":")[0] == twin != name and _alike(coca, r)]
    return max(alike, key=lambda record: record.created, default=None)


def _alike(a: Record, b: Record) -> bool:
    same = a.signature.model.get("precision") == b.signature.model.get("precision")
    return same and not protocol_differences(a.signature, b.signature)


def _cost(coca: Record, clip: Record) -> TrainingCost:
    one, other = (record.metrics["train_step_s"] for record in (coca, clip))
    memory = [record.metrics["train_memory_mib"].value for record in (coca, clip)]
    return TrainingCost(
        coca,
        clip,
        speed=_ratio(other.value, one.value),
        slowest=_ratio(other.low, one.high),
        fastest=_ratio(other.high, one.low),
        memory=_ratio(*memory),
    )


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def sentences(cost: TrainingCost) -> list[str]:
    """Return a sentence each for speed and memory: the measured ratio and the published claims."""
    protocol = cost.coca.signature.protocol
    where = f"{protocol['machine']}, {protocol['threads']} threads, batches of {protocol['train_batch_size']}"
    head = f"training {cost.coca.model} relative to {cost.clip.model} ({where})"
    found = []
    if cost.speed is not None:
        allowed = f" ({cost.slowest:.2f}-{cost.fastest:.2f})" if cost.slowest and cost.fastest else ""
        claims = (
            f"open_clip's documentation says {DOCUMENTED_SPEED}, LAION's blog about {1 / BLOG_COST:.2f}, for ViT-L-14"
        )
        found.append(f"{head}: {cost.speed:.2f}{allowed} times the speed; {claims}")
    if cost.memory is not None:
        found.append(f"{head}: {cost.memory:.2f} times the memory; open_clip's documentation says {DOCUMENTED_MEMORY}")
    return found
