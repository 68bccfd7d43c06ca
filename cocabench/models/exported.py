"""Exported towers of open_clip models: ``onnx::FOLDER`` (ONNX Runtime) and ``torch_export::FOLDER``.

A folder holds ``open_clip_config.json``, as open_clip's ``local-dir:`` has it, for tokenizer and image transform, and
the two towers: ``image.onnx`` and ``text.onnx``, or ``image.pt2`` and ``text.pt2``. The image tower maps pixels
(k, 3, h, w), normalized by that transform, to features (k, d); the text tower token ids (k, context length) to (k, d).
Quantised and half-precision graphs are graphs like others: inputs are cast to what they declare.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import JsonValue
from torch import Tensor

from cocabench.core.errors import ModelError, first_line
from cocabench.core.files import expanded
from cocabench.core.signature import digest, digest_file
from cocabench.core.types import Ability, Note
from cocabench.models.base import OUT_OF_MEMORY, Model
from cocabench.models.hardware import Hardware
from cocabench.models.open_clip.blueprint import Blueprint, described
from cocabench.models.open_clip.build import Tokenizer, build_tokenizer, build_transform, meta_network
from cocabench.models.open_clip.counts import count_tokens
from cocabench.models.pixels import Transform
from cocabench.models.tokens import TokenCounts
from cocabench.specs.spec import ModelSpec

CONFIG = "open_clip_config.json"
NO_WEIGHTS = (".json", ".txt", ".md", ".py")
"""Endings of files in a folder that are no part of a graph."""

Tower = Callable[[Tensor], Tensor]
"""Inputs (k, …) -> features (k, d), on the CPU or the model's device."""


@dataclass(frozen=True)
class ExportedSource(ABC):
    """A folder with exported towers. plan: of the tokenizer and the image transform."""

    id: str
    folder: Path
    plan: Blueprint = field(repr=False)
    notes: tuple[Note, ...] = ()
    abilities: ClassVar[frozenset[Ability]] = frozenset({"encode"})
    available: ClassVar[bool] = True
    features_version: ClassVar[int] = 1
    ending: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("open_clip_torch", "pillow", "torch", "torchvision")

    def signature(self) -> dict[str, JsonValue]:
        """Return the hashes of the graphs with all files that they may keep weights in, and of the preprocessing."""
        files = sorted(p for p in self.folder.iterdir() if p.is_file() and p.suffix.lower() not in NO_WEIGHTS)
        made = {key: value for key, value in self.plan.construction().items() if key in ("preprocess", "vocabulary")}
        weights = digest({path.name: digest_file(path) for path in files})
        return {"id": self.id, "weights": weights, "exported": self.ending, **made}

    def load(self, hardware: Hardware) -> Model:
        """Return the towers, ready to encode."""
        image, text = (self.tower(self.folder / f"{name}{self.ending}", hardware) for name in ("image", "text"))
        transform = build_transform(meta_network(self.plan).visual.preprocess_cfg)
        return Exported(self.id, image, text, build_tokenizer(self.plan), transform, hardware)

    @abstractmethod
    def tower(self, path: Path, hardware: Hardware) -> Tower:
        """Load a tower; ModelError if it cannot be, or takes something else than one input."""


class Exported(Model):
    """Two exported towers."""

    def __init__(
        self,
        id: str,  # noqa: A002
        image: Tower,
        text: Tower,
        tokenizer: Tokenizer,
        transform: Transform,
        hardware: Hardware,
    ) -> None:
        super().__init__(id, transform, hardware)
        self.image, self.text, self.tokenizer = image, text, tokenizer

    def encode_image_batch(self, pixels: Any) -> Tensor:
        return self.image(pixels)

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        return self.text(self.tokenizer(texts))

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have; of longer ones than the context the end token is in the last place."""
        return count_tokens(self.tokenizer, texts)


def in_batches(run: Tower, size: int | None, inputs: Tensor) -> Tensor:
    """Run a graph on inputs (k, …). size: the only batch size that it takes, None for any; the last one is padded."""
    if size is None:
        return run(inputs)
    parts = []
    for part in inputs.split(size):
        padded = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])]) if len(part) < size else part
        parts.append(run(padded)[: len(part)])
    return torch.cat(parts)


def checked(where: Path, run: Tower) -> Tower:
    """Return a graph whose errors and wrong outputs are a ModelError that names its file."""

    def checked_run(inputs: Tensor) -> Tensor:
        shape = tuple(inputs.shape)
        try:
            found = run(inputs)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY in str(error):
                raise  # the base class halves the batch
            wanted = "a graph exported for this config's image size, context length and vocabulary"
            got = f"cannot run on inputs {shape} ({first_line(error)[:200]})"
            raise ModelError(str(where), got, wanted=wanted) from None
        if found.ndim != 2 or len(found) != len(inputs) or not found.is_floating_point():
            got = f"output {tuple(found.shape)} of {found.dtype} for inputs {shape}"
            raise ModelError(str(where), got, wanted=f"features ({len(inputs)}, d) of floats")
        return found

    return checked_run


def features(where: Path, found: Sequence[Any]) -> int:
    """Return which output of a graph has two axes; ModelError if none has. found: the outputs' shapes."""
    chosen = next((i for i, shape in enumerate(found) if shape is not None and len(shape) == 2), None)
    if chosen is None:
        got = f"outputs of shape {', '.join(str(tuple(shape)) for shape in found) or 'none'}"
        raise ModelError(str(where), got, wanted="features (k, d)")
    return chosen


