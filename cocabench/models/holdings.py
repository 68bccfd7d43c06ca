"""What an object in memory holds: its networks, arrays and settings, wherever they are.

An object of a user's own may keep its network in a list, a dict, another object, a slot, a closure, behind a bound
method, or in a global variable of its script. All of it decides the object's features: networks must be in evaluation
mode, and what identifies the object must change with every part.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import json
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import JsonValue

from cocabench.models.identity import code, plain, without_addresses

MAX_PARTS = 200_000
"""How many parts are followed: not a training set that hangs on a trainer."""

MAX_ENTRIES = 10_000
"""Longer lists and dicts (a vocabulary) are identified as a whole."""

_OWN_OF_MODULES = frozenset(vars(torch.nn.Module()))
"""What every network has: its parameters, submodules and hooks, which its own hashes cover, and its mode."""

_LIBRARIES = frozenset(
    {"PIL", "cocabench", "numpy", "open_clip", "torch", "torchvision", "transformers", *sys.stdlib_module_names}
) - {"__main__"}
"""Packages whose classes and functions are not what a user wrote, and are not followed."""

_UNPICKLABLE = (
    pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError, LookupError, OSError,
)  # fmt: skip
"""What objects raise that cannot be pickled."""

_NO_STATE = frozenset({"threading", "_thread", "logging", "_io", "io", "weakref", "_weakref", "concurrent"})
"""Packages of locks, loggers and files, which change no feature."""


@dataclass
class Holdings:
    """Parts by their places. networks: by place, none inside another. unknown: places of what cannot be identified."""

    networks: dict[str, torch.nn.Module] = field(default_factory=dict)
    arrays: dict[str, JsonValue] = field(default_factory=dict)
    settings: dict[str, JsonValue] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def holdings(given: Any) -> Holdings:
    """Return all that an object holds."""
    found = Holdings()
    seen: dict[int, Any] = {}
    inside: set[int] = set()
    waiting = [("", given)]
    while waiting:  # by breadth, so that a part stands at its shortest place
        level, waiting = waiting, []
        for place, value in level:
            if not isinstance(value, str | int | float | None):
                if id(value) in seen:
                    continue
                seen[id(value)] = value
            if len(seen) + len(waiting) > MAX_PARTS:
                found.unknown.append(place)
                continue
            if isinstance(value, torch.nn.Module):
                if id(value) not in inside:
                    found.networks[place] = value
                    inside |= {id(module) for module in value.modules()}
            elif isinstance(value, torch.Tensor | np.ndarray) and place:
                found.arrays[place] = plain(value)
                continue
            waiting += [(f"{place}.{name}" if place else name, part) for name, part in _parts(value, found, place)]
    networks = found.networks
    nested = {id(m) for net in networks.values() for m in net.modules() if m is not net}
    found.networks = {place: net for place, net in networks.items() if id(net) not in nested}
    return found


def _parts(value: Any, found: Holdings, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value by name; note its setting if it is one, or that it is unknown."""
    if value is None or isinstance(value, bool | int | float | str | bytes | complex):
        found.settings[place] = plain(value) if not isinstance(value, bytes | complex) else repr(value)
    elif isinstance(value, type):
        found.settings[place] = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, ModuleType | BuiltinFunctionType | CodeType):
        found.settings[place] = str(getattr(value, "__name__", ""))
    elif isinstance(value, Image.Image):
        found.settings[place] = hashlib.sha256(value.tobytes()).hexdigest()
    elif isinstance(value, Mapping | list | tuple) and len(value) > MAX_ENTRIES:
        _note_pickled(value, found, place)
    elif isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(k), part) for k, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        found.settings[place] = ", ".join(sorted(map(repr, value)))
    elif isinstance(value, FunctionType):
        found.settings[place] = code(value)
        yield from _used(value)
    elif isinstance(value, MethodType):
        found.settings[place] = value.__func__.__qualname__
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, torch.nn.Module):
        for name, module in value.named_modules():
            own = {key: part for key, part in vars(module).items() if key not in _OWN_OF_MODULES}
            yield from ((f"{name}.{key}".lstrip("."), part) for key, part in own.items())
        yield from _written(type(value))
    else:
        yield from _attributes(value, found, place)


def _attributes(value: Any, found: Holdings, place: str) -> Iterator[tuple[str, Any]]:
    """Yield an object's attributes and what its class uses; of one without any, its pickle is its setting."""
    package = type(value).__module__.partition(".")[0]
    if package in _NO_STATE:
        return
    found.settings[place] = f"{type(value).__module__}.{type(value).__qualname__}"
    if package in ("types", "typing"):  # annotations
        found.settings[place] = without_addresses(value)
        return
    slots = [name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)]
    if not hasattr(value, "__dict__") and not slots:
        _note_pickled(value, found, place)
        return
    yield from ((name, getattr(value, name)) for name in slots)
    yield from ((name, part) for name, part in getattr(value, "__dict__", {}).items() if place or name != "notes")
    yield from _written(type(value))


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    found = (names,) if isinstance(names, str) else tuple(names)
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def _note_pickled(value: Any, found: Holdings, place: str) -> None:
    """Note a hash of what pickle keeps of a value; if it keeps nothing, that the value is unknown."""
    try:
        content = pickle.dumps(value)
    except _UNPICKLABLE:
        found.unknown.append(place)
        return
    if type(value).__module__.partition(".")[0] == "tokenizers":  # without the padding that its last call set
        rules = json.loads(value.to_str())
        content = json.dumps(
            {key: rule for key, rule in rules.items() if key not in ("padding", "truncation")}
        ).encode()
    found.settings[place] = hashlib.sha256(content).hexdigest()


def _written(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the functions of a class and of those that it inherits from, but for those of libraries."""
    for one in kind.__mro__:
        if one.__module__.partition(".")[0] not in _LIBRARIES:
            yield from ((name, value) for name, value in vars(one).items() if isinstance(value, FunctionType))


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function uses besides its arguments: its closure, and the global variables that it names."""
    if function.__module__.partition(".")[0] in _LIBRARIES:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        own = isinstance(value, FunctionType) and value.__module__ == function.__module__
        if own or not isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType | None):
            yield name, value


def _names(body: CodeType) -> Iterator[str]:
    """Yield the global variables that code reads; its co_names would also be those of attributes."""
    yield from (one.argval for one in dis.get_instructions(body) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for one in body.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)
