"""What retrieval's scores are compared with, and what is found: by metrics.tiles on a CPU, models.scores on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Scores = NDArray[np.float32]


class Compared(NamedTuple):
    """The number of scores certainly above each line's threshold, and the positions (k,) of those near it."""

    above: Ints
    rows: Ints
    columns: Ints


class Candidates(NamedTuple):
    """Scores that may be among the highest of their line; (k,) each, lines ascending."""

    lines: Ints
    positions: Ints
    scores: Scores


class Bars(NamedTuple):
    """Per line (n,): its threshold lies between low and high, and a neighbour's score exceeds beaten."""

    low: Scores
    high: Scores
    beaten: Scores


class Proposed(NamedTuple):
    """What a device found in a block of scores: rows are texts (r,), columns images (i,).

    own: (r,) the score of each text with its own image, which counts nowhere. rows, columns: compared with the
    thresholds of texts, and of images. wrong_images, wrong_texts: the highest of each row, and of each column.
    """

    own: Scores
    rows: Compared
    columns: Compared
    wrong_images: Candidates
    wrong_texts: Candidates


class Proposer(Protocol):
    """Compares float32 scores of texts and all images, which stay on a device."""

    def __call__(
        self, texts: Scores, own: Ints, by_text: Bars, by_image: Bars, *, k: int, most: int
    ) -> Proposed | None:
        """Compare the scores of texts (r, d), whose own images are own (r,); each is within grid.error_bound.

        k: how many highest scores are wanted of each line. None: more than most scores are near the thresholds of
        texts, or of images. Raises MemoryError.
        """


class Device(Protocol):
    """Puts images of a shape (i, d) on a device, chunk by chunk of rows. Raises MemoryError."""

    def __call__(self, shape: tuple[int, int], images: Iterable[Scores]) -> Proposer: ...