ONNX_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
}


@dataclass(frozen=True)
class OnnxSource(ExportedSource):
    """Towers for ONNX Runtime, which runs its own operators and no Python: on a GPU where it was built for one."""

    ending: ClassVar[str] = ".onnx"
    packages: ClassVar[tuple[str, ...]] = (*ExportedSource.packages, "onnxruntime")

    def tower(self, path: Path, hardware: Hardware) -> Tower:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        wanted = ["CUDAExecutionProvider"] if hardware.on_gpu else []
        providers = [one for one in (*wanted, "CPUExecutionProvider") if one in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # noqa: BLE001 — its errors have no common class
            raise ModelError(str(path), f"ONNX Runtime cannot load it ({first_line(error)[:200]})") from None
        return _of_session(path, session)


def _of_session(path: Path, session: Any) -> Tower:
    given, outputs = session.get_inputs(), session.get_outputs()
    if len(given) != 1 or given[0].type not in ONNX_TYPES:
        got = f"inputs {', '.join(f'{one.name}: {one.type}' for one in given) or 'none'}"
        raise ModelError(str(path), got, wanted=f"one, of {', '.join(ONNX_TYPES)}")
    name, kind = given[0].name, ONNX_TYPES[given[0].type]
    output = outputs[features(path, [one.shape for one in outputs])].name
    batch = given[0].shape[0] if isinstance(given[0].shape[0], int) else None

    def run(inputs: Tensor) -> Tensor:
        (found,) = session.run([output], {name: inputs.to(device="cpu", dtype=kind).numpy()})
        return torch.from_numpy(found)

    return partial(in_batches, checked(path, run), batch)


@dataclass(frozen=True)
class TorchExportSource(ExportedSource):
    """Towers of ``torch.export.save``. torch's loader unpickles parts of an archive: it can run code."""

    ending: ClassVar[str] = ".pt2"

    def tower(self, path: Path, hardware: Hardware) -> Tower:
        try:
            with _silent_export():
                program = torch.export.load(path)
        except Exception as error:  # noqa: BLE001 — a damaged archive may raise anything
            reason = first_line(error).partition(" Please check the warnings")[0]
            raise ModelError(str(path), f"torch.export cannot load it ({reason[:200]})") from None
        return _of_program(path, program, hardware)


@contextmanager
def _silent_export() -> Iterator[None]:
    """Silence what torch logs of an archive that it cannot load: a traceback, beside the error."""
    log = logging.getLogger("torch.export")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _of_program(path: Path, program: Any, hardware: Hardware) -> Tower:
    by_name = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    given = [by_name[name] for name in program.graph_signature.user_inputs if name in by_name]
    if len(given) != 1:
        raise ModelError(str(path), f"{len(given)} inputs", wanted="one")
    returned = next(node for node in program.graph.nodes if node.op == "output").args[0]
    chosen = features(path, [getattr(node.meta.get("val"), "shape", ()) for node in returned])
    batch = given[0].shape[0] if isinstance(given[0].shape[0], int) else None
    module, kind = program.module().to(hardware.device), given[0].dtype

    def run(inputs: Tensor) -> Tensor:
        found = module(inputs.to(device=hardware.device, dtype=kind))
        return torch.as_tensor(found if isinstance(found, Tensor) else found[chosen])

    return partial(in_batches, checked(path, run), batch)


def onnx_sources(spec: ModelSpec, *, download: bool = True) -> list[OnnxSource]:
    """Return the Source of ``onnx::FOLDER``; ModelError for what is missing in it."""
    where = f"--model {spec.text}"
    try:
        import onnxruntime  # noqa: F401 — only to see whether it is there
    except ImportError:
        raise ModelError(where, "onnxruntime is not installed", fix="pip install 'cocabench[onnx]'") from None
    return [OnnxSource(f"onnx::{spec.weights}", *_parts(spec, OnnxSource.ending))]


def torch_export_sources(spec: ModelSpec, *, download: bool = True) -> list[TorchExportSource]:
    """Return the Source of ``torch_export::FOLDER``; ModelError for what is missing, or was not typed by the user."""
    if not spec.typed:
        got = "a torch.export archive, named by a task file, a recipe or a plan"
        wanted = "one that stands on the command line, since torch's loader can run code from it"
        raise ModelError(f"--model {spec.text}", got, wanted=wanted)
    return [TorchExportSource(f"torch_export::{spec.weights}", *_parts(spec, TorchExportSource.ending))]


def _parts(spec: ModelSpec, ending: str) -> tuple[Path, Blueprint]:
    """Return the folder of exported towers, and the Blueprint of its config."""
    folder, where = expanded(spec.weights), f"--model {spec.text}"
    if not folder.is_dir():
        raise ModelError(where, "no such folder", wanted=f"a folder with {CONFIG}, image{ending} and text{ending}")
    if lacking := [name for name in (CONFIG, f"image{ending}", f"text{ending}") if not (folder / name).is_file()]:
        raise ModelError(where, f"no {' and no '.join(lacking)} in the folder", fix="see the guide on exported models")
    return folder, described(spec.text, folder)
