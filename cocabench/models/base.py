"""What every model shares: batches, precision, halving on out-of-memory, NaN checks, equal texts once, progress.

A library's module subclasses Model, hands it a transform, and fills in the hooks that it can. Hooks see one batch, on
the device and in the right precision, and return rows of any scale on any device. Streams give a checked part per
batch; the methods that evaluations call are made of these streams (Joined).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cocabench.core.errors import ModelError, NotACaptionerError, NumericsError, UsageError
from cocabench.core.types import (
    Ability,
    Captions,
    Features,
    ImageFeatures,
    ImageOutput,
    ImageSource,
    Likelihoods,
    Note,
    Progress,
    Workload,
    silent,
)
from cocabench.models.hardware import Hardware
from cocabench.models.loading import Transform, batches

TEXTS_PER_BLOCK = 2048
"""Distinct texts, in order of first appearance, that are encoded together, whoever asks. A text's last bits depend on
the others of its block: another number here would move half of all text features by 1e-7."""

TEXTS_PER_BATCH = 256
"""Texts of a block that ``encode_text_batch`` sees at once."""

T = TypeVar("T")
Numbers = TypeVar("Numbers", bound=NDArray[Any])


class Continuation(NamedTuple):
    """A text whose likelihood is asked for, and what stands before it: '' or words that are given and do not count."""

    prefix: str
    text: str


class CaptionBatch(NamedTuple):
    """Captions of k images. features: (k, d) unit rows of encode_images where they were made on the way."""

    texts: Sequence[str]
    scores: Sequence[float]
    truncated: Sequence[bool] = ()
    features: Tensor | None = None


class LogprobBatch(NamedTuple):
    """log p(text | image), its end token's included, and tokens counted, both (k, m). features: as of CaptionBatch."""

    logprobs: Tensor
    n_tokens: Tensor
    features: Tensor | None = None


WriteCaptions = Callable[[Any, Tensor], CaptionBatch]
"""(pixels (k, 3, h, w), which prompt (k,)) -> captions."""
ScoreCaptions = Callable[[Any, Tensor], LogprobBatch]
"""(pixels (k, 3, h, w), which continuations (k, m)) -> likelihoods."""


