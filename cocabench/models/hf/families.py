"""The families of transformers' models that cocabench can evaluate, and the versions that it does so with. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from packaging.version import Version

from cocabench.core.errors import ModelError
from cocabench.core.types import Ability

OLDEST, NEXT = "4.49", "6"
"""The oldest version of transformers that the tests run with, and the first one that they cannot know."""

SUPPORTED = f"{OLDEST} or later, below {NEXT}"

FIRST_WITH_NAFLEX = "4.50"

CONTRASTIVE: frozenset[Ability] = frozenset({"encode"})
GENERATIVE: frozenset[Ability] = frozenset({"caption", "score_captions"})

Cleaning = Literal["", "lower", "canonical"]
"""What is done to a text before it is tokenized: nothing; lower case; lower case without punctuation."""


@dataclass(frozen=True)
class Family:
    """How checkpoints of one ``model_type`` are used.

    network: the class in transformers. pad_to_longest: pad texts to the longest of their batch, since the towers mask
    the padding or end before it; else every text is padded to text_length and nothing is masked, as in training.
    text_length: the longest text of the original code, 0: the tower's positions. reserved_positions: positions that no
    token can have (RoBERTa's begin behind the pad id). patches: images are sequences of patches with masks (NaFlex).
    """

    network: str
    abilities: frozenset[Ability] = CONTRASTIVE
    pad_to_longest: bool = True
    positions: int = 512
    text_length: int = 512
    reserved_positions: int = 0
    patches: bool = False


@dataclass(frozen=True)
class Usage:
    """How a checkpoint is used. length: tokens per text or caption at most. cleaning: of texts before tokenization."""

    family: Family
    length: int
    cleaning: Cleaning


FAMILIES: Mapping[str, Family] = {
    "clip": Family("CLIPModel", positions=77),
    "siglip": Family("SiglipModel", pad_to_longest=False, positions=64),
    "siglip2": Family("Siglip2Model", pad_to_longest=False, positions=64, patches=True),
    "align": Family("AlignModel", text_length=64),  # AlignProcessor's
    "altclip": Family("AltCLIPModel", positions=514, text_length=77, reserved_positions=2),  # FlagAI's
    "chinese_clip": Family("ChineseCLIPModel", text_length=52),  # cn_clip.clip.tokenize's
    "blip": Family("BlipForConditionalGeneration", abilities=GENERATIVE),
    "git": Family("GitForCausalLM", abilities=GENERATIVE, positions=1024, text_length=1024),
}


def installed() -> str:
    """Return the version of transformers, '' if it is not installed."""
    return metadata.version("transformers") if util.find_spec("transformers") else ""


def unsupported(version: str) -> str:
    """Return why this version of transformers cannot load models, '' if it can."""
    if not version:
        return "transformers is not installed; run `pip install 'cocabench[hf]'`"
    if not Version(OLDEST) <= Version(version) < Version(NEXT):
        return f"transformers {version}; wanted {SUPPORTED}"
    return ""


def check_version(where: str, family: Family) -> None:
    """Raise ModelError if the installed transformers cannot load a family."""
    version = installed()
    if said := unsupported(version):
        raise ModelError(where, said)
    if family.patches and Version(version) < Version(FIRST_WITH_NAFLEX):
        got = f"a NaFlex checkpoint, and transformers {version} has no {family.network}"
        fix = "upgrade it, or use a checkpoint of one resolution"
        raise ModelError(where, got, wanted=f"{FIRST_WITH_NAFLEX} or later", fix=fix)
