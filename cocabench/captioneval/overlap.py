"""BLEU@1-4, ROUGE-L and CIDEr-D: word overlap of a caption with its references, equal to pycocoevalcap 1.2.

All take n candidates and, for each image, a group of at least one reference. Texts are tokenised: words are what
stands between spaces. Higher is better.

``bleu_*`` (Papineni et al. 2002, pycocoevalcap's ``Bleu(4)`` with the closest reference length), 0 to 1. BLEU@N is the
geometric mean of the clipped precisions of 1- to N-grams, times exp(1 - r/c) where the candidates' total length c is
below the references' r. Of one image's references, each n-gram counts as often as in the one that holds it most, and r
takes the length closest to the candidate's, the shorter of two. The corpus value is a function of summed counts; a
caption's own value is the same function of its counts alone. Zero counts are smoothed by 1e-15 and lengths by 1e-9, as
in the reference: an empty caption, or one without a matching n-gram, has a value near 0 but not 0.

``rouge_l`` (Lin 2004, pycocoevalcap's ``Rouge``), 0 to 1. From the longest common subsequence of words with each
reference: the best precision P and the best recall R, which may come from different references, joined as
(1 + β²)PR / (R + β²P) with β = 1.2. Nothing in common is 0; an empty caption counts as one empty word, so it is 1
against an empty reference and 0 otherwise. The corpus value is the mean over images.

``cider_d`` (Vedantam et al. 2015, section 5: what pycocoevalcap, and so nearly every paper, calls CIDEr), 0 to 10. Mean
over n = 1 … 4 of the cosine between the candidate's and a reference's n-gram vectors weighted by tf-idf, with the
candidate's weights clipped to the reference's, times exp(-(difference of lengths)² / (2 · 6²)), averaged over the
references, times 10. The idf of an n-gram is log(images) - log(images with it in a reference), from a whole set of
references: all of a task, also where only some images are scored. With one image it is 0 for all n-grams, and CIDEr-D
is undefined: NaN. (There, pycocoevalcap says 0.) Lengths are numbers of bigrams, as in pycocoevalcap. An empty caption
scores 0. The corpus value is the mean over images.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Groups = Sequence[Sequence[str]]

ORDERS = 4
BLEU_COLUMNS = (
    *(f"bleu_match_{n}" for n in range(1, ORDERS + 1)),
    *(f"bleu_guess_{n}" for n in range(1, ORDERS + 1)),
    "bleu_test_length",
    "bleu_reference_length",
)
BLEU_LENGTH_SMOOTHING, BLEU_COUNT_SMOOTHING = 1e-9, 1e-15
IMAGES_AT_ONCE = 1 << 14
TOKENS_AT_ONCE = 1 << 20
"""Of so many images n-grams are counted at a time, and of so many tokens numbered: the bounds of their memory."""
ROUGE_BETA = 1.2
CIDER_SIGMA, CIDER_SCALE = 6.0, 10.0


class NGrams(NamedTuple):
    """N-grams of some texts, each 0 … size - 1: text[i] holds gram[i] number[i] times. Sorted by text, then gram."""

    text: Ints
    gram: Ints
    number: Ints
    size: int

    def look_up(self, values: Array, text: Ints, gram: Ints) -> Array:
        """Return for each (text, gram) its entry of values, which has one per n-gram here; 0 where there is none."""
        found = np.zeros(len(text))
        if len(self.text):
            keys, wanted = self.text * self.size + self.gram, text * self.size + gram
            place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            hit = keys[place] == wanted
            found[hit] = values[place[hit]]
        return found


class Order(NamedTuple):
    """All n-grams of one length: gram[i], 0 … size - 1, begins at token i. Of text k the tokens begin at starts[k]."""

    length: int
    gram: NDArray[np.int32]
    starts: Ints
    size: int

    def of(self, first: int, end: int) -> NGrams:
        """Count those of the texts first … end - 1."""
        starts = self.starts[first : end + 1]
        each = np.maximum(0, np.diff(starts) - self.length + 1)
        text = np.repeat(np.arange(first, end), each)
        place = np.arange(len(text)) + np.repeat(starts[:-1] - np.cumsum(each) + each, each)
        keys, number = np.unique(text * self.size + self.gram[place], return_counts=True)
        return NGrams(keys // self.size, keys % self.size, number, self.size)


def bleu_value(sums: Array, order: int) -> Array:
    """Return BLEU@order of summed statistics: (..., 10) in the order of BLEU_COLUMNS -> (...)."""
    match, guess = sums[..., :order], sums[..., ORDERS : ORDERS + order]
    precision = np.prod((match + BLEU_COUNT_SMOOTHING) / (guess + BLEU_LENGTH_SMOOTHING), axis=-1) ** (1 / order)
    ratio = (sums[..., -2] + BLEU_COUNT_SMOOTHING) / (sums[..., -1] + BLEU_LENGTH_SMOOTHING)
    with np.errstate(over="ignore"):
        return np.asarray(precision * np.exp(np.minimum(0.0, 1 - 1 / ratio)))


def bleu_if_seen(order: int, sums: Array, events: float) -> float:
    """Return BLEU@order of summed statistics (10,) if of each order without a match so many n-grams had matched."""
    sums = sums.copy()
    match, guess = sums[:order], sums[ORDERS : ORDERS + order]
    match[match == 0] = np.minimum(events, guess)[match == 0]
    return float(bleu_value(sums, order))


def bleu_statistics(candidates: Sequence[str], references: Groups) -> dict[str, NDArray[np.generic]]:
    """Return BLEU_COLUMNS as integers and ``bleu_1`` … ``bleu_4`` for every image."""
    starts = range(0, len(candidates), IMAGES_AT_ONCE)
    parts = [_bleu_sums(candidates[k : k + IMAGES_AT_ONCE], references[k : k + IMAGES_AT_ONCE]) for k in starts]
    sums = np.concatenate([np.zeros((0, len(BLEU_COLUMNS))), *parts])
    columns: dict[str, NDArray[np.generic]] = dict(zip(BLEU_COLUMNS, sums.T.astype(np.int64), strict=True))
    return columns | {f"bleu_{k}": bleu_value(sums, k) for k in range(1, ORDERS + 1)}


def _bleu_sums(candidates: Sequence[str], references: Groups) -> Array:
    """Return BLEU_COLUMNS (n, 10) of images."""
    n = len(candidates)
    images = np.repeat(np.arange(n), [len(r) for r in references])
    lengths, orders = _ngrams(chain(candidates, *references))
    sums = np.zeros((n, len(BLEU_COLUMNS)))
    for k, order in enumerate(orders):
        sums[:, k] = _clipped_matches(order, images, n)
        sums[:, ORDERS + k] = np.maximum(0, lengths[:n] - k)
    sums[:, -2] = lengths[:n]
    sums[:, -1] = _closest_lengths(lengths[:n], lengths[n:], images)
    return sums


def _clipped_matches(order: Order, images: Ints, n: int) -> Array:
    """Return per image the candidate's n-grams that a reference holds, each at most as often as in one reference."""
    mine, theirs = order.of(0, n), order.of(n, n + len(images))
    key = images[theirs.text - n] * order.size + theirs.gram
    ranked = np.lexsort((theirs.number, key))
    last = np.append(key[ranked][1:] != key[ranked][:-1], True) if len(ranked) else np.zeros(0, bool)
    best = ranked[last]
    at_most = NGrams(key[best] // order.size, key[best] % order.size, theirs.number[best], order.size)
    allowed = at_most.look_up(at_most.number.astype(float), mine.text, mine.gram)
    return np.bincount(mine.text, np.minimum(allowed, mine.number), minlength=n).astype(np.float64)


def _closest_lengths(lengths: Ints, reference_lengths: Ints, images: Ints) -> Ints:
    """Return per image the reference length closest to the candidate's."""
    order = np.lexsort((reference_lengths, np.abs(reference_lengths - lengths[images]), images))
    _, first = np.unique(images[order], return_index=True)
    return reference_lengths[order][first]


def rouge_l(candidates: Sequence[str], references: Groups) -> Array:
    """Return one score per image. Words are what stands between single spaces."""
    return np.array(
        [_rouge_l_of_one(c, group) for c, group in zip(candidates, references, strict=True)], dtype=np.float64
    )


def _rouge_l_of_one(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")
    others = [reference.split(" ") for reference in references]
    common = [_longest_common(words, other) for other in others]
    precision = max(c / len(words) for c in common)
    recall = max(c / len(other) for c, other in zip(common, others, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return ((1 + ROUGE_BETA**2) * precision * recall) / (recall + ROUGE_BETA**2 * precision)


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table per step (Hyyrö 2004, bit-parallel)."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    row = full = (1 << len(first)) - 1
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()


def cider_d(candidates: Sequence[str], references: Groups, corpus: Groups | None = None) -> Array:
    """Return one score per image. corpus gives the document frequencies, else references do."""
    n, documents = len(candidates), references if corpus is None else corpus
    if len(documents) < 2:
        return np.full(n, np.nan)
    per_image = np.array([len(group) for group in references])
    images = np.repeat(np.arange(n), per_image)
    owner = images if corpus is None else np.repeat(np.arange(len(documents)), [len(group) for group in documents])
    lengths, orders = _ngrams(chain(candidates, *references, *(corpus or ())))
    similarity = np.zeros(len(images))
    for order in orders:
        frequency = _document_frequency(order, owner, n if corpus is None else n + len(images))
        idf = np.log(len(documents)) - np.log(np.maximum(1.0, frequency))
        for first in range(0, n, IMAGES_AT_ONCE):
            end = min(n, first + IMAGES_AT_ONCE)
            part = slice(*np.searchsorted(images, (first, end)))
            similarity[part] += _cosines(order, idf, first, end, images[part], n + part.start)
    bigrams = np.maximum(0, lengths - 1)
    theirs = bigrams[n : n + len(images)]
    similarity *= np.exp(-((bigrams[:n][images] - theirs) ** 2) / (2 * CIDER_SIGMA**2)) / ORDERS
    return np.asarray(np.bincount(images, similarity, minlength=n) / per_image * CIDER_SCALE)


def _document_frequency(order: Order, owner: Ints, start: int) -> Array:
    """Return per n-gram the number of documents with it; text start + i belongs to document owner[i], ascending."""
    frequency = np.zeros(order.size)
    for document in range(0, int(owner.max(initial=-1)) + 1, IMAGES_AT_ONCE):
        first, end = np.searchsorted(owner, (document, document + IMAGES_AT_ONCE))
        theirs = order.of(start + first, start + end)
        pairs = np.unique(owner[theirs.text - start] * order.size + theirs.gram)
        gram, number = np.unique(pairs % order.size, return_counts=True)
        frequency[gram] += number
    return frequency


def _cosines(order: Order, idf: Array, first: int, end: int, images: Ints, start: int) -> Array:
    """Return the clipped cosines of references with their image's candidate; 0 where either has no weight.

    Text start + i is a reference of images[i], whose candidates are the texts first … end - 1.
    """
    mine, theirs = order.of(first, end), order.of(start, start + len(images))
    own, weight = mine.number * idf[mine.gram], theirs.number * idf[theirs.gram]
    candidate, reference = mine.text - first, theirs.text - start
    norm = np.sqrt(np.bincount(candidate, own**2, minlength=end - first))
    norms = np.sqrt(np.bincount(reference, weight**2, minlength=len(images)))
    matched = mine.look_up(own, images[reference], theirs.gram)
    dot = np.bincount(reference, np.minimum(matched, weight) * weight, minlength=len(images))
    scale = norm[images - first] * norms
    return np.asarray(np.divide(dot, scale, out=np.zeros(len(images)), where=scale > 0))


def _ngrams(texts: Iterable[str]) -> tuple[Ints, Iterator[Order]]:
    """Return the texts' lengths in words, and their 1- to 4-grams. Words are what ``split`` gives."""
    vocabulary: dict[str, int] = {}
    numbers, lengths = array("i"), array("q")
    for text in texts:
        words = text.split()
        lengths.append(len(words))
        numbers.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words])
    token = np.frombuffer(numbers, np.int32) if numbers else np.zeros(0, np.int32)
    found = np.array(lengths, np.int64)
    return found, _orders(token, np.concatenate([[0], np.cumsum(found)]), len(vocabulary))


def _orders(token: NDArray[np.int32], starts: Ints, words: int) -> Iterator[Order]:
    """Yield the n-grams of each length, which are numbered in the order of their words' numbers."""
    gram, size = token, words
    yield Order(1, gram, starts, max(size, 1))
    for length in range(2, ORDERS + 1):
        gram, size = _one_word_longer(gram, token[length - 1 :], words)
        yield Order(length, gram, starts, max(size, 1))


def _one_word_longer(gram: NDArray[np.int32], word: NDArray[np.int32], words: int) -> tuple[NDArray[np.int32], int]:
    """Return the number of each pair of gram[i] and word[i], in the order of pairs, and how many differ.

    Each part is numbered on its own first, so that little is sorted at a time.
    """
    longer = np.empty(len(word), np.int32)
    parts = [slice(start, start + TOKENS_AT_ONCE) for start in range(0, len(word), TOKENS_AT_ONCE)]
    found = []
    for part in parts:
        pairs = gram[: len(word)][part].astype(np.int64) * words + word[part]
        distinct, numbers = np.unique(pairs, return_inverse=True)
        longer[part] = numbers
        found.append(distinct)
    every = np.unique(np.concatenate([np.zeros(0, np.int64), *found]))
    for part, distinct in zip(parts, found, strict=True):
        longer[part] = np.asarray(np.searchsorted(every, distinct))[longer[part]]
    return longer, len(every)