class Streams(Protocol):
    """A part per batch; its ``kept`` counts among all images that were asked for. Texts are distinct."""

    @property
    def id(self) -> str: ...

    def stream_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> Iterator[ImageFeatures]: ...

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
    """The arrays that evaluations work with, from the streams of a model or of what stands before one (a cache)."""

    def encode_images(
        self: Streams,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return unit rows, or rows of the model's own scale, for the images that could be read."""
        parts = list(self.stream_images(images, output=output, normalize=normalize, progress=progress))
        return ImageFeatures(join_rows([part.rows for part in parts]), _kept(parts))

    def encode_texts(self: Streams, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts are encoded once and share bits, so that their ties are exact."""
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
        """Return how likely each image's texts, of which each image has as many, are as captions of it.

        prefixes: for each image what stands before its texts; the prefix's own tokens do not count.
        """
        parts = self.stream_likelihoods(images, texts, prefixes=prefixes, progress=progress)
        return join_likelihoods(list(parts), len(texts[0]) if len(texts) else 0)


class Model(Joined):
    """A loaded checkpoint. transform makes a tensor of an image; it is pickled to workers, the model is not.

    parameters: their number per tower. notes grow while it runs (halved batches).
    """

    abilities: frozenset[Ability] = frozenset({"encode"})

    def __init__(
        self,
        id: str,  # noqa: A002
        transform: Transform,
        hardware: Hardware,
        *,
        parameters: Mapping[str, int] | None = None,
        notes: Sequence[Note] = (),
    ) -> None:
        self.id, self.transform, self.hardware = id, transform, hardware
        self.parameters, self.notes = dict(parameters or {}), list(notes)
        self._batch_limits: dict[str, int] = {}

    # Hooks: what a library's module fills in

    def encode_image_batch(self, pixels: Any) -> Tensor:
        """Return image features (k, d) in the space of the texts: the model's own, before or after it normalises them.

        pixels: (k, 3, h, w) on the device; a list of k where the transform makes no tensors.
        """
        raise ModelError(self.id, "a model that cannot encode images")

    def unnormalized_image_batch(self, pixels: Any) -> Tensor:
        """Return what encode_image_batch does, before the model normalises it. Override where the model does."""
        return self.encode_image_batch(pixels)

    def pooled_image_batch(self, pixels: Any) -> Tensor:
        """Return image features (k, d) as they stand before the projection into the space of the texts."""
        raise ModelError(self.id, "a model that does not give features before the projection", wanted="projected ones")

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        """Return text features (k, d), any scale, of k distinct texts."""
        raise ModelError(self.id, "a model that cannot encode texts")

    def encode_text_block(self, texts: list[str], progress: Progress) -> Tensor:
        """Return unit rows (n, d) of at most TEXTS_PER_BLOCK distinct texts. Override to plan the batches yourself."""
        parts: list[Tensor] = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            parts += self.run_batch("texts", self._unit_texts, texts[start : start + TEXTS_PER_BATCH])
            progress("texts", sum(map(len, parts)), len(texts))
        return torch.cat(parts)

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> WriteCaptions:
        """Check options and distinct prompts ('' for none) once; return what captions a batch."""
        raise NotACaptionerError(self.id, "a model that cannot caption", wanted="a CoCa")

    def caption_scorer(self, continuations: Sequence[Continuation]) -> ScoreCaptions:
        """Tokenize distinct continuations once; return what scores a batch."""
        raise NotACaptionerError(self.id, "a model that cannot score captions", wanted="a CoCa")

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory on this device."""
        raise ModelError(self.id, "a model that cannot be profiled", wanted="one of open_clip's")

    def computing(self) -> AbstractContextManager[Any]:
        """Return what is entered around each batch, inside the precision's context."""
        return nullcontext()

    # Streams

    def stream_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> Iterator[ImageFeatures]:
        """Yield the rows of each batch of images."""

        def encode(pixels: Any) -> Tensor:
            if output == "pooled":
                rows = self.pooled_image_batch(pixels)
            else:
                rows = self.encode_image_batch(pixels) if normalize else self.unnormalized_image_batch(pixels)
            return unit(rows) if normalize else rows.float().cpu()

        for parts, kept in self._over_images("images", images, encode, progress):
            yield ImageFeatures(checked("features", torch.cat(parts).numpy(), [images[i] for i in kept]), kept)

    def stream_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Iterator[Features]:
        """Yield the rows of each block of distinct texts, in order."""
        for start in range(0, len(texts), TEXTS_PER_BLOCK):
            block = list(texts[start : start + TEXTS_PER_BLOCK])
            rows = self.encode_text_block(block, behind(progress, start, len(texts)))
            yield checked("features", rows.numpy(), block)

    def stream_captions(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Captions]:
        """Yield the captions of each batch of images. The random numbers of sampling start anew with each batch."""
        each = [prompts or ""] * len(images) if prompts is None or isinstance(prompts, str) else prompts
        check_one_for_each("prompts", each, images)
        distinct, numbers = _numbered(each)
        write = self.captioner(options, distinct)
        for parts, kept in self._over_images("captions", images, write, progress, beside=torch.tensor(numbers)):
            read = [images[i] for i in kept]
            written = Captions(
                [text for part in parts for text in part.texts],
                [score for part in parts for score in part.scores],
                kept,
                [cut for part in parts for cut in part.truncated],
            )
            checked("score", np.array(written.scores), read)
            yield written._replace(features=_made_on_the_way(parts, read))

    def stream_likelihoods(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Iterator[Likelihoods]:
        """Yield the likelihoods of each batch of images."""
        before = [""] * len(images) if prefixes is None else prefixes
        for name, values in (("texts", texts), ("prefixes", before)):
            check_one_for_each(name, values, images)
        flat = [Continuation(prefix, text) for prefix, row in zip(before, texts, strict=True) for text in row]
        distinct, numbers = _numbered(flat)
        score = self.caption_scorer(distinct)
        beside = torch.tensor(numbers).reshape(len(images), -1)
        for parts, kept in self._over_images("likelihoods", images, score, progress, beside=beside):
            read = [images[i] for i in kept]
            logprobs = checked("log-probabilities", torch.cat([part.logprobs.cpu() for part in parts]).numpy(), read)
            n_tokens = torch.cat([part.n_tokens.cpu() for part in parts]).numpy()
            yield Likelihoods(logprobs, n_tokens, kept, _made_on_the_way(parts, read))

    # How

    def _unit_texts(self, texts: list[str]) -> Tensor:
        return unit(self.encode_text_batch(texts))

    def _over_images(
        self,
        stage: str,
        images: Sequence[ImageSource],
        work: Callable[..., T],
        progress: Progress,
        *,
        beside: Tensor | None = None,
    ) -> Iterator[tuple[list[T], NDArray[np.int64]]]:
        """Yield what work makes of each batch's pixels; beside: a row per image (n, …) that it is given with them.

        Images that cannot be read make their batch smaller: it is not filled up with others.
        """
        loaded = batches(
            images,
            self.transform,
            batch_size=self.hardware.images_per_batch,
            workers=self.hardware.workers,
            skip_bad=self.hardware.skip_bad_images,
            pin=self.hardware.device.type == "cuda",
            preload=type(self).__module__,
            host_start=self.hardware.host_start,
        )
        for batch in loaded:
            rows = () if beside is None else (beside[batch.positions],)
            yield self.run_batch(stage, work, batch.pixels, *rows), batch.positions
            progress(stage, batch.done, len(images))

    def run_batch(self, kind: str, work: Callable[..., T], *inputs: Any) -> list[T]:
        """Run work on inputs of n each, in halves after running out of memory; this kind of work stays at that size.

        The first of the inputs is moved to the device.
        """
        n = len(inputs[0])
        size = min(n, self._batch_limits.get(kind, n))
        try:
            with self.hardware.precision_context(), self.computing():
                return [work(*self._part(inputs, slice(at, at + size))) for at in range(0, n, size)]
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            if size == 1:
                got = f"out of memory with one sample on {self.hardware.device}"
                raise ModelError(self.id, got, fix="--device cpu, another --precision, or a smaller model") from None
        self._batch_limits[kind] = size // 2
        said = f"out of memory at {size} {kind} a batch; went on with {size // 2}"
        self.notes.append(Note("halved_batch", said))
        if self.hardware.device.type == "cuda":
            torch.cuda.empty_cache()
        return self.run_batch(kind, work, *inputs)

    def _part(self, inputs: Sequence[Any], rows: slice) -> list[Any]:
        first, *rest = (one[rows] for one in inputs)
        return [first.to(self.hardware.device, non_blocking=True) if isinstance(first, Tensor) else first, *rest]


def unit(rows: Tensor) -> Tensor:
    """Return unit float32 rows on the CPU."""
    return F.normalize(rows.float(), dim=-1).cpu()


def checked(what: str, values: Numbers, inputs: Sequence[object]) -> Numbers:
    """Return the values, (n,) or (n, d); NumericsError that names the first input whose row is not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        got = f"NaN or infinity in the {what} of {len(bad)} of {len(inputs)}"
        fix = "the weights or the precision are broken; try --precision fp32"
        raise NumericsError(str(inputs[bad[0]]), got, wanted="finite numbers", fix=fix)
    return values


def join_captions(parts: Sequence[Captions]) -> Captions:
    """Return the captions of all parts, in their order; features where every part has them."""
    return Captions(
        [text for part in parts for text in part.texts],
        [score for part in parts for score in part.scores],
        _kept(parts),
        [cut for part in parts for cut in part.truncated],
        _join_features(parts),
    )


def join_likelihoods(parts: Sequence[Likelihoods], m: int) -> Likelihoods:
    """Return the likelihoods of all parts, in their order; (0, m) where there are none."""
    logprobs = np.concatenate([np.empty((0, m), np.float32), *(part.logprobs for part in parts)])
    n_tokens = np.concatenate([np.empty((0, m), np.int64), *(part.n_tokens for part in parts)])
    return Likelihoods(logprobs, n_tokens, _kept(parts), _join_features(parts))


def join_rows(parts: Sequence[Features]) -> Features:
    """Return the rows of all parts; (0, 0) where there are none, for then the width is not known."""
    return np.concatenate([part for part in parts if len(part)] or [np.empty((0, 0), np.float32)])


def _join_features(parts: Sequence[Captions | Likelihoods]) -> Features | None:
    rows = [part.features for part in parts if part.features is not None]
    return join_rows(rows) if len(rows) == len(parts) else None


def _kept(parts: Sequence[ImageFeatures | Captions | Likelihoods]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(part.kept for part in parts)])


def _made_on_the_way(
    parts: Sequence[CaptionBatch] | Sequence[LogprobBatch], read: Sequence[ImageSource]
) -> Features | None:
    rows = [part.features for part in parts if part.features is not None]
    return checked("features", torch.cat(rows).numpy(), read) if len(rows) == len(parts) else None


def _numbered(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the distinct values in order of first appearance, and for each value its number among them."""
    place = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(place), [place[value] for value in values]


def check_one_for_each(name: str, values: Sequence[Any], images: Sequence[ImageSource]) -> None:
    if len(values) != len(images):
        raise UsageError(name, f"{len(values)} of them", wanted=f"one for each of {len(images)} images")


def behind(progress: Progress, before: int, whole: int) -> Progress:
    """Return a Progress for the rest of a stage of which ``before`` of the ``whole`` are done."""

    def told(stage: str, done: int, total: int) -> None:
        progress(stage, before + done, whole)

    return told
