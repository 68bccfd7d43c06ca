"""A Model that computes no feature twice: what its cache holds is read, bit for bit what was computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from cocabench.core.errors import DataError
from cocabench.core.signature import digest, digest_file
from cocabench.core.types import (
    Ability,
    Captions,
    Features,
    ImageFeatures,
    ImageOutput,
    ImageSource,
    Likelihoods,
    Model,
    Note,
    Progress,
    Workload,
    silent,
)
from cocabench.models.features import contents
from cocabench.models.features.cache import Cache, Contents

FIRST, MOST = 2048, 16384
"""Inputs that are computed before their features are kept: what a kill may cost. It doubles from FIRST to MOST."""

T = TypeVar("T")


@cache
def code() -> str:
    """Return a hash of the modules that make features, so that a change of ours makes new ones."""
    package = Path(str(resources.files("cocabench")))
    files = [*sorted((package / "models").rglob("*.py")), package / "data" / "images.py"]
    return digest(*(digest_file(file) for file in files))


def collection(kind: Literal["images", "texts"], made: Mapping[str, JsonValue], device: str) -> str:
    """Return the name of the features that are made in one way.

    made: the model part of a signature: weights, architecture, preprocessing, precision, package versions. device: its
    type; a GPU rounds differently. A model's id is a name, and moves no feature.
    """
    return digest(kind, code(), device, {key: value for key, value in made.items() if key != "id"})


def _all(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(positions), np.bool_)


@dataclass
class Cached:
    """A model with a cache before it.

    id: the model's, for people. made, device: see ``collection``.
    """

    model: Model
    cache: Cache
    id: str
    made: Mapping[str, JsonValue]
    device: str
    changed: list[str] = field(default_factory=list)
    """What there is to tell of images that changed while they were read."""

    @property
    def parameters(self) -> Mapping[str, int]:
        return self.model.parameters

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.model.abilities

    @property
    def notes(self) -> Sequence[Note]:
        return [*self.model.notes, *(Note("cache", said) for said in (*self.cache.troubles, *self.changed))]

    def encode_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return unit rows for the images that could be read; DataError where none could. Others are not kept."""
        if output != "projected" or not normalize:
            return self.model.encode_images(images, output=output, normalize=normalize, progress=progress)

        def encode(sources: list[ImageSource], told: Progress) -> tuple[Features, NDArray[np.int64]]:
            return self.model.encode_images(sources, progress=told)

        known = self.cache.contents(images)
        features = self._through(
            "images", images, known.keys, encode, progress, settled=partial(self._unchanged, images, known)
        )
        if not len(features.kept):
            raise DataError(self.id, "no image could be read")
        return features

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts share bits, so that their ties are exact."""

        def encode(some: list[str], told: Progress) -> tuple[Features, NDArray[np.int64]]:
            return self.model.encode_texts(some, progress=told), np.arange(len(some))

        return self._through("texts", texts, contents.of_texts(texts), encode, progress).rows

    def caption(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        """Return the model's captions. The features that it made on the way are kept."""
        known = self.cache.contents(images)
        written = self.model.caption(images, options, prompts=prompts, progress=progress)
        self._keep_made(images, known, written)
        return written

    def score_captions(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Likelihoods:
        """Return what the model says. The features that it made on the way are kept."""
        known = self.cache.contents(images)
        found = self.model.score_captions(images, texts, prefixes=prefixes, progress=progress)
        self._keep_made(images, known, found)
        return found

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Let the model itself be measured."""
        return self.model.costs(work, progress=progress)

    def _through(
        self,
        kind: Literal["images", "texts"],
        inputs: Sequence[T],
        keys: Sequence[bytes | None],
        encode: Callable[[list[T], Progress], tuple[Features, NDArray[np.int64]]],
        progress: Progress,
        settled: Callable[[NDArray[np.int64]], NDArray[np.bool_]] = _all,
    ) -> ImageFeatures:
        """Return the features of inputs, those of distinct contents that the cache lacks from encode.

        settled says of inputs that were encoded which may be kept under their keys.
        """
        name = collection(kind, self.made, self.device)
        names = [key if key is not None else i.to_bytes(8, "big") for i, key in enumerate(keys)]
        first: dict[bytes, int] = {}
        for i, key in enumerate(names):
            first.setdefault(key, i)
        distinct, table = list(first), _Table(len(first))
        for found in self.cache.read(name, distinct):
            table.put(found.positions, found.rows)
        for positions in _chunks(np.flatnonzero(~table.there)):
            told = _behind(progress, int(table.there.sum()), len(distinct))
            rows, kept = encode([inputs[first[distinct[i]]] for i in positions], told)
            table.put(positions[kept], rows)
            same = settled(np.array([first[distinct[i]] for i in positions[kept]], np.int64))
            self._keep(name, kind, [distinct[i] for i in positions[kept][same]], rows[same])
        progress(kind, len(distinct), len(distinct))
        place = {key: i for i, key in enumerate(distinct)}
        return table.of(np.array([place[key] for key in names], np.int64))

    def _unchanged(
        self, images: Sequence[ImageSource], known: Contents, encoded: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which of the encoded images are still what they are known as; the others are warned of."""
        some, stamps, keys = ([column[i] for i in encoded] for column in (images, *known))
        same = contents.unchanged(some, stamps, keys)
        if not same.all():
            first = some[int(np.argmin(same))]
            what = "images that changed while they were read, whose features are not kept"
            self.changed.append(f"{what}: {np.count_nonzero(~same)}, the first is {first}")
        return same

    def _keep_made(self, images: Sequence[ImageSource], known: Contents, made: Captions | Likelihoods) -> None:
        """Keep the features, if any, that came with captions or likelihoods of images."""
        if made.features is not None:
            same = self._unchanged(images, known, made.kept)
            self._keep_new([known.keys[i] for i in made.kept[same]], made.features[same])

    def _keep_new(self, keys: Sequence[bytes | None], rows: Features) -> None:
        """Keep the image features (k, d) that the cache lacks, but those that encode_images would raise for."""
        name = collection("images", self.made, self.device)
        finite = np.flatnonzero(np.isfinite(rows).all(axis=1))
        new = {key: i for i in finite.tolist() if (key := keys[i]) is not None}
        distinct = list(new)
        for found in self.cache.read(name, distinct):
            for position in found.positions:
                del new[distinct[position]]
        self._keep(name, "images", list(new), rows[list(new.values())])

    def _keep(self, name: str, kind: str, keys: list[bytes], rows: Features) -> None:
        """Keep the features of what could be read before it was computed."""
        held = [i for i, key in enumerate(keys) if len(key) == contents.LENGTH]
        self.cache.write(name, f"{self.id} {kind}", [keys[i] for i in held], rows[held])


class _Table:
    """Rows (n, d) that arrive in parts. there (n,): which have."""

    def __init__(self, n: int) -> None:
        self.there = np.zeros(n, np.bool_)
        self.values: Features = np.empty((0, 0), np.float32)

    def put(self, positions: NDArray[np.int64], rows: Features) -> None:
        if len(positions) and not self.values.size:
            self.values = np.empty((len(self.there), rows.shape[1]), np.float32)
        if len(positions):
            self.values[positions] = rows
            self.there[positions] = True

    def of(self, wanted: NDArray[np.int64]) -> ImageFeatures:
        """Return the rows at wanted (m,), and which of the m these are."""
        kept = np.flatnonzero(self.there[wanted])
        return ImageFeatures(self.values[wanted[kept]] if len(kept) else self.values, kept)


def _chunks(positions: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    size = FIRST
    while len(positions):
        yield positions[:size]
        positions, size = positions[size:], min(2 * size, MOST)


def _behind(progress: Progress, before: int, whole: int) -> Progress:
    """Return a Progress for the rest of a stage of which ``before`` of the ``whole`` are done."""

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, whole)

    return told
