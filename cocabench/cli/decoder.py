"""The decoder's options as flags: of ``run``, where they override the task file's, and of ``caption``.

Flags have the options' own names; the names of version 0.1 stay as aliases.
"""

from __future__ import annotations

from typing import Annotated, Any

from cocabench.cli.options import CAPTIONS, Decoding, option
from cocabench.specs.decoding import DEFAULTS, groups_for

TASKS = "the task's"
OLD_NAMES = {
    "beams": "num-beams",
    "beam-groups": "num-beam-groups",
    "max-length": "seq-len",
    "min-length": "min-seq-len",
}


def current_name(token: str) -> str:
    """Return the name of today of a flag, without its dashes. The old ones are understood, and not on help pages."""
    return OLD_NAMES.get(token, token)


def _flag(name: str, *, metavar: str = "N", told: str, default: str = TASKS, **more: Any) -> Any:
    flag = f"--{name.replace('_', '-')}"
    return option(flag, metavar=metavar, panel=CAPTIONS, help=told, show_default=default, **more)


def _beams(default: str) -> Any:
    return _flag("num_beams", min=1, told="Beams in all; 1 is greedy.", default=default)


def _groups(default: str) -> Any:
    told = "Groups that the beams are split into."
    return _flag("num_beam_groups", min=1, told=told, default=default)


def _longest(default: str) -> Any:
    told = "Longest caption in tokens, start and end included."
    return _flag("seq_len", min=2, told=told, default=default)


def _shortest(default: str) -> Any:
    return _flag("min_seq_len", min=0, told="No end before this length.", default=default)


def _decoding(default: str) -> Any:
    told = "How beams are scored: legacy gives open_clip's captions, logprob sums log-probabilities."
    return _flag("decoding", metavar="KIND", told=told, default=default)


TaskNumBeams = Annotated[int | None, _beams(TASKS)]
TaskNumBeamGroups = Annotated[int | None, _groups(TASKS)]
TaskSeqLen = Annotated[int | None, _longest(TASKS)]
TaskMinSeqLen = Annotated[int | None, _shortest(TASKS)]
TaskDecoding = Annotated[Decoding | None, _decoding(TASKS)]

_SOME_GROUPS = f"{DEFAULTS.num_beam_groups} for {DEFAULTS.num_beams} beams, else 1"

NumBeams = Annotated[int | None, _beams(str(DEFAULTS.num_beams))]
NumBeamGroups = Annotated[int | None, _groups(_SOME_GROUPS)]
SeqLen = Annotated[int | None, _longest(str(DEFAULTS.seq_len))]
MinSeqLen = Annotated[int | None, _shortest(str(DEFAULTS.min_seq_len))]
DecodingOption = Annotated[Decoding | None, _decoding(DEFAULTS.decoding)]


def options(
    *,
    num_beams: int | None,
    num_beam_groups: int | None,
    seq_len: int | None,
    min_seq_len: int | None,
    decoding: Decoding | None,
    **more: Any,
) -> dict[str, Any]:
    """Return what is set, under the decoder's own names."""
    given = {
        "num_beams": num_beams,
        "num_beam_groups": num_beam_groups or groups_for(num_beams),
        "seq_len": seq_len,
        "min_seq_len": min_seq_len,
        "decoding": decoding.value if decoding else None,
        **more,
    }
    return {name: value for name, value in given.items() if value is not None}
