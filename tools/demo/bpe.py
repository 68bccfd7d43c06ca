"""A small byte-pair vocabulary in the file format of open_clip's SimpleTokenizer."""

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

MERGES = 1500
"""Merges learnt; the vocabulary is 512 bytes with and without word end, these, and 2 special tokens."""

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
