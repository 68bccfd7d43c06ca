"""The entry point ``open_clip`` of the group cocabench.models: model strings to Sources.

Imports neither torch nor open_clip until a Source is loaded, so that plans are quick (--resize fast needs both).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

from cocabench import demo
from cocabench.core.packages import check_open_clip
from cocabench.core.types import Ability
from cocabench.models.open_clip.blueprint import CONTRASTIVE, GENERATIVE, Blueprint, blueprint, with_options
from cocabench.specs.spec import ModelSpec, WeightsKind

if TYPE_CHECKING:
    from cocabench.models.hardware import Hardware
    from cocabench.models.open_clip.model import OpenClip


@dataclass(frozen=True)
class OpenClipSource(Blueprint):
    """A Blueprint that can be loaded."""

    packages: ClassVar[tuple[str, ...]] = ("open_clip_torch", "pillow", "torch", "torchvision")
    """Pillow and torchvision decode and transform images."""

    model_module: ClassVar[str] = "cocabench.models.open_clip.model"
    """Imported early by the server of data workers, which need it for images."""

    features_version: ClassVar[int] = 1
    """Raise it if a change in this library, the base class or image decoding changes a feature."""

    @property
    def abilities(self) -> frozenset[Ability]:
        return GENERATIVE if self.captions else CONTRASTIVE

    def load(self, hardware: Hardware) -> OpenClip:
        """Return the model on its device, ready to encode."""
        from cocabench.models.open_clip.model import loaded

        return loaded(self, hardware)


def sources(spec: ModelSpec, *, download: bool = True) -> list[OpenClipSource]:
    """Return the Source of a spec; for ``demo``, those of the demo's CoCa and CLIP.

    ModelError where --resize cannot be followed.
    """
    check_open_clip()
    demo_names = demo.PAIR if spec.kind is WeightsKind.DEMO and not spec.name else ()
    specs = [replace(spec, text=f"demo/{name}", name=name) for name in demo_names] or [spec]
    plans = [with_options(blueprint(one, download=download), spec) for one in specs]
    if spec.resize != "own":
        from cocabench.models.open_clip.build import build_transform

        for plan in plans:
            given = {key: value for key, value in plan.preprocess.items() if value is not None}
            build_transform(given, plan.resize)
    return list(map(_source, plans))


def _source(drawn: Blueprint) -> OpenClipSource:
    return OpenClipSource(**{field.name: getattr(drawn, field.name) for field in fields(drawn)})
