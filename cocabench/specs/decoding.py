"""Decoding options of captioning: names, meanings and the only definition of their defaults. No torch.

Task files ([params]), the flags of ``run`` and ``caption``, signatures and `generate` all use these names.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from cocabench.specs.spec import Spec

GenerationType = Literal["beam_search", "greedy", "top_k", "top_p"]
Decoding = Literal["legacy", "logprob"]
Positive = Annotated[int, Field(ge=1, strict=True)]

MAX_BEAMS: Final = 10_000
MIN_TEMPERATURE: Final = 1e-6
MAX_TEMPERATURE: Final = 1e6
MAX_PENALTY: Final = 100.0
"""Beyond these, logits overflow or no machine has the memory."""

MAX_SEQ_LEN: Final = 77
"""In sampling, the model sees at most this many last tokens: the context of CLIP's text tower."""


ANSWER_TOKENS: Final = "answer_tokens"
"""An option beside these, of answers: a caption is then what follows its prompt, of at most so many tokens, the end
token included; seq_len limits prompt and answer together."""


class DecodingOptions(Spec):
    """All options that can change a caption; names and defaults are those of open_clip's `CoCa.generate`.

    decoding: how beams are scored. `legacy` is open_clip_torch 3.3.0 with transformers 4.49: sums of raw logits.
        `logprob` is textbook beam search: sums of log-probabilities, optionally diverse. Sampling ignores it.
    generation_type: beam_search; greedy (argmax); top_k and top_p (seeded sampling).
    num_beams, num_beam_groups: total number of beams (1 is greedy), and number of groups.
    seq_len: longest caption in tokens, including start and end token. min_seq_len: no end token before this length.
    top_k, top_p, temperature, seed: sampling only. repetition_penalty: > 1 makes repeated tokens less likely.
    diversity_penalty: `logprob` only; what a token loses for each earlier group that chose it at the same step
        (Vijayakumar et al. 2018, Hamming diversity). length_penalty: `logprob` only; scores are divided by
        length ** length_penalty.
    """

    decoding: Decoding = "legacy"
    generation_type: GenerationType = "beam_search"
    num_beams: Annotated[int, Field(ge=1, le=MAX_BEAMS, strict=True)] = 6
    num_beam_groups: Positive = 3
    seq_len: Positive = 30
    min_seq_len: Annotated[int, Field(ge=0)] = 5
    top_k: Positive = 1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.1
    temperature: Annotated[float, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)] = 1.0
    repetition_penalty: Annotated[float, Field(gt=0, le=MAX_PENALTY)] = 1.0
    diversity_penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    length_penalty: Annotated[float, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0


DEFAULTS: Final = DecodingOptions()
OPTIONS: Final = tuple(DecodingOptions.model_fields)
"""Names of the options, in the order of signatures."""

MEANINGS: Final = {
    "decoding": "beam scores: legacy (open_clip's raw logits) or logprob (log-probabilities)",
    "generation_type": "how captions are generated",
    "num_beams": "beams",
    "num_beam_groups": "groups of beams",
    "seq_len": "longest caption, in tokens",
    "min_seq_len": "shortest caption, in tokens",
}
"""Descriptions of options, for `cocabench show`."""

_BEAMS = ("decoding", "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty")
UNREAD: Final = {
    "beam_search": ("top_k", "top_p", "temperature", "seed"),
    "greedy": (*_BEAMS, "top_k", "top_p", "temperature", "seed"),
    "top_k": (*_BEAMS, "top_p"),
    "top_p": (*_BEAMS, "top_k"),
}
"""Options that a generation type ignores; they are not in signatures."""


def groups_for(num_beams: int | None) -> int | None:
    """Return the default number of groups for num_beams: the default's for the default beams, else one."""
    if num_beams is None:
        return None
    return DEFAULTS.num_beam_groups if num_beams == DEFAULTS.num_beams else 1
