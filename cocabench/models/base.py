"""The base class of models: batching, precision, halving on out-of-memory, NaN checks, deduplicated texts, progress.

A model library subclasses Model, passes a transform, and implements the hooks that it supports. Hooks get one batch, on
the device and in the right precision, and return rows of any scale on any device. Streams yield a checked part per
batch; the methods that evaluations call join these parts (``streams.Joined``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cocabench.core.errors import ModelError, NotACaptionerError, NumericsError
from cocabench.core.types import (
    Ability,
    Captions,
    Features,
    ImageOutput,
    ImageSource,
    Likelihoods,
    Note,
    Progress,
    Workload,
    silent,
)
from cocabench.models.contexts import in_precision
from cocabench.models.hardware import Hardware
from cocabench.models.interactive import Interactive, Word
from cocabench.models.loading import Batch, batches
from cocabench.models.pixels import Transform, split
from cocabench.models.streams import Encoded, Joined, behind, check_one_for_each
from cocabench.models.tokens import TokenCounts

TEXTS_PER_BLOCK = 2048
"""Distinct texts, in order of first appearance, are encoded in blocks of this size. A text's last bits depend on the
other texts of its block: another size would change half of all text features by 1e-7."""

TEXTS_PER_BATCH = 256
"""Texts per call of ``encode_text_batch``."""

OUT_OF_MEMORY = "can't allocate memory"
"""What torch's error says on a CPU; CUDA's has a class of its own."""

T = TypeVar("T")
Numbers = TypeVar("Numbers", bound=NDArray[Any])


class Continuation(NamedTuple):
    """A text to score, and a prefix (or '') whose tokens do not count."""

    prefix: str
    text: str


class CaptionBatch(NamedTuple):
    """Captions of k images. features: (k, d) unit rows of encode_images, if they were computed as a by-product."""

    texts: Sequence[str]
    scores: Sequence[float]
    truncated: Sequence[bool] = ()
    features: Tensor | None = None


class LogprobBatch(NamedTuple):
    """log p(text | image), including the end token, and tokens counted, both (k, m). features: as in CaptionBatch."""

    logprobs: Tensor
    n_tokens: Tensor
    features: Tensor | None = None


WriteCaptions = Callable[[Any, Tensor], CaptionBatch]
"""(pixels (k, 3, h, w), prompt indices (k,)) -> captions."""
ScoreCaptions = Callable[[Any, Tensor], LogprobBatch]
"""(pixels (k, 3, h, w), continuation indices (k, m)) -> likelihoods."""


class Model(Interactive, Joined):
    """A loaded checkpoint.

    transform: maps an image to a tensor; it is pickled to workers, the model is not. parameters: numbers per tower.
    notes: extended while the model runs (halved batches).
    """

    abilities: frozenset[Ability] = frozenset({"encode"})
    reader: Callable[..., Iterator[Batch]] = staticmethod(batches)
    """Reads images as ``loading.batches`` does; a worker of several devices passes on what it has read already."""

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

    @property
    def images_per_batch(self) -> int:
        """The hardware's largest batch."""
        return self.hardware.images_per_batch

    # Hooks, to be implemented by model libraries

    def encode_image_batch(self, pixels: Any) -> Tensor:
        """Return image features (k, d) in the space of the texts, normalized or not.

        pixels: (k, 3, h, w) on the device; a list of k if the transform does not return tensors.
        """
        raise ModelError(self.id, "a model that cannot encode images")

    def unnormalized_image_batch(self, pixels: Any) -> Tensor:
        """Return unnormalized image features (k, d). Override it if encode_image_batch normalizes."""
        return self.encode_image_batch(pixels)

    def pooled_image_batch(self, pixels: Any) -> Tensor:
        """Return image features (k, d) before the projection into the space of the texts."""
        raise ModelError(self.id, "a model without features before the projection", wanted="projected ones")

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        """Return text features (k, d) of k distinct texts, at any scale."""
        raise ModelError(self.id, "a model that cannot encode texts")

    def class_prompt(self, text: str) -> str:
        """Return a prompt of a class as the model was trained to be asked; other texts are encoded as they are."""
        return text

    def class_prompts(self, texts: Sequence[str]) -> list[str]:
        """Return ``class_prompt`` of each text."""
        return [self.class_prompt(text) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have, None if unknown. Texts that are cut keep their end token."""
        return None

    def encode_text_block(self, texts: list[str], progress: Progress) -> Tensor:
        """Return unit rows (n, d) of at most TEXTS_PER_BLOCK distinct texts. Override it to choose the batches."""
        parts: list[Tensor] = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            parts += self.run_batch("texts", self._unit_texts, texts[start : start + TEXTS_PER_BATCH])
            progress("texts", sum(map(len, parts)), len(texts))
        return torch.cat(parts)

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> WriteCaptions:
        """Check options and distinct prompts ('' for none) once; return a function that captions a batch."""
        raise NotACaptionerError(self.id, "a model that cannot caption", wanted="a CoCa or other captioner")

    def caption_scorer(self, continuations: Sequence[Continuation]) -> ScoreCaptions:
        """Tokenize distinct continuations once; return a function that scores a batch."""
        raise NotACaptionerError(self.id, "a model that cannot score captions", wanted="a CoCa or other captioner")

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory on this device."""
        raise ModelError(self.id, "a model that cannot be profiled", wanted="one of open_clip's")

    def computing(self) -> AbstractContextManager[Any]:
        """Return a context manager to enter for each batch, inside the precision context."""
        return nullcontext()

    # Streams

    def stream_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> Iterator[Encoded]:
        """Yield the rows of each batch of images."""

        def encode(pixels: Any) -> OnTheWay:
            if output == "pooled":
                rows = self.pooled_image_batch(pixels)
            else:
                rows = self.encode_image_batch(pixels) if normalize else self.unnormalized_image_batch(pixels)
            self.check_rows("images", rows, len(pixels))
            # a copy: a model may return the same tensor each time, and the next batch comes before this one is read
            return OnTheWay(F.normalize(rows.float(), dim=-1) if normalize else rows.to(torch.float32, copy=True))

        for parts, kept, hashes in one_late(self._over_images("images", images, encode, progress)):
            found = torch.cat([part.arrived() for part in parts])
            yield Encoded(checked("features", found.numpy(), [images[i] for i in kept]), kept, hashes)

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
        """Yield the captions of each batch of images. Sampling restarts its random numbers with each batch."""
        each = [prompts or ""] * len(images) if prompts is None or isinstance(prompts, str) else prompts
        check_one_for_each("prompts", each, images)
        distinct, numbers = _numbered(each)
        write = self.captioner(options, distinct)
        for parts, kept, hashes in self._over_images("captions", images, write, progress, beside=torch.tensor(numbers)):
            read = [images[i] for i in kept]
            if (n := sum(len(part.texts) for part in parts)) != len(read):
                raise ModelError(self.id, f"{n} captions of {len(read)} images", wanted="one for each")
            written = Captions(
                [text for part in parts for text in part.texts],
                [score for part in parts for score in part.scores],
                kept,
                [cut for part in parts for cut in part.truncated],
            )
            checked("score", np.array(written.scores), read)
            yield written._replace(features=_made_on_the_way(parts, read), hashes=hashes)

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
        alike = len(set(map(id, texts))) == 1 == len(set(before))  # as the classes of a data set: one list for all
        rows = slice(1) if alike else slice(None)
        flat = [
            Continuation(prefix, text) for prefix, row in zip(before[rows], texts[rows], strict=True) for text in row
        ]
        distinct, numbers = _numbered(flat)
        score = self.caption_scorer(distinct)
        beside = torch.tensor(numbers).reshape(1 if alike else len(images), -1).expand(len(images), -1)
        for parts, kept, hashes in self._over_images("likelihoods", images, score, progress, beside=beside):
            read = [images[i] for i in kept]
            found = torch.cat([part.logprobs.cpu() for part in parts])
            if found.shape != (wanted := (len(read), beside.shape[1])):
                raise ModelError(self.id, f"log-probabilities of shape {tuple(found.shape)}", wanted=str(wanted))
            logprobs = checked("log-probabilities", found.numpy(), read)
            n_tokens = torch.cat([part.n_tokens.cpu() for part in parts]).numpy()
            yield Likelihoods(logprobs, n_tokens, kept, _made_on_the_way(parts, read), hashes)

    def score_words(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[list[Word]]:
        """Return the words of each image's text; their log-probabilities sum to what ``score_captions`` returns."""
        check_one_for_each("texts", texts, images)
        parts = self._over_images(
            "likelihoods", images, self.word_scorer(texts), silent, beside=torch.arange(len(texts))
        )
        return [list(words) for batch, _, _ in parts for part in batch for words in part]

    # Implementation

    def check_rows(self, what: str, rows: Any, n: int) -> None:
        """Raise ModelError unless rows are the features (n, d) of n images or texts."""
        shape = tuple(rows.shape) if isinstance(rows, Tensor) else ()
        if len(shape) != 2 or shape[0] != n or not shape[1]:
            got = f"of shape {shape}" if isinstance(rows, Tensor) else f"of type {type(rows).__name__}"
            raise ModelError(self.id, f"features {got} of {n} {what}", wanted=f"a tensor ({n}, d)")

    def check_ids(self, token_ids: Tensor, vocabulary: int) -> None:
        """Raise ModelError for token ids without an embedding; on a GPU they would end the process."""
        if token_ids.numel() and not 0 <= int(token_ids.min()) <= (most := int(token_ids.max())) < vocabulary:
            got = f"token id {most}, and the network's vocabulary has {vocabulary}"
            raise ModelError(self.id, got, wanted="the tokenizer that the network was trained with")

    def _unit_texts(self, texts: list[str]) -> Tensor:
        rows = self.encode_text_batch(texts)
        self.check_rows("texts", rows, len(texts))
        return unit(rows)

    def _over_images(
        self,
        stage: str,
        images: Sequence[ImageSource],
        work: Callable[..., T],
        progress: Progress,
        *,
        beside: Tensor | None = None,
    ) -> Iterator[tuple[list[T], NDArray[np.int64], list[bytes]]]:
        """Yield the result of work for each batch of pixels, and the images' positions and hashes.

        beside: a row per image (n, …), passed along. Unreadable images make their batch smaller; it is not filled up.
        """
        finish = split(self.transform).finish

        def finished(pixels: Any, *rows: Tensor) -> T:
            return work(finish(pixels), *rows)

        loaded = self.reader(
            images,
            self.transform,
            batch_size=self.images_per_batch,
            workers=self.hardware.workers,
            skip_bad=self.hardware.skip_bad_images,
            pin=self.hardware.on_gpu,
            preload=type(self).__module__,
            host_start=self.hardware.host_start,
        )
        for batch in loaded:
            rows = () if beside is None else (beside[batch.positions],)
            yield self.run_batch(stage, finished, batch.pixels, *rows), batch.positions, batch.hashes
            progress(stage, batch.done, len(images))

    def run_batch(self, kind: str, work: Callable[..., T], *inputs: Any) -> list[T]:
        """Run work on inputs of n each; after running out of memory, halve the batches of this kind of work for good.

        The first input is moved to the device.
        """
        n = len(inputs[0])
        size = min(n, self._batch_limits.get(kind, n))
        try:
            with in_precision(self.hardware), self.computing():
                return [work(*self._part(inputs, slice(at, at + size))) for at in range(0, n, size)]
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or OUT_OF_MEMORY in str(error)):
                raise
            if size == 1:
                got = f"out of memory with one sample on {self.hardware.device}"
                raise ModelError(self.id, got, fix="use --device cpu, another --precision or a smaller model") from None
        self._batch_limits[kind] = size // 2
        said = f"out of memory with {size} {kind} per batch; continued with {size // 2}"
        self.notes.append(Note("halved_batch", said))
        if self.hardware.on_gpu:
            torch.cuda.empty_cache()
        return self.run_batch(kind, work, *inputs)

    def _part(self, inputs: Sequence[Any], rows: slice) -> list[Any]:
        first, *rest = (one[rows] for one in inputs)
        return [first.to(self.hardware.device, non_blocking=True) if isinstance(first, Tensor) else first, *rest]


class OnTheWay:
    """Rows that a device computes and copies to the CPU meanwhile, in the order in which it was asked."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.copied = rows.to("cpu", non_blocking=rows.is_cuda), None
        if rows.is_cuda:  # other devices have no such event here: there the copy is waited for at once
            self.copied = torch.cuda.Event()
            self.copied.record()

    def arrived(self) -> Tensor:
        """Wait for the rows and return them."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.rows


def one_late(items: Iterable[T]) -> Iterator[T]:
    """Yield each item once the next one is made or has failed, so that a device computes that while this is read."""
    held, rest = list[T](), iter(items)
    while True:
        try:
            made = list(islice(rest, 1))
        except BaseException:  # Ctrl-C, too: what was computed before is kept
            yield from held
            raise
        yield from held
        if not made:
            return
        held = made


def unit(rows: Tensor) -> Tensor:
    """Return unit float32 rows on the CPU."""
    return F.normalize(rows.float(), dim=-1).cpu()


def check_finite_weights(where: str, net: torch.nn.Module) -> None:
    """Raise ModelError if a parameter or buffer of a checkpoint is not finite."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            fix = "use an earlier checkpoint"
            raise ModelError(where, f"NaN or infinity in {name}", wanted="finite weights", fix=fix)


def checked(what: str, values: Numbers, inputs: Sequence[object]) -> Numbers:
    """Return the values, (n,) or (n, d); NumericsError naming the first input with a non-finite row."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        got = f"NaN or infinity in the {what} of {len(bad)} of {len(inputs)}"
        fix = "the weights or the precision are broken; try --precision fp32"
        raise NumericsError(str(inputs[bad[0]]), got, wanted="finite numbers", fix=fix)
    return values


def _made_on_the_way(
    parts: Sequence[CaptionBatch] | Sequence[LogprobBatch], read: Sequence[ImageSource]
) -> Features | None:
    rows = [part.features for part in parts if part.features is not None]
    return checked("features", torch.cat(rows).numpy(), read) if len(rows) == len(parts) else None


def _numbered(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the distinct values in order of first appearance, and the index of each value among them."""
    place = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(place), [place[value] for value in values]
