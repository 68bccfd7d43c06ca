"""The adapter ``open_clip`` of the entry point group cocabench.models: model strings to plans that can be loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

from cocabench import demo
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.blueprint import Blueprint, blueprint
from cocabench.models.open_clip.model import OpenClip, built, placed
from cocabench.specs.spec import ModelSpec, WeightsKind


@dataclass(frozen=True)
class Plan(Blueprint):
    """A Blueprint that can be loaded."""

    @property
    def ahead(self) -> bool:
        """Whether a thread may build it: random weights want the random numbers for themselves."""
        return self.seed is None

    def load(self, hardware: Hardware) -> OpenClip:
        """Return the model on its device, ready to encode."""
        return self.build()(hardware)

    def build(self) -> Callable[[Hardware], OpenClip]:
        """Build the model on the CPU; what is returned puts it on its device."""
        return partial(placed, self, built(self))


def plans(spec: ModelSpec, *, quick_gelu: bool | None = None, download: bool = True) -> list[Plan]:
    """Return the plan of a spec, or of the demo's CoCa and CLIP for ``demo``."""
    demo_names = demo.PAIR if spec.kind is WeightsKind.DEMO and not spec.name else ()
    specs = [replace(spec, text=f"demo/{name}", name=name) for name in demo_names] or [spec]
    return [_plan(_with_quick_gelu(blueprint(one, download=download), quick_gelu)) for one in specs]


def _plan(drawn: Blueprint) -> Plan:
    return Plan(**{field.name: getattr(drawn, field.name) for field in fields(drawn)})


def _with_quick_gelu(drawn: Blueprint, quick_gelu: bool | None) -> Blueprint:
    """Follow --quick-gelu, which is for checkpoint files; a published tag knows its own activation without it."""
    if quick_gelu is None or drawn.config.get("quick_gelu", False) == quick_gelu:
        return drawn
    note = f"{drawn.id}: quick-GELU switched {'on' if quick_gelu else 'off'} by --quick-gelu"
    return replace(drawn, config={**drawn.config, "quick_gelu": quick_gelu}, notes=(*drawn.notes, note))
