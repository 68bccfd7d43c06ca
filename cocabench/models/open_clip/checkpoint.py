"""Read checkpoint files of all common formats, with the names of the network's parameters."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from open_clip import load_checkpoint
from open_clip.convert import convert_state_dict
from open_clip.model import QuickGELU, convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from safetensors import SafetensorError
from safetensors.torch import load_file

from cocabench.core.errors import HEAD, ModelError, first_line, stand_in
from cocabench.core.files import check_zip, open_regular
from cocabench.core.types import Note, unnoted
from cocabench.data.files import some
from cocabench.models.base import check_finite_weights
from cocabench.models.open_clip import torchscript
from cocabench.models.open_clip.weights import JOIN, files, quiet

State = dict[str, torch.Tensor]

UNREADABLE = (
    pickle.UnpicklingError, SafetensorError, EOFError, OSError, RuntimeError, ValueError, LookupError, AttributeError,
    AssertionError, NotImplementedError, TypeError, StopIteration, MemoryError, OverflowError, zipfile.BadZipFile,
    struct.error,
)  # fmt: skip
"""Errors of torch, safetensors and open_clip for files that are not checkpoints of the network."""

CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
"""Keys under which trainings store the weights: open_clip, Lightning, DeepSpeed and others."""

EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "ema_weights", "model_ema_state_dict")
"""Keys under which trainings store an exponential moving average of the weights: timm and others."""

GATHER = (
    "gather them before saving, with torch.distributed.checkpoint.state_dict.get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True, cpu_offload=True))"
)

_EMA_DEPTH = 4
"""How deep they lie: Lightning's callbacks store them below their own names."""

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts that torch.compile, FSDP and activation checkpointing add to names, at any depth."""

OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives contain besides the weights."""

_POSITIONS = {
    "visual.positional_embedding": "images",
    "positional_embedding": "texts",
    "text.positional_embedding": "texts",
}


def load(net: Any, path: Path, inside: str = "") -> list[Note]:
    """Load a checkpoint into a network, without running code from it, and return notes on it.

    inside: '' for the weights, 'ema' for their exponential moving average. Of big_vision's .npz, too.
    ModelError for unreadable files, for another architecture, and for pickles of more than tensors.
    """
    with _explained(path), quiet():
        notes = _load_npz(net, path) if path.suffix in (".npz", ".npy") and not inside else _load(net, path, inside)
    check_finite_weights(str(path), net)
    return notes


