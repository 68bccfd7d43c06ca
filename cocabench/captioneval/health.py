"""Captions health: what a caption metric hides of a broken or degenerate captioner. No reference values, no Java.

A word is a run of letters and digits, with inner apostrophes and hyphens, in lower case. All figures are fractions of
the images, 0 to 1, but ``caption_words``; each says in its summary which way is better.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.core.types import Note
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Mean, Whole

Array = NDArray[np.float64]

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
LONGEST_LOOP = 4
"""Words of the longest phrase that is looked at for its repetition: the orders of BLEU."""

FEW = 20
"""Fewer distinct captions than one for so many images are said beside the numbers; so is a share of loops or cuts
above one in so many."""


def words(caption: str) -> list[str]:
    return WORD.findall(caption.lower())


def repeats(caption: str) -> bool:
    """Whether a phrase of one to four words is said again at once (``a dog a dog``), as degenerate decoders do."""
    said = words(caption)
    return any(
        said[i : i + n] == said[i + n : i + 2 * n]
        for n in range(1, LONGEST_LOOP + 1)
        for i in range(len(said) - 2 * n + 1)
    )


def statistics(captions: Sequence[str], truncated: Sequence[bool] = ()) -> dict[str, NDArray[np.generic]]:
    """Return the columns of (n) raw captions: words, repetition, the row of the first such caption.

    truncated: (n) whether each ran into the length limit; left out where a captioner does not tell.
    """
    columns: dict[str, NDArray[np.generic]] = {
        "caption_words": np.array([len(words(caption)) for caption in captions], np.int64),
        "caption_repeats": np.array([repeats(caption) for caption in captions], bool),
        "caption_same_as": pd.factorize(np.array(captions, dtype=object))[0].astype(np.int64),
    }
    return columns | ({"caption_truncated": np.array(truncated, bool)} if len(truncated) else {})


def notes(samples: Samples) -> list[Note]:
    """Return what a reader must know before believing the metrics; nothing for healthy captions."""
    texts, n = samples["caption"], len(samples)
    empty, distinct = int((texts == "").sum()), texts.nunique()
    found = [Note("empty_captions", f"{empty} of {n} captions are empty")] if empty else []
    if n > 1 and distinct <= max(1, n // FEW):
        said = f"{distinct} distinct captions for {n} images, most often {texts.mode()[0]!r}"
        found.append(Note("few_distinct_captions", said))
    for code, column, said in (
        ("repeated_phrases", "caption_repeats", "repeat a phrase at once"),
        ("truncated_captions", "caption_truncated", "are cut at max length"),
    ):
        count = int(samples[column].sum()) if column in samples else 0
        if count * FEW > n:
            example = texts[samples[column].astype(bool)].iloc[0]
            found.append(Note(code, f"{count} of {n} captions {said}, for example {example!r}"))
    return found


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
        "Captions health: distinct captions for each image; 100 where no two images have the same one",
        ("caption_same_as",),
        lambda samples: samples["caption_same_as"].nunique() / len(samples),
    ),
    _mean(
        "repetitive_captions",
        "Captions health: captions that say a phrase of 1 to 4 words twice in a row; lower is better",
        "caption_repeats",
    ),
    _mean(
        "empty_captions",
        "Captions health: captions without a word; lower is better",
        "caption_words",
        lambda number: (number == 0).astype(np.float64),
    ),
    _mean(
        "truncated_captions",
        "Captions health: captions that ran into the length limit before they ended; lower is better",
        "caption_truncated",
    ),
    _mean(
        "caption_words",
        "Captions health: mean words of a caption; neither direction is better (gates read it as: not shorter)",
        "caption_words",
        unit="words",
        higher_is_better=True,
    ),
    _of_the_set(
        "reference_vocabulary",
        "Captions health: the references' distinct words that some caption uses; grows with the number of images",
        ("caption", "references"),
        _vocabulary,
    ),
)
