"""The two architectures (one image tower, and a text side each), their vocabulary, and their folders."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode
from safetensors.torch import load_file, save_file
from torch import nn

MERGES = 1500
"""Merges learnt; the vocabulary is 512 bytes with and without word end, these, and 2 special tokens."""

IMAGE_SIZE = 40
PATCH_SIZE = 10
CONTEXT_LENGTH = 12
VOCABULARY = 512 + MERGES + 2
WIDTH = 96
"""Width of the towers, the decoder and the embedding; CoCa ties the last three together."""

MERGES_FILE = "bpe_merges.txt.gz"
PREPROCESS = {"size": IMAGE_SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
"""Settings of open_clip's image transform; pixels are then in -1 to 1."""

PATCH_DROPOUT = 0.0
"""Fraction of patches left out of each training image (Li et al. 2023, FLIP): half the work, harder to overfit."""


def model_config(name: str) -> dict[str, Any]:
    """Return `model_cfg` of open_clip_config.json for one of the demo's MODELS; both CoCa are built alike."""
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "width": WIDTH,
        "layers": 4,
        "head_width": WIDTH // 2,
        "attentional_pool": True,
        "attn_pooler_queries": 16,
        "attn_pooler_heads": 2,
    }
    transformer = {"context_length": CONTEXT_LENGTH, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 2, "layers": 1}
    text = {**transformer, "tokenizer_kwargs": {"bpe_path": MERGES_FILE}}
    if name == "clip":
        return {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {**vision, "output_tokens": True},
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**transformer, "attn_pooler_heads": 2},
        "custom_text": True,
    }


def new_model(name: str) -> nn.Module:
    """Return an untrained model with every parameter initialised from torch's global seed.

    open_clip leaves CoCa's text_decoder.text_projection as it found the memory; it gets the scale that open_clip's own
    (unused) `init_parameters` names, width ** -0.5.
    """
    config = {key: value for key, value in model_config(name).items() if key != "custom_text"}
    config["vision_cfg"] = {**config["vision_cfg"], "patch_dropout": PATCH_DROPOUT}
    if name == "clip":
        model: nn.Module = CLIP(**config, output_dict=True)
    else:
        model = CoCa(**config)
        nn.init.normal_(model.get_parameter("text_decoder.text_projection"), std=WIDTH**-0.5)
    return model


CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
"""The first names that open_clip looks for in a model folder."""


def save(folder: Path, name: str, model: nn.Module) -> None:
    """Write config and float16 weights; the merges file is already there."""
    config = {"model_cfg": model_config(name), "preprocess_cfg": PREPROCESS}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load(folder: Path, name: str) -> nn.Module:
    """Read a model back, as stored, in float32: what a user gets."""
    model = new_model(name)
    model.load_state_dict({key: value.to(torch.float32) for key, value in load_file(folder / WEIGHTS_FILE).items()})
    return model.eval()


_WORD = re.compile(r"'s|[^\W\d_]+|\d|[^\s\w]+")
Pair = tuple[str, str]


def learn_merges(texts: Iterable[str], count: int = MERGES) -> list[Pair]:
    """Return up to `count` merges, the most frequent pair first; ties go to the smaller pair.

    Sennrich et al. 2016, algorithm 1, over UTF-8 bytes with the last one marked "</w>".
    """
    encode = bytes_to_unicode()
    found = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    words = {tuple(_symbols([encode[byte] for byte in word.encode()])): n for word, n in found.items()}
    merges: list[Pair] = []
    while len(merges) < count and (pairs := _count_pairs(words)):
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        words = {_merge(word, merges[-1]): n for word, n in words.items()}
    return merges


def write_merges(path: Path, merges: Iterable[Pair]) -> None:
    """Write the gzip file SimpleTokenizer reads: a header line, one merge a line, no newline at the end."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def read_tokenizer(path: Path, context_length: int) -> SimpleTokenizer:
    """Return open_clip's tokenizer over a merges file."""
    return SimpleTokenizer(bpe_path=str(path), context_length=context_length)


def _symbols(letters: list[str]) -> list[str]:
    return [*letters[:-1], letters[-1] + "</w>"]


def _count_pairs(words: dict[tuple[str, ...], int]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for word, n in words.items():
        for pair in pairwise(word):
            pairs[pair] += n
    return pairs


def _merge(word: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    merged: list[str] = []
    at = 0
    while at < len(word):
        if word[at : at + 2] == pair:
            merged.append(word[at] + word[at + 1])
            at += 2
        else:
            merged.append(word[at])
            at += 1
    return tuple(merged)