def _load_npz(net: Any, path: Path) -> list[Note]:
    """Let open_clip load weights in big_vision's format."""
    if not hasattr(net.visual, "trunk"):
        wanted = "an architecture whose image tower is timm's, as ViT-B-16-SigLIP"
        raise ModelError(str(path), "weights in big_vision's format", wanted=wanted)
    if path.suffix == ".npz":
        check_zip(path)
    load_checkpoint(net, str(path), strict=True, weights_only=True)
    return []


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise ModelError for the errors by which libraries refuse a file."""
    try:
        yield
    except UNREADABLE as error:
        text = str(error)
        if isinstance(error, pickle.UnpicklingError) and "unsupported" in text.lower():
            fix = "if you trust it, save it again with torch.save(model.state_dict(), FILE) or as safetensors"
            wanted = match[1] if (match := re.search(r"GLOBAL ([\w.]+)", text)) else "code"
            got = f"a pickle that would run {wanted}"
            raise ModelError(str(path), got, wanted="weights only", fix=fix) from None
        got = f"not readable as a checkpoint ({first_line(error)})"
        raise ModelError(str(path), got, fix="it may be truncated: copy it again") from None


def _load(net: Any, path: Path, inside: str) -> list[Note]:
    notes: list[Note] = []
    found = [_read(file) for file in files(path)]
    if inside and (kept := [averages for one in found if (averages := averaged(one))]):
        found, inside = [dict(one) for one in kept], ""
    state = _merged([_tensors(one, path, notes.append) for one in found])
    if set(OPENAI_EXTRAS) <= state.keys():
        state = {key: value for key, value in state.items() if key not in OPENAI_EXTRAS}
        if not any(isinstance(module, QuickGELU) for module in net.modules()):
            said = "OpenAI's archive, trained with quick-GELU, in a network without it: --quick-gelu builds one with it"
            notes.append(Note("model", said))
    state = convert_state_dict(net, _renamed(state, path, notes.append, ema=bool(inside)))
    state = _fitted(net, state, notes.append)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        got = f"a checkpoint of another architecture ({_mismatch(net, state) or first_line(error)})"
        raise ModelError(str(path), got, fix="name the right one") from None
    return notes


def _read(path: Path) -> Any:
    """Return what is in a file, whose format its first bytes tell."""
    with open_regular(path) as file:
        head = file.read(HEAD)
    if head.startswith(b"PK"):
        check_zip(path)
    if other := stand_in(head):
        raise ModelError(str(path), other.got, fix=other.fix)
    if path.suffix == ".distcp" or path.name == ".metadata":
        got, fix = "a part of a distributed checkpoint", f"join it: {JOIN} {path.parent} FILE.pt"
        raise ModelError(str(path), got, fix=fix)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return load_file(path)
    if head.startswith(b"PK") and torchscript.is_archive(path):
        return {key: value for key, value in torchscript.tensors(path).items() if not key.endswith("attn_mask")}
    with path.open("rb") as file:  # by its path, torch reads .safetensors as its name says
        return torch.load(file, map_location="cpu", weights_only=True)


def _tensors(found: Any, path: Path, note: Callable[[Note], None]) -> State:
    """Return the weights in an unpickled value, at any depth."""
    if not isinstance(found, Mapping):
        fix = "save it again as torch.save(model.state_dict(), FILE) or as safetensors"
        raise ModelError(str(path), f"a {type(found).__name__}, not weights by name", wanted="a state dict", fix=fix)
    if name := next((name for name in CONTAINERS if isinstance(found.get(name), Mapping)), ""):
        others = [key for key, value in found.items() if key != name and _is_state(value)]
        if others:
            said = f"{path.name} also holds weights under {some(map(repr, others))}; those under {name!r} were taken"
            said += "; #ema behind the file takes the others" if set(others) & set(EMA) else ""
            note(Note("left_out_weights", said))
        return _tensors(found[name], path, note)
    state = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if any(type(value).__name__ in ("DTensor", "ShardedTensor") for value in found.values()):
        raise ModelError(str(path), "one process's part of weights sharded by FSDP", fix=GATHER)
    if any(not value.numel() for key, value in state.items() if key.endswith(".weight")):
        got = "weights without contents, as DeepSpeed's ZeRO-3 leaves them in model_states.pt"
        raise ModelError(str(path), got, fix="join its shards with zero_to_fp32.py, which lies beside them")
    if not state:
        got = f"no weights in it, only {some(map(repr, found))}" if found else "no weights in it"
        raise ModelError(str(path), got, wanted=f"a state dict, alone or under {' or '.join(CONTAINERS[:2])}")
    return state


def averaged(found: Any, depth: int = _EMA_DEPTH) -> Mapping[str, Any] | None:
    """Return the moving average in an unpickled checkpoint, None if there is none under a key of its own."""
    if not isinstance(found, Mapping) or not depth:
        return None
    for key in EMA:
        if _holds_weights(found.get(key)):
            return found[key]  # type: ignore[no-any-return]
    below = (averaged(value, depth - 1) for value in found.values())
    return next((one for one in below if one is not None), None)


def _holds_weights(value: Any) -> bool:
    return _is_state(value) or (isinstance(value, Mapping) and any(_is_state(one) for one in value.values()))


class Held(NamedTuple):
    """Weights in a checkpoint file: what to write behind the file to load them, and their tensors and numbers."""

    mark: str
    tensors: int
    numbers: int


def held(path: Path) -> list[Held]:
    """Return the weights in a checkpoint file: its own, and their moving average if it has one. Loads the file."""
    with _explained(path):
        found = [_read(file) for file in files(path)]
        own, ema = (
            _merged([_tensors(one, path, unnoted) for one in found]),
            [one for one in map(averaged, found) if one],
        )
        states = {"": own, **({"#ema": _merged([_tensors(dict(one), path, unnoted) for one in ema])} if ema else {})}
    if not ema and (beside := {key: value for key, value in own.items() if _EMA_PREFIX.search(_prefix(key))}):
        states = {"": {key: value for key, value in own.items() if key not in beside}, "#ema": beside}
    return [Held(mark, len(state), sum(value.numel() for value in state.values())) for mark, state in states.items()]


_EMA_PREFIX = re.compile(r"(^|[._])ema([._]|$)")


def _prefix(key: str) -> str:
    return key.partition(".")[0]


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(one, torch.Tensor) for one in value.values())


def _merged(shards: list[State]) -> State:
    return {key: value for shard in shards for key, value in shard.items()}


def _renamed(state: State, path: Path, note: Callable[[Note], None], *, ema: bool = False) -> State:
    """Return the weights without the prefixes and parts that wrappers and trainers add to names.

    The prefix of ``logit_scale``, which every CLIP has, is that of all names. ModelError if there are several: then the
    file holds several models.
    """
    for wrapper in WRAPPERS:
        state = {key.replace(wrapper, ""): value for key, value in state.items()}
    prefixes = sorted({key.removesuffix("logit_scale") for key in state if f".{key}".endswith(".logit_scale")}, key=len)
    averages = [prefix for prefix in prefixes if _EMA_PREFIX.search(prefix)]
    if ema and not averages:
        wanted = f"a checkpoint with weights under {some(map(repr, EMA[:3]))}"
        raise ModelError(f"{path}#ema", "no moving average (EMA) in it", wanted=wanted)
    prefixes = averages if ema else [prefix for prefix in prefixes if prefix not in averages] or prefixes
    if not prefixes or prefixes[0] == "":
        return state if not averages else {k: v for k, v in state.items() if not k.startswith(tuple(averages))}
    if len(prefixes) > 1:
        got = f"weights of several models, under {some(map(repr, prefixes))}"
        raise ModelError(str(path), got, wanted="one", fix="save the one that is meant, as a state dict")
    prefix = prefixes[0]
    if others := [key for key in state if not key.startswith(prefix)]:
        note(Note("left_out_weights", f"{len(others)} weights beside {prefix[:-1]!r} were left out: {some(others)}"))
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _fitted(net: Any, state: State, note: Callable[[Note], None]) -> State:
    """Return the weights in the network's form: names of the text tower, scalars, numbers of positions."""
    whole = hasattr(net, "positional_embedding")
    if "positional_embedding" in state and not whole:
        state = convert_to_custom_text_state_dict(state)
    elif whole and "text.positional_embedding" in state:
        state = {key.removeprefix("text."): value for key, value in state.items()}
    for key in ("logit_scale", "logit_bias"):
        own = getattr(net, key, None)
        if key in state and own is not None:
            state[key] = state[key].reshape(own.shape)
    bias = getattr(net, "logit_bias", None)
    if "logit_bias" in state and bias is None:
        state.pop("logit_bias")
        note(Note("left_out_weights", "the checkpoint's logit_bias was left out: it does not affect rankings"))
    elif "logit_bias" not in state and bias is not None:
        state["logit_bias"] = torch.zeros_like(bias)
    if (position_ids := "text.transformer.embeddings.position_ids") not in net.state_dict():
        state.pop(position_ids, None)  # transformers from 4.31 on does not keep them
    for said in _resized(net, state):
        note(Note("resized_positions", said))
    return state


