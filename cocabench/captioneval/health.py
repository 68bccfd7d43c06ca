"""Captions health: what a caption metric hides of a broken or degenerate captioner. No reference values, no Java.

A word is a run of letters and digits, with inner apostrophes and hyphens, in lower case. All figures are fractions of
the images, 0 to 1, but ``caption_words``; each says in its summary which way is better.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cocabench.metrics import intervals
from cocabench.metrics.base import UNKNOWN, Interval, Metric, Samples, image_sums
from cocabench.metrics.pairing import Mean

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


def remarks(samples: Samples) -> list[str]:
    """Return what a reader must know before believing the metrics; nothing for healthy captions."""
    texts, n = samples["caption"], len(samples)
    empty, distinct = int((texts == "").sum()), texts.nunique()
    found = [f"{empty} of {n} captions are empty"] if empty else []
    if n > 1 and distinct <= max(1, n // FEW):
        found.append(f"{distinct} distinct captions for {n} images, most often {texts.mode()[0]!r}")
    for column, said in (
        ("caption_repeats", "repeat a phrase at once"),
        ("caption_truncated", "are cut at max length"),
    ):
        count = int(samples[column].sum()) if column in samples else 0
        if count * FEW > n:
            found.append(f"{count} of {n} captions {said}, for example {texts[samples[column].astype(bool)].iloc[0]!r}")
    return found


def _mean(
    name: str,
    summary: str,
    column: str,
    of: Callable[[Array], Array],
    *,
    unit: Literal["fraction", "words"] = "fraction",
    higher_is_better: bool = False,
) -> Metric:
    """The mean over images of a function of a column."""

    def read(samples: Samples) -> Array:
        return of(samples[column].to_numpy(dtype=np.float64))

    def interval(samples: Samples, rng: np.random.Generator) -> Interval:
        values = read(samples)
        sums = image_sums(samples, np.column_stack([values, np.ones_like(values)]))
        return intervals.of_sums(sums, lambda s: s[..., 0] / s[..., 1], rng)

    return Metric(
        name=name,
        summary=summary,
        column=column,
        value=lambda samples: float(read(samples).mean()),
        interval=interval,
        unit=unit,
        higher_is_better=higher_is_better,
        pairing=Mean(read),
        kind="health",
    )


def _of_the_set(name: str, summary: str, column: str, value: Callable[[Samples], float]) -> Metric:
    """A figure of all captions together. Redrawn images repeat captions, so it has no interval."""
    return Metric(
        name=name, summary=summary, column=column, value=value, interval=lambda samples, rng: UNKNOWN, kind="health"
    )


def _vocabulary(samples: Samples) -> float:
    theirs = _vocabulary_of(caption for group in samples["references"] for caption in group)
    return len(theirs & _vocabulary_of(samples["caption"])) / len(theirs) if theirs else float("nan")


def _vocabulary_of(captions: Iterable[str]) -> set[str]:
    return {word for caption in captions for word in words(caption)}


METRICS = (
    _of_the_set(
        "distinct_captions",
        "Captions health: distinct captions for each image; 100 where no two images have the same one",
        "caption_same_as",
        lambda samples: samples["caption_same_as"].nunique() / len(samples),
    ),
    _mean(
        "repetitive_captions",
        "Captions health: captions that say a phrase of 1 to 4 words twice in a row; lower is better",
        "caption_repeats",
        lambda repeated: repeated,
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
        lambda cut: cut,
    ),
    _mean(
        "caption_words",
        "Captions health: mean words of a caption; neither direction is better (gates read it as: not shorter)",
        "caption_words",
        lambda number: number,
        unit="words",
        higher_is_better=True,
    ),
    _of_the_set(
        "reference_vocabulary",
        "Captions health: the references' distinct words that some caption uses; grows with the number of images",
        "caption",
        _vocabulary,
    ),
)
