"""Decoding options and special tokens."""

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, get_args

import torch

from cocabench.specs.decoding import (
    DEFAULTS,
    MAX_BEAMS,
    MAX_PENALTY,
    MAX_SEQ_LEN,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Decoding,
    GenerationType,
)


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """The options of `specs.decoding`, checked for consistency.

    num_beams: 2 or more. max_seq_len: in sampling, the model sees at most this many last tokens.
    """

    generation_type: GenerationType = DEFAULTS.generation_type
    decoding: Decoding = DEFAULTS.decoding
    num_beams: int = DEFAULTS.num_beams
    num_beam_groups: int = DEFAULTS.num_beam_groups
    seq_len: int = DEFAULTS.seq_len
    min_seq_len: int = DEFAULTS.min_seq_len
    max_seq_len: int = MAX_SEQ_LEN
    top_k: int = DEFAULTS.top_k
    top_p: float = DEFAULTS.top_p
    temperature: float = DEFAULTS.temperature
    repetition_penalty: float = DEFAULTS.repetition_penalty
    diversity_penalty: float = DEFAULTS.diversity_penalty
    length_penalty: float = DEFAULTS.length_penalty
    seed: int = DEFAULTS.seed

    def __post_init__(self) -> None:
        _check_member("generation_type", self.generation_type, get_args(GenerationType))
        _check_member("decoding", self.decoding, get_args(Decoding))
        _check(self.min_seq_len >= 0, "min_seq_len", self.min_seq_len, "0 or more")
        _check(self.seq_len >= 2, "seq_len", self.seq_len, "2 or more: a start token and one generated token")
        _check(self.seq_len > self.min_seq_len, "seq_len", self.seq_len, f"more than min_seq_len ({self.min_seq_len})")
        _check(self.max_seq_len >= 1, "max_seq_len", self.max_seq_len, "1 or more")
        penalty = self.repetition_penalty
        _check(0 < penalty <= MAX_PENALTY, "repetition_penalty", penalty, f"more than 0, and {MAX_PENALTY:g} at most")
        if self.generation_type == "beam_search":
            self._check_beams()
        else:
            self._check_sampling()

    def _check_beams(self) -> None:
        beams, groups = self.num_beams, self.num_beam_groups
        _check(beams >= 2, "num_beams", beams, "2 or more; for a single path use generation_type='greedy'")
        _check(beams <= MAX_BEAMS, "num_beams", beams, f"{MAX_BEAMS} at most")
        _check(1 <= groups <= beams and beams % groups == 0, "num_beam_groups", groups, f"a divisor of {beams} beams")
        _check(0 <= self.diversity_penalty < inf, "diversity_penalty", self.diversity_penalty, "0 or more")
        penalty = self.length_penalty
        _check(abs(penalty) <= MAX_PENALTY, "length_penalty", penalty, f"-{MAX_PENALTY:g} to {MAX_PENALTY:g}")
        if self.decoding == "legacy":
            _check(self.diversity_penalty == 0, "diversity_penalty", self.diversity_penalty, "0 in legacy decoding")
            _check(self.length_penalty == 1, "length_penalty", self.length_penalty, "1 in legacy decoding")
        if self.diversity_penalty > 0:
            _check(groups > 1, "num_beam_groups", groups, "2 or more: a diversity penalty acts between groups")

    def _check_sampling(self) -> None:
        _check(self.diversity_penalty == 0, "diversity_penalty", self.diversity_penalty, "0 without beam search")
        _check(self.length_penalty == 1, "length_penalty", self.length_penalty, "1 without beam search")
        _check(self.top_k >= 1, "top_k", self.top_k, "1 or more")
        _check(0 <= self.top_p <= 1, "top_p", self.top_p, "between 0 and 1")
        wanted = f"{MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}; for argmax use 'greedy'"
        _check(MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE, "temperature", self.temperature, wanted)
        _check(-(2**63) <= self.seed < 2**63, "seed", self.seed, "a number of 64 bits")

    @property
    def searched_groups(self) -> int:
        """The number of groups to compute: one without a diversity penalty, since all groups are equal then."""
        return self.num_beam_groups if self.diversity_penalty > 0 else 1

    @property
    def group_size(self) -> int:
        """Beams per group."""
        return self.num_beams // self.num_beam_groups


class SpecialTokens(NamedTuple):
    """Ids of the start, end and pad tokens of a model's tokenizer."""

    start: int
    end: int
    pad: int


def special_tokens(model: Any, sot: Any = None, eos: Any = None, pad: Any = None) -> SpecialTokens:
    """Return the tokens, with open_clip's defaults (49406, 49407, `model.pad_id`) for None; ids may be tensors."""
    start = 49406 if sot is None else int(sot)
    end = 49407 if eos is None else int(eos)
    return SpecialTokens(start, end, int(model.pad_id) if pad is None else int(pad))


def check_images(images: torch.Tensor) -> None:
    """Raise ValueError unless `images` is a batch (b >= 1, channels, height, width)."""
    if images.ndim != 4 or len(images) < 1:
        raise ValueError(f"images: got shape {tuple(images.shape)}, wanted (b >= 1, channels, height, width)")


def check_text(text: torch.Tensor, images: int) -> None:
    """Raise ValueError unless `text` is (images, length) token ids with at least one token."""
    if text.ndim != 2 or text.shape[0] != images or text.shape[1] < 1 or text.is_floating_point():
        got = f"{text.dtype} of shape {tuple(text.shape)}"
        raise ValueError(f"text: got {got}, wanted integer token ids of shape ({images}, length >= 1)")


def _check(ok: bool, name: str, got: object, wanted: str) -> None:
    if not ok:
        raise ValueError(f"{name}: got {got}, wanted {wanted}")


def _check_member(name: str, got: str, known: tuple[str, ...]) -> None:
    _check(got in known, name, repr(got), "one of " + ", ".join(known))