def _resized(net: Any, state: State) -> Iterator[str]:
    """Interpolate positional embeddings to the network's numbers of positions, as open_clip does, and add notes."""
    before = {key: len(state[key]) for key in _POSITIONS if key in state}
    try:
        resize_pos_embed(state, net)
        resize_text_pos_embed(state, net)
    except (AssertionError, AttributeError, RuntimeError):
        return  # another architecture: reported with the differences
    for key, n in before.items():
        if n != len(state[key]):
            yield (
                f"the positional embedding of {_POSITIONS[key]} was interpolated from {n} positions to "
                f"{len(state[key])}: the weights were trained with another image size or context length"
            )


def _mismatch(net: torch.nn.Module, state: State) -> str:
    """Return the first differing keys of a checkpoint and the model; '' if there are none."""
    own = net.state_dict()
    parts = []
    for kind, keys in (("missing", own.keys() - state.keys()), ("unexpected", state.keys() - own.keys())):
        if first := sorted(keys)[:2]:
            parts.append(f"{kind} {', '.join(first)}" + (f" and {len(keys) - 2} more" if len(keys) > 2 else ""))
    shapes = ((key, list(state[key].shape), list(own[key].shape)) for key in own if key in state)
    if other := next((one for one in shapes if one[1] != one[2]), None):
        parts.append(f"{other[0]} is {other[1]}, the model's {other[2]}")
    return "; ".join(parts)
