"""The entry point ``open_clip`` of the group cocabench.models: model strings to Sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from torch import Tensor

from cocabench import demo
from cocabench.core.packages import check_open_clip
from cocabench.core.types import Ability, Note
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.blueprint import Blueprint, blueprint, with_options
from cocabench.models.open_clip.build import build_network, build_tokenizer, build_transform
from cocabench.models.open_clip.model import CONTRASTIVE, GENERATIVE, OpenClip
from cocabench.specs.spec import ModelSpec, WeightsKind


@dataclass(frozen=True)
class OpenClipSource(Blueprint):
    """A Blueprint that can be loaded."""

    packages: ClassVar[tuple[str, ...]] = ("open_clip_torch", "pillow", "torch", "torchvision")
    """Pillow and torchvision decode and transform images."""

    features_version: ClassVar[int] = 1
    """Raise it if a change in this library, the base class or image decoding changes a feature."""

    @property
    def abilities(self) -> frozenset[Ability]:
        return GENERATIVE if self.captions else CONTRASTIVE

    def load(self, hardware: Hardware) -> OpenClip:
        """Return the model on its device, ready to encode."""
        notes = [note for note in self.notes if note.code == "preprocess_assumed"]
        net = build_network(self, note=notes.append)
        placed = net.to(hardware.device)
        notes += self._notes(net)
        transform = build_transform(net.visual.preprocess_cfg, self.resize)
        model = OpenClip(self.id, placed, build_tokenizer(self), transform, hardware, notes=notes)
        model.compiled = _compiled(self.id, net) if hardware.compile else None
        return model

    def _notes(self, net: Any) -> list[Note]:
        found = [Note("random_weights", "random weights, not trained")] if self.seed is not None else []
        if self.captions and getattr(net.text, "attn_mask", None) is None:
            said = "the text tower is not causal: in training the caption loss saw the words to predict"
            found.append(Note("not_causal", said))
        return found


def _compiled(name: str, net: Any) -> Callable[[Tensor], Tensor]:
    from cocabench.models.compiled import compiled  # importing torch's compiler takes a second

    return compiled(net.encode_image, name)


def sources(spec: ModelSpec, *, download: bool = True) -> list[OpenClipSource]:
    """Return the Source of a spec; for ``demo``, those of the demo's CoCa and CLIP.

    ModelError where --resize cannot be followed.
    """
    check_open_clip()
    demo_names = demo.PAIR if spec.kind is WeightsKind.DEMO and not spec.name else ()
    specs = [replace(spec, text=f"demo/{name}", name=name) for name in demo_names] or [spec]
    plans = [with_options(blueprint(one, download=download), spec) for one in specs]
    for plan in plans:
        if plan.resize != "own":
            build_transform(plan.preprocess, plan.resize)
    return list(map(_source, plans))


def _source(drawn: Blueprint) -> OpenClipSource:
    return OpenClipSource(**{field.name: getattr(drawn, field.name) for field in fields(drawn)})
