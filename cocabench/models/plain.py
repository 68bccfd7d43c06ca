"""Objects of a user's own as models: anything with ``encode_images`` and ``encode_texts``.

A model of cocabench (``models.base.Model``, or an object with all of ``core.types.Model``) runs as it is. Any other
object gets batches, and returns a row per image or text, of any scale, as a tensor or array:

    encode_images(images) -> (n, d)    images: a list of n RGB PIL images; with a preprocess its tensors, (n, 3, h, w)
    encode_texts(texts) -> (n, d)      texts: a list of n distinct texts

Its networks, wherever it holds them (``models.holdings``), are in evaluation mode for each batch, and back in their own
afterwards. Their weights identify it with all else that it holds, and with what its method ``signature()`` returns.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from cocabench.core.errors import CocabenchError, ModelError, UsageError, first_line
from cocabench.core.signature import digest
from cocabench.core.types import Ability, Note
from cocabench.core.types import Model as AnyModel
from cocabench.models.base import OUT_OF_MEMORY, Model
from cocabench.models.contexts import evaluating
from cocabench.models.hardware import Hardware
from cocabench.models.holdings import Holdings, holdings
from cocabench.models.identity import architecture_digest, code, preprocess_digest, state_digest
from cocabench.models.objects import check_device, check_whole, unwrapped
from cocabench.models.pixels import named_resize


@dataclass(frozen=True)
class PlainSource:
    """An object in memory. unknown: what cannot be identified of it; '' if all can, and only then is it cached."""

    id: str
    given: Any = field(repr=False, compare=False)
    preprocess: Callable[[Any], Any] | None = field(repr=False, compare=False)
    identity: dict[str, JsonValue]
    unknown: str
    abilities: frozenset[Ability]
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "torch")
    features_version: ClassVar[int] = 1

    @property
    def net(self) -> Any:
        """The first module with parameters, whose device is the object's; None if there is none."""
        modules = holdings(self.given).networks.values()
        return next((module for module in modules if any(True for _ in module.parameters())), None)

    def signature(self) -> dict[str, JsonValue]:
        return {"id": self.id, **self.identity}

    def load(self, hardware: Hardware) -> AnyModel:
        """Return the object as a Model; UsageError if it is on another device than the hardware's."""
        if _is_model(self.given):
            return self.given  # type: ignore[no-any-return]
        if self.net is not None:
            check_device(self.id, self.net, hardware)
        return Plain(self.id, self.given, self.preprocess, hardware)


def has_encoders(model: Any) -> bool:
    """Return whether an object has the methods of a model, also inside DDP or torch.compile."""
    given = unwrapped(model)
    return all(callable(getattr(given, name, None)) for name in ("encode_images", "encode_texts"))


def in_memory(model: Any, preprocess: Any = None, *, name: str = "") -> PlainSource:
    """Return the Source of an object with encode_images and encode_texts; UsageError for a wrong preprocess."""
    given = unwrapped(model)
    held = holdings(given)
    for module in held.networks.values():
        if any(True for _ in module.parameters()):
            check_whole(module)
    if _is_model(given) and preprocess is not None:
        raise UsageError("preprocess", "given with a loaded model, which has its own", fix="leave it out")
    own = getattr(given, "signature", None)
    weights: dict[str, JsonValue] = {key: state_digest(module) for key, module in held.networks.items()}
    unknown = "" if callable(own) else _unknown(held)
    identity: dict[str, JsonValue] = {
        "weights": f"unknown {uuid.uuid4().hex[:16]}" if unknown else digest(weights, held.arrays),
        "architecture": digest(
            [_code(type(given)), {key: architecture_digest(module) for key, module in held.networks.items()}],
            held.settings,
        ),
        "preprocess": "" if preprocess is None else preprocess_digest(preprocess),
        **named_resize(preprocess),
        "vocabulary": "",
        **(dict(own()) if callable(own) else {}),
    }
    abilities = given.abilities if _is_model(given) else frozenset[Ability]({"encode"})
    label = name or str(getattr(given, "id", "")) or type(given).__name__
    return PlainSource(label, given, preprocess, {k: v for k, v in identity.items() if k != "id"}, unknown, abilities)


def _unknown(held: Holdings) -> str:
    """Return what cannot be identified of an object, in words; '' if all can."""
    if held.unknown:
        return f"with an object whose {held.unknown[0]} cannot be identified, so its state is unknown"
    if not (held.networks or held.arrays):
        return "with an object that holds no weights, so its state is unknown"
    return ""


def _is_model(given: Any) -> bool:
    return isinstance(given, Model) or all(hasattr(given, part) for part in ("id", "abilities", "parameters", "notes"))


def _code(kind: type) -> JsonValue:
    return [kind.__qualname__, [code(value) for _, value in sorted(vars(kind).items()) if hasattr(value, "__code__")]]


class Plain(Model):
    """An object with encode_images and encode_texts, in batches, on its device."""

    def __init__(
        self,
        id: str,  # noqa: A002
        given: Any,
        preprocess: Callable[[Any], Any] | None,
        hardware: Hardware,
    ) -> None:
        modules = holdings(given).networks
        counts = {key or "all": sum(p.numel() for p in module.parameters()) for key, module in modules.items()}
        super().__init__(id, preprocess or rgb, hardware, parameters={key: n for key, n in counts.items() if n})
        self.given, self._modules = given, modules

    @contextmanager
    def computing(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self._modules.values():
                stack.enter_context(evaluating(module))
            yield

    def encode_image_batch(self, pixels: Any) -> Tensor:
        return self._rows("encode_images", pixels)

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        return self._rows("encode_texts", texts)

    def _rows(self, verb: str, batch: Any) -> Tensor:
        try:
            found = getattr(self.given, verb)(batch)
        except (torch.OutOfMemoryError, CocabenchError):
            raise
        except Exception as error:
            if OUT_OF_MEMORY in str(error):
                raise  # the base class halves the batch
            what = f"({', '.join(map(str, batch.shape))}) tensor" if isinstance(batch, Tensor) else f"{len(batch)}"
            got = f"{verb} fails on a batch of {what} ({type(error).__name__}: {first_line(error)})"
            raise ModelError(self.id, got, wanted="rows (n, d)") from error
        if isinstance(found, np.ndarray) and found.dtype != object:
            return torch.as_tensor(found)
        if not isinstance(found, Tensor):
            raise ModelError(self.id, f"{verb} returns a {type(found).__name__}", wanted="a tensor or array (n, d)")
        return found


def rgb(image: Image.Image) -> Image.Image:
    """The transform of objects that take PIL images."""
    return image.convert("RGB")
