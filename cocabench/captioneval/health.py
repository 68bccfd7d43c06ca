"""Caption health: signs of a broken or degenerate captioner that caption metrics hide. No reference values, no Java.

A word is a run of letters and digits, with inner apostrophes and hyphens, in lower case. All figures are fractions of
the images, 0 to 1, but ``caption_words``; each summary says which direction is better.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval.words import plainly_spaced, tokens
from cocabench.core.formatting import plural
from cocabench.core.types import Note
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Mean, Whole

Array = NDArray[np.float64]

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
MAX_REPEATED_WORDS = 4
"""The longest phrase that counts as repeated: the orders of BLEU."""

IMAGES_PER_NOTE = 20
"""Fewer than one distinct caption per so many images becomes a Note; so does more than one repetitive or cut caption
per so many images."""


def words(caption: str) -> list[str]:
    """Return a caption's words; of scripts without spaces, and with marks, the tokens of ``captioneval.words``."""
    return WORD.findall(caption.lower()) if plainly_spaced(caption) else tokens(caption)


def repeats(caption: str) -> bool:
    """Tell whether a phrase of one to four words is repeated at once (``a dog a dog``), as by degenerate decoders.

    A single character twice is a word in Chinese and Japanese (``人人``).
    """
    found = words(caption)
    return any(
        found[i : i + n] == found[i + n : i + 2 * n] and (n > 1 or plainly_spaced(found[i]))
        for n in range(1, MAX_REPEATED_WORDS + 1)
        for i in range(len(found) - 2 * n + 1)
    )


def statistics(captions: Sequence[str], truncated: Sequence[bool] = ()) -> dict[str, NDArray[np.generic]]:
    """Return the columns of (n) raw captions: words, repetition, the row of the first such caption.

    truncated: (n) whether each was cut at the length limit; omitted if the captioner does not tell.
    """
    import pandas as pd

    columns: dict[str, NDArray[np.generic]] = {
        "caption_words": np.array([len(words(caption)) for caption in captions], np.int64),
        "caption_repeats": np.array([repeats(caption) for caption in captions], bool),
        "caption_same_as": pd.factorize(np.array(captions, dtype=object))[0].astype(np.int64),
    }
    return columns | ({"caption_truncated": np.array(truncated, bool)} if len(truncated) else {})


def notes(samples: Samples) -> list[Note]:
    """Return what a reader must know before trusting the metrics; nothing for healthy captions."""
    texts, n = samples["caption"], len(samples)
    empty, distinct = sum(not words(text) for text in texts), texts.nunique()
    found = [Note("empty_captions", f"{_of(empty, n)} empty")] if empty else []
    if n > 1 and distinct <= max(1, n // IMAGES_PER_NOTE):
        said = f"{plural(distinct, 'distinct caption')} for {n} images, most often {texts.mode()[0]!r}"
        found.append(Note("few_distinct_captions", said))
    for code, column, said in (
        ("repeated_phrases", "caption_repeats", "repeating a phrase"),
        ("truncated_captions", "caption_truncated", "cut at the length limit"),
    ):
        count = int(samples[column].sum()) if column in samples else 0
        if count * IMAGES_PER_NOTE > n:
            example = texts[samples[column].astype(bool)].iloc[0]
            found.append(Note(code, f"{_of(count, n)} {said}, for example {example!r}"))
    return found


def _of(count: int, n: int) -> str:
    return f"{count} of {plural(n, 'caption')} {'is' if count == 1 else 'are'}"


def _mean(name: str, summary: str, column: str, of: Callable[[Array], Array] | None = None, **more: Any) -> Metric:
    """The mean over images of a column, or of a function of it."""

    def read(samples: Samples) -> Array:
        values: Array = samples[column].to_numpy(dtype=np.float64)
        return values if of is None else of(values)

    return Metric(name, summary, Mean(read), (column,), role="health", **{"higher_is_better": False, **more})


def _of_the_set(name: str, summary: str, columns: tuple[str, ...], value: Callable[[Samples], float]) -> Metric:
    """A figure of all captions together. Redrawn images repeat captions, so it has no interval."""
    return Metric(name, summary, Whole(value), columns, role="health")


def _vocabulary(samples: Samples) -> float:
    theirs = _vocabulary_of(caption for group in samples["references"] for caption in group)
    return len(theirs & _vocabulary_of(samples["caption"])) / len(theirs) if theirs else float("nan")


def _vocabulary_of(captions: Iterable[str]) -> set[str]:
    return {word for caption in captions for word in words(caption)}


METRICS = (
    _of_the_set(
        "distinct_captions",
        "Caption health: distinct captions per image; 100 if no two images share one",
        ("caption_same_as",),
        lambda samples: samples["caption_same_as"].nunique() / len(samples),
    ),
    _mean(
        "repetitive_captions",
        "Caption health: captions that repeat a phrase of 1 to 4 words at once; lower is better",
        "caption_repeats",
    ),
    _mean(
        "empty_captions",
        "Caption health: captions without a word; lower is better",
        "caption_words",
        lambda number: (number == 0).astype(np.float64),
    ),
    _mean(
        "truncated_captions",
        "Caption health: captions cut at the length limit; lower is better",
        "caption_truncated",
    ),
    _mean(
        "caption_words",
        "Caption health: mean number of words; neither direction is better (gates fail if captions get shorter)",
        "caption_words",
        unit="words",
        higher_is_better=True,
    ),
    _of_the_set(
        "reference_vocabulary",
        "Caption health: share of the references' vocabulary that the captions use; grows with the number of images",
        ("caption", "references"),
        _vocabulary,
    ),
)
