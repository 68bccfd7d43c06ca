"""The decoder's options as flags: of ``run``, where they override the task file's, and of ``caption``."""

from __future__ import annotations

from typing import Annotated, Any

from cocabench.cli.options import CAPTIONS, Decoding, option

DEFAULT_BEAMS, DEFAULT_GROUPS = 6, 3
"""open_clip's: six beams in three groups."""


def _beams(default: str) -> Any:
    return option(
        "--beams", metavar="N", min=1, panel=CAPTIONS, help="Beams in all; 1 is greedy.", show_default=default
    )


def _groups(default: str) -> Any:
    told = "Groups that the beams are split into."
    return option("--beam-groups", metavar="N", min=1, panel=CAPTIONS, help=told, show_default=default)


def _decoding(default: str) -> Any:
    told = "How beams are scored: legacy gives open_clip's captions, logprob sums log-probabilities."
    return option("--decoding", metavar="KIND", panel=CAPTIONS, help=told, show_default=default)


_LONGEST, _SHORTEST = "Longest caption in tokens, start and end included.", "No end before this length."
_TASKS = "the task's"

TaskBeams = Annotated[int | None, _beams(_TASKS)]
TaskBeamGroups = Annotated[int | None, _groups(_TASKS)]
TaskMaxLength = Annotated[
    int | None, option("--max-length", metavar="N", min=2, panel=CAPTIONS, help=_LONGEST, show_default=_TASKS)
]
TaskMinLength = Annotated[
    int | None, option("--min-length", metavar="N", min=0, panel=CAPTIONS, help=_SHORTEST, show_default=_TASKS)
]
TaskDecoding = Annotated[Decoding | None, _decoding(_TASKS)]

Beams = Annotated[int | None, _beams(str(DEFAULT_BEAMS))]
BeamGroups = Annotated[int | None, _groups(f"{DEFAULT_GROUPS} for {DEFAULT_BEAMS} beams, else 1")]
MaxLength = Annotated[int, option("--max-length", metavar="N", min=2, panel=CAPTIONS, help=_LONGEST)]
MinLength = Annotated[int, option("--min-length", metavar="N", min=0, panel=CAPTIONS, help=_SHORTEST)]
DecodingOption = Annotated[Decoding | None, _decoding("legacy")]


def options(
    *,
    beams: int | None,
    beam_groups: int | None,
    max_length: int | None,
    min_length: int | None,
    decoding: Decoding | None,
    **more: Any,
) -> dict[str, Any]:
    """Return what is set, under the decoder's own names."""
    groups = DEFAULT_GROUPS if beams == DEFAULT_BEAMS else 1 if beams else None
    given = {
        "num_beams": beams,
        "num_beam_groups": beam_groups or groups,
        "seq_len": max_length,
        "min_seq_len": min_length,
        "decoding": decoding.value if decoding else None,
        **more,
    }
    return {name: value for name, value in given.items() if value is not None}
