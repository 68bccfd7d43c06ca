"""A Source for a transformers network in memory with its processor, possibly in the middle of its training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import JsonValue

from cocabench.core.errors import UsageError
from cocabench.core.signature import digest
from cocabench.core.types import Ability, Note
from cocabench.models.base import Model
from cocabench.models.hardware import Hardware
from cocabench.models.hf.families import FAMILIES, Usage, check_version
from cocabench.models.hf.source import HFSource, cleaning_for, longest_text
from cocabench.models.identity import state_digest
from cocabench.models.objects import check_device, check_whole, unwrapped


@dataclass(frozen=True)
class HFInMemory:
    """A network of transformers with its image processor and tokenizer. weights: their hash at creation."""

    id: str
    net: Any = field(repr=False, compare=False)
    image_processor: Any = field(repr=False, compare=False)
    tokenizer: Any = field(repr=False, compare=False)
    weights: str
    use: Usage
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = HFSource.packages
    features_version: ClassVar[int] = HFSource.features_version

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.use.family.abilities

    def signature(self) -> dict[str, JsonValue]:
        """Return everything that can change a number: weights, config, processor and handling of texts."""
        config = {key: value for key, value in self.net.config.to_dict().items() if key not in _NAMES_AND_VERSIONS}
        return {
            "id": self.id,
            "weights": self.weights,
            "architecture": digest(self.use.family.network, _plain(config)),
            "preprocess": digest(type(self.image_processor).__name__, _plain(self.image_processor.to_dict())),
            "vocabulary": digest(type(self.tokenizer).__name__, self.tokenizer.padding_side, _pieces(self.tokenizer)),
            "texts": {"cleaning": self.use.cleaning, "length": self.use.length},
        }

    def load(self, hardware: Hardware) -> Model:
        """Return the network as a Model; UsageError if it is on another device than the hardware's."""
        from cocabench.models.hf.load import assembled

        check_device(self.id, self.net, hardware)
        return assembled(self.id, self.net, self.image_processor, self.tokenizer, self.use, hardware)


_NAMES_AND_VERSIONS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def is_of_transformers(model: Any) -> bool:
    """Return whether an object is a network of transformers, also inside DDP or torch.compile."""
    return any(kind.__module__.startswith("transformers.") for kind in type(unwrapped(model)).__mro__)


def in_memory(model: Any, processor: Any, *, name: str = "") -> HFInMemory:
    """Return the Source of a network of transformers and its processor (``AutoProcessor``'s).

    UsageError for networks of other families, and for a processor without tokenizer or image processor.
    """
    net = unwrapped(model)
    model_type = str(getattr(getattr(net, "config", None), "model_type", ""))
    family = FAMILIES.get(model_type)
    if family is None or family.network not in {kind.__name__ for kind in type(net).__mro__}:
        wanted = f"one of {', '.join(one.network for one in FAMILIES.values())}"
        raise UsageError("model", f"a {type(net).__name__}", wanted=wanted)
    check_version("model", family)
    check_whole(net)
    parts = {part: getattr(processor, part, None) for part in ("image_processor", "tokenizer")}
    for part, given in parts.items():
        if given is None:
            got, fix = f"{type(processor).__name__} without {part}", "AutoProcessor.from_pretrained returns one"
            raise UsageError("processor", got, wanted="the network's own processor", fix=fix)
    length = longest_text(family, net.config.to_dict(), "model")
    return HFInMemory(
        name or type(net).__name__,
        net,
        parts["image_processor"],
        parts["tokenizer"],
        state_digest(net),
        Usage(family, length, cleaning_for(model_type, type(parts["tokenizer"]).__name__)),
    )


def _plain(value: Any) -> JsonValue:
    found: JsonValue = json.loads(json.dumps(value, default=str, sort_keys=True))
    return found


def _pieces(tokenizer: Any) -> JsonValue:
    """Return a tokenizer's vocabulary and rules, without the padding that its last call set."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        return sorted(tokenizer.get_vocab().items())
    rules = json.loads(inner.to_str())
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
