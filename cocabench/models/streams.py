"""Streams of results, a part per batch, and how parts are joined. Without torch: plans and caches import this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cocabench.core.errors import UsageError
from cocabench.core.formatting import plural
from cocabench.core.types import (
    Captions,
    Features,
    ImageFeatures,
    ImageOutput,
    ImageSource,
    Likelihoods,
    Progress,
    silent,
)


class Encoded(NamedTuple):
    """The rows (k, d) of a batch of images, their positions kept (k,), and a hash of the pixels of each if known."""

    rows: Features
    kept: NDArray[np.int64]
    hashes: Sequence[bytes] = ()


class Streams(Protocol):
    """Methods that yield a part per batch; ``kept`` are positions among all input images. Texts are distinct."""

    @property
    def id(self) -> str: ...

    def stream_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> Iterator[Encoded]: ...

    def stream_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Iterator[Features]: ...

    def stream_captions(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Captions]: ...

    def stream_likelihoods(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Likelihoods]: ...


class Joined:
    """The methods that evaluations call: they join the streams of a model, or of a model on several devices."""

    @property
    def images_per_batch(self) -> int:
        """How many images are read and computed together; 0: all."""
        raise NotImplementedError

    def encode_images(
        self: Streams,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return features of the images that could be read: unit rows, or unnormalized with normalize=False."""
        parts = list(self.stream_images(images, output=output, normalize=normalize, progress=progress))
        return ImageFeatures(join_rows([part.rows for part in parts]), _kept(parts))

    def encode_texts(self: Streams, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts are encoded once, so that they tie exactly."""
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        rows = join_rows(list(self.stream_texts(list(place), progress=progress)))
        return rows[[place[text] for text in texts]] if place else rows

    def caption(
        self: Streams,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        """Return a caption for each image that could be read. prompts: the first words, one for all or one for each."""
        return join_captions(list(self.stream_captions(images, options, prompts=prompts, progress=progress)))

    def score_captions(
        self: Streams,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Likelihoods:
        """Return the likelihood of each image's texts as captions; all images have the same number of texts.

        prefixes: for each image the words before its texts; their tokens do not count.
        """
        parts = self.stream_likelihoods(images, texts, prefixes=prefixes, progress=progress)
        return join_likelihoods(list(parts), len(texts[0]) if len(texts) else 0)


def join_captions(parts: Sequence[Captions]) -> Captions:
    """Return the captions of all parts in order; with features if every part has them."""
    return Captions(
        [text for part in parts for text in part.texts],
        [score for part in parts for score in part.scores],
        _kept(parts),
        [cut for part in parts for cut in part.truncated],
        _join_features(parts),
    )


def join_likelihoods(parts: Sequence[Likelihoods], m: int) -> Likelihoods:
    """Return the likelihoods of all parts in order; (0, m) if there are none."""
    logprobs = np.concatenate([np.empty((0, m), np.float32), *(part.logprobs for part in parts)])
    n_tokens = np.concatenate([np.empty((0, m), np.int64), *(part.n_tokens for part in parts)])
    return Likelihoods(logprobs, n_tokens, _kept(parts), _join_features(parts))


def join_rows(parts: Sequence[Features]) -> Features:
    """Return the rows of all parts; (0, 0) if there are none, since the width is unknown then."""
    return np.concatenate([part for part in parts if len(part)] or [np.empty((0, 0), np.float32)])


def _join_features(parts: Sequence[Captions | Likelihoods]) -> Features | None:
    rows = [part.features for part in parts if part.features is not None]
    return join_rows(rows) if len(rows) == len(parts) else None


def _kept(parts: Sequence[Encoded | Captions | Likelihoods]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(part.kept for part in parts)])


def check_one_for_each(name: str, values: Sequence[Any], images: Sequence[ImageSource]) -> None:
    if len(values) != len(images):
        raise UsageError(name, f"{len(values)} of them", wanted=f"one for each of {plural(len(images), 'image')}")


def behind(progress: Progress, before: int, whole: int) -> Progress:
    """Return a Progress for the rest of a stage of which ``before`` of ``whole`` are done."""

    def report(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, whole)

    return report
