"""A caching wrapper of models: cached values are bit-identical to computed ones.

Features are cached per content. Images of equal pixels (one picture in two files) share the feature of the first, so
that they tie exactly: the last bits of a feature depend on its batch. Captions are cached per whole batch: sampling
restarts its random numbers with every batch, so that a caption depends on the others of its batch. Everything else is
forwarded to the model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from cocabench.core.cache import Cache, key_of
from cocabench.core.errors import MissingDataError, ModelError
from cocabench.core.formatting import plural
from cocabench.core.signature import digest
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
from cocabench.models import contents
from cocabench.models.streams import (
    Encoded,
    Joined,
    Streams,
    behind,
    check_one_for_each,
    join_captions,
    join_likelihoods,
)

VERSION = 3
"""Version of reading, transforming and batching images; raise it if a change there changes a feature. A model
library's own version is its Source's ``features_version``."""

WRITE_EVERY_S = 30.0
"""At most this much work is lost when the process is killed."""

KEYS_PER_READ = 16_384
"""Features that are in memory twice while being read."""

DTYPE = np.dtype("<f4")

Kind = Literal["images", "texts", "captions"]
Positions = NDArray[np.int64]


def space(kind: Kind, made: Mapping[str, JsonValue], device: str, how: Mapping[str, Any] | None = None) -> str:
    """Return the name of the cache space for values computed in one way.

    made: the model part of a signature: weights, architecture, preprocessing, precision, package versions, and the
    features version if above 1. A model's id is only a name and not included. device: its type, since a GPU rounds
    differently. how: the arguments of the call (output and scale of features, decoding options).
    """
    return digest(kind, VERSION, device, {key: value for key, value in made.items() if key != "id"}, dict(how or {}))


def count_images(cache: Cache, made: Mapping[str, JsonValue], device: str, keys: Sequence[bytes]) -> int:
    """Return how many images have a cached feature. keys: their content hashes (``contents.known_images``)."""
    held = cache.has(space("images", made, device), list(set(keys)))
    return sum(key in held for key in keys)


class Cached:
    """A model with a cache. made, device: see ``space``.

    keep_texts: False if texts differ from call to call (captions to score). Then results would depend on earlier runs:
    the last bits of a text's feature depend on the texts encoded with it. contents: the content hashes of the images
    that were read since it was cleared, by ``id(source)``; None if one cannot be read.
    """

    def __init__(
        self, model: Model, cache: Cache, made: Mapping[str, JsonValue], device: str, *, keep_texts: bool = True
    ) -> None:
        self.model, self.cache, self.made, self.device, self.keep_texts = model, cache, made, device, keep_texts
        self.changed: list[Note] = []
        self.widths: dict[Kind, int] = {}
        self.contents: dict[int, bytes | None] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not set yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.model, name)

    @property
    def id(self) -> str:
        return self.model.id

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.model.abilities

    @property
    def parameters(self) -> Mapping[str, int]:
        return self.model.parameters

    @property
    def notes(self) -> Sequence[Note]:
        return [*self.model.notes, *self.cache.notes, *self.changed]

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the costs of the model itself."""
        return self.model.costs(work, progress=progress)

    def encode_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return rows for the images that could be read, encoding equal contents once; MissingDataError for none."""
        watch = self._watch(images)
        how: dict[str, Any] = {} if output == "projected" and normalize else {"output": output, "normalize": normalize}

        def encode(positions: Positions, rest: Progress) -> Iterator[tuple[Encoded, list[bytes | None]]]:
            some = [images[i] for i in positions]
            for part in streams(self.model).stream_images(some, progress=rest, **how):
                yield part, watch.settled(positions[part.kept])

        found = self._rows("images", how, watch.keys, encode, progress)
        self.changed += watch.notes()
        if not len(found.kept):
            raise MissingDataError(self.id, "no image could be read")
        if output == "projected":
            self._check_width("images", found.rows)
        return found

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts get bit-identical rows, so that they tie exactly."""
        if not self.keep_texts:
            return self.model.encode_texts(texts, progress=progress)
        keys = contents.of_texts(texts)

        def encode(positions: Positions, rest: Progress) -> Iterator[tuple[Encoded, list[bytes | None]]]:
            done = 0
            for rows in streams(self.model).stream_texts([texts[i] for i in positions], progress=rest):
                kept = np.arange(done, done := done + len(rows))
                yield Encoded(rows, kept), [keys[i] for i in positions[kept]]

        rows = self._rows("texts", {}, keys, encode, progress).rows
        self._check_width("texts", rows)
        return rows

    def _check_width(self, kind: Kind, rows: Features) -> None:
        """Raise ModelError where the features of images and texts are not of one space."""
        self.widths[kind] = rows.shape[1]
        if len(set(self.widths.values())) > 1:
            got = f"image features of {self.widths['images']} numbers and text features of {self.widths['texts']}"
            raise ModelError(self.id, got, wanted="one space for both")

    def caption(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        """Return a caption for each image that could be read. Finished batches are read from the cache.

        Features that the model computes as a by-product are cached too; captions from the cache have none.
        """
        each = [prompts or ""] * len(images) if prompts is None or isinstance(prompts, str) else prompts
        check_one_for_each("prompts", each, images)
        watch, size = self._watch(images), _images_per_batch(self.model, len(images))
        batches = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
        keys = [_batch_key([watch.keys[i] for i in some], [each[i] for i in some]) for some in batches]
        name = space("captions", self.made, self.device, options)
        held = self.cache.get(name, [key for key in keys if key is not None])
        parts = [[_captions(held[key], some)] if key in held else [] for key, some in zip(keys, batches, strict=True)]
        missing = [i for some, part in zip(batches, parts, strict=True) for i in some if not part]
        stream: Iterator[Captions] = iter(())
        if missing or not images:
            stream = streams(self.model).stream_captions(
                [images[i] for i in missing],
                options,
                prompts=[each[i] for i in missing],
                progress=behind(progress, len(images) - len(missing), len(images)),
            )
        with self._buffer("captions", name) as written, self._keeping_features(watch) as keep:
            for part in stream:
                made = part._replace(kept=np.array(missing, np.int64)[part.kept])
                settled = keep(made)
                if not settled:
                    continue
                number = int(made.kept[0]) // size
                parts[number].append(made)
                key = keys[number]
                if key is not None and None not in settled and len(settled) == len(batches[number]):
                    written.add({key: _stored(made)})
        self.changed += watch.notes()
        progress("captions", len(images), len(images))
        return join_captions([part for of_batch in parts for part in of_batch])

    def score_captions(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Likelihoods:
        """Return the model's likelihoods; features that it computes as a by-product are cached."""
        watch, parts = self._watch(images), []
        with self._keeping_features(watch) as keep:
            for part in streams(self.model).stream_likelihoods(images, texts, prefixes=prefixes, progress=progress):
                keep(part)
                parts.append(part)
        self.changed += watch.notes()
        return join_likelihoods(parts, len(texts[0]) if len(texts) else 0)

    def _rows(
        self,
        kind: Kind,
        how: Mapping[str, Any],
        keys: Sequence[bytes | None],
        encode: Callable[[Positions, Progress], Iterator[tuple[Encoded, list[bytes | None]]]],
        progress: Progress,
    ) -> ImageFeatures:
        """Return the rows of all inputs that could be read; encode computes distinct contents that are not cached.

        encode gets the inputs' positions and yields rows with their positions, and the keys under which to cache them.
        """
        first: dict[bytes, int] = {}  # unreadable inputs may repeat, so each gets its own placeholder
        names = [key if key is not None else i.to_bytes(8, "big") for i, key in enumerate(keys)]
        for i, key in enumerate(names):
            first.setdefault(key, i)
        distinct, origin = list(first), np.array(list(first.values()), np.int64)
        name, table = space(kind, self.made, self.device, how), _Table(len(distinct))
        for start in range(0, len(distinct), KEYS_PER_READ):
            part = distinct[start : start + KEYS_PER_READ]
            held = self.cache.get(name, part)
            there = [i for i, key in enumerate(part) if key in held]
            if there:
                rows = np.frombuffer(b"".join(held[part[i]] for i in there), DTYPE).reshape(len(there), -1)
                table.put(start + np.array(there), rows)
        missing = np.flatnonzero(~table.there)
        rest = behind(progress, len(distinct) - len(missing), len(distinct))
        with self._buffer(kind, name) as new:
            for encoded, settled in encode(origin[missing], rest) if len(missing) else ():
                rows = new.shared(encoded.rows, encoded.hashes, settled)
                table.put(missing[encoded.kept], rows)
                new.add_rows(settled, rows)
        progress(kind, len(distinct), len(distinct))
        place = {key: i for i, key in enumerate(distinct)}
        return table.of(np.array([place[key] for key in names], np.int64))

    @contextmanager
    def _keeping_features(self, watch: _Watch) -> Iterator[Callable[[Captions | Likelihoods], list[bytes | None]]]:
        """Return a function that caches a part's features and returns its images' keys (see _Watch.settled)."""
        name = space("images", self.made, self.device)
        held = self.cache.has(name, list({key for key in watch.keys if key is not None}))
        with self._buffer("images", name) as new:

            def keep(part: Captions | Likelihoods) -> list[bytes | None]:
                settled = watch.settled(part.kept)
                if part.features is not None:
                    finite = np.asarray(np.isfinite(part.features).all(axis=1))
                    keys = [key if finite[i] and key not in held else None for i, key in enumerate(settled)]
                    new.add_rows(keys, new.shared(part.features, part.hashes, keys))
                return settled

            yield keep

    def _watch(self, images: Sequence[ImageSource]) -> _Watch:
        watch = _Watch(images, self.cache)
        self.contents |= zip(map(id, images), watch.keys, strict=True)
        return watch

    def _buffer(self, kind: Kind, name: str) -> _Buffer:
        return _Buffer(self.cache, name, f"{self.id} {kind}")


class _Buffer:
    """Buffers values for the cache: written periodically and at the end of the context, even after an error."""

    def __init__(self, cache: Cache, space: str, label: str) -> None:
        self.cache, self.space, self.label = cache, space, label
        self.values: dict[bytes, bytes] = {}
        self.first: dict[bytes, bytes] = {}
        self.since = time.monotonic()

    def add(self, values: Mapping[bytes, bytes]) -> None:
        self.values |= values
        if time.monotonic() - self.since > WRITE_EVERY_S:
            self._write()

    def add_rows(self, keys: Sequence[bytes | None], rows: Features) -> None:
        """Add rows (k, d) under their keys; rows without a key are skipped."""
        wide = np.ascontiguousarray(rows, DTYPE)
        self.add({key: row.tobytes() for key, row in zip(keys, wide, strict=True) if key is not None})

    def shared(self, rows: Features, hashes: Sequence[bytes], keys: Sequence[bytes | None]) -> Features:
        """Return rows (k, d) with an earlier image's for each image of equal pixels.

        hashes: (k,) of the pixels, or none if unknown. keys: (k,) under which the rows will be added; None: not at all.
        """
        if not len(hashes):
            return rows
        wide = np.array(rows, DTYPE)
        first = self.cache.get(self._twins, list(set(hashes))) | self.first
        made: dict[bytes, NDArray[np.float32]] = {}
        for i, (pixels, key) in enumerate(zip(hashes, keys, strict=True)):
            earlier = first.get(pixels)
            row = None if earlier is None or earlier == key else made.get(earlier, self._row(earlier))
            if row is not None:
                wide[i] = row
            elif key is not None:
                first[pixels] = self.first[pixels] = key
                made[key] = wide[i]
        return wide

    @property
    def _twins(self) -> str:
        """The space of the first image's key by a hash of the pixels."""
        return digest("twins", self.space)

    def _row(self, key: bytes) -> NDArray[np.float32] | None:
        held = {key: self.values[key]} if key in self.values else self.cache.get(self.space, [key])
        return np.frombuffer(held[key], DTYPE) if key in held else None

    def _write(self) -> None:
        self.cache.put(self.space, self.values, label=self.label)
        if self.first:
            self.cache.put(self._twins, self.first, label=f"{self.label}: equal pixels")
        self.values, self.first, self.since = {}, {}, time.monotonic()

    def __enter__(self) -> _Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


class _Watch:
    """Images and their contents while a model reads them. keys (n,): content hashes, None if unknown."""

    def __init__(self, images: Sequence[ImageSource], cache: Cache) -> None:
        self.images = images
        self.stamps, self.keys = contents.of_images(images, cache)
        self.changed: list[ImageSource] = []

    def settled(self, read: Positions) -> list[bytes | None]:
        """Return the content hashes of the images at positions (k,), None for images that changed meanwhile."""
        images, before = [self.images[i] for i in read], [self.keys[i] for i in read]
        same = contents.unchanged(images, contents.Contents([self.stamps[i] for i in read], before))
        self.changed += [image for image, kept in zip(images, same, strict=True) if not kept]
        return [key if kept else None for key, kept in zip(before, same, strict=True)]

    def notes(self) -> list[Note]:
        if not self.changed:
            return []
        changed = plural(len(self.changed), "image")
        text = f"{changed} changed while being read, so that features are not cached; for example {self.changed[0]}"
        return [Note("changed_images", text)]


class _Table:
    """Rows (n, d) that arrive in parts. there (n,): which have arrived."""

    def __init__(self, n: int) -> None:
        self.there = np.zeros(n, np.bool_)
        self.values: Features = np.empty((0, 0), np.float32)

    def put(self, positions: Positions, rows: Features) -> None:
        if len(positions) and not self.values.size:
            self.values = np.empty((len(self.there), rows.shape[1]), np.float32)
        if len(positions):
            self.values[positions] = rows
            self.there[positions] = True

    def of(self, wanted: Positions) -> ImageFeatures:
        """Return the rows at wanted (m,) that have arrived, and their positions among the m."""
        kept = np.flatnonzero(self.there[wanted])
        return ImageFeatures(self.values[wanted[kept]] if len(kept) else self.values, kept)


class _Whole:
    """Streams of a model without streams (a library's that is not based on models.base): one part each."""

    def __init__(self, model: Model) -> None:
        self.model, self.id = model, model.id

    def stream_images(self, images: Sequence[ImageSource], **options: Any) -> Iterator[Encoded]:
        yield Encoded(*self.model.encode_images(images, **options))

    def stream_texts(self, texts: Sequence[str], **options: Any) -> Iterator[Features]:
        yield self.model.encode_texts(texts, **options)

    def stream_captions(
        self, images: Sequence[ImageSource], options: Mapping[str, Any], **more: Any
    ) -> Iterator[Captions]:
        yield self.model.caption(images, options, **more)

    def stream_likelihoods(
        self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], **more: Any
    ) -> Iterator[Likelihoods]:
        yield self.model.score_captions(images, texts, **more)


def streams(model: Model) -> Streams:
    return cast(Streams, model) if isinstance(model, Joined) else _Whole(model)


def _images_per_batch(model: Model, n: int) -> int:
    """Return how many images are captioned together: all if the model has no batch size."""
    return model.images_per_batch if isinstance(model, Joined) and model.images_per_batch else max(n, 1)


def _batch_key(images: Sequence[bytes | None], prompts: Sequence[str]) -> bytes | None:
    """Return the key of a batch's captions, None if one of its images cannot be read."""
    known = [key for key in images if key is not None]
    return key_of(*known, *prompts) if len(known) == len(images) else None


def _stored(made: Captions) -> bytes:
    return json.dumps([list(made.texts), list(made.scores), list(made.truncated)]).encode()


def _captions(stored: bytes, images: Sequence[int]) -> Captions:
    texts, scores, truncated = json.loads(stored)
    return Captions(texts, scores, np.array(images, np.int64), truncated)
