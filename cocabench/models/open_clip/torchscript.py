"""The tensors of a TorchScript archive (OpenAI's CLIP), read without running anything that is in it.

torch.jit.load runs the archive's code where a module has __setstate__, and torch's own documentation calls such files
programs. An archive is a zip: ``data.pkl`` pickles the modules, ``data/N`` are the bytes of their tensors. Here its
classes are unpickled as plain holders of attributes, and nothing but a list of harmless names is looked up.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

STORAGES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BFloat16Storage": torch.bfloat16,
        "BoolStorage": torch.bool,
        "ByteStorage": torch.uint8,
        "CharStorage": torch.int8,
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "IntStorage": torch.int32,
        "LongStorage": torch.int64,
        "ShortStorage": torch.int16,
    }
)


class _Module:
    """A module of the archive: its attributes, and no code."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.attributes = dict(state) if isinstance(state, Mapping) else {}


def is_archive(path: Path) -> bool:
    """Tell a TorchScript archive from other zip files, torch.save's among them."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith("/constants.pkl") for name in file.namelist())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an archive by their names in its modules (``visual.conv1.weight``).

    Raises pickle.UnpicklingError where it wants anything but modules and tensors, zipfile.BadZipFile, KeyError,
    ValueError or RuntimeError where it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = _Reader(io.BytesIO(archive.read(name)), archive, name.removesuffix("data.pkl")).load()
    return dict(_named(root, ""))


def _named(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for key, inner in value.attributes.items():
            yield from _named(inner, f"{name}.{key}" if name else key)


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive, self.folder = archive, folder
        self.storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (found := _NAMES.get((module, name))) is None:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")
        return found

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> torch.Tensor:
        """Return the flat tensor of a storage."""
        _, dtype, key, _, count = pid
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
            flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.storages[key] = flat[:count]
        return self.storages[key]


def _tensor(storage: torch.Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> torch.Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset).clone()


def _first(value: Any, *_: Any) -> Any:
    return value


_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch", "device"): _first,
        ("collections", "OrderedDict"): OrderedDict,
        **{
            ("torch.jit._pickle", name): _first
            for name in ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")
        },
    }
)
