"""Count n-grams of many texts at once, as integers: the common ground of BLEU and CIDEr-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ORDERS = 4


class Counts(NamedTuple):
    """The n-grams of one order, 0 … size: text[i] holds gram[i] number[i] times. Sorted by text, then gram."""

    text: Ints
    gram: Ints
    number: Ints
    size: int


def count(texts: Sequence[str]) -> tuple[Ints, list[Counts]]:
    """Return the texts' lengths in words, and the counts of their 1- to 4-grams. Words are what ``split`` gives."""
    words = [text.split() for text in texts]
    lengths = np.array([len(w) for w in words], dtype=np.int64)
    vocabulary: dict[str, int] = {}
    token = np.array([vocabulary.setdefault(w, len(vocabulary)) for line in words for w in line], dtype=np.int64)
    text = np.repeat(np.arange(len(texts)), lengths)
    place = np.arange(len(token)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    gram = token
    counts = [_tally(text, gram, len(vocabulary))]
    for order in range(2, ORDERS + 1):
        previous = np.concatenate([gram[:1], gram[:-1]]) * len(vocabulary) + token
        _, gram = np.unique(previous, return_inverse=True)
        whole = place >= order - 1
        counts.append(_tally(text[whole], gram[whole], int(gram.max(initial=-1)) + 1))
    return lengths, counts


def _tally(text: Ints, gram: Ints, size: int) -> Counts:
    keys, number = np.unique(text * max(size, 1) + gram, return_counts=True)
    return Counts(keys // max(size, 1), keys % max(size, 1), number, size)


def look_up(counts: Counts, values: NDArray[np.float64], text: Ints, gram: Ints) -> NDArray[np.float64]:
    """Return for each (text, gram) the value that counts holds there, 0 where it holds none."""
    found = np.zeros(len(text))
    if len(counts.text):
        keys = counts.text * max(counts.size, 1) + counts.gram
        wanted = text * max(counts.size, 1) + gram
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[place] == wanted
        found[hit] = values[place[hit]]
    return found
