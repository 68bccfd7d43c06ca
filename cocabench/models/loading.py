"""Batches of images: decoded and transformed in workers; bad files are errors or skipped.

Workers are not forked from the running process, in which a thread (the progress bar's) may hold a lock. They are forked
from a server process that has imported the required modules.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from multiprocessing import forkserver, get_all_start_methods, get_context, util
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cocabench.core.errors import BadImageError, CocabenchError, UsageError, first_line
from cocabench.core.helpers import cores, end_with_parent
from cocabench.core.temporary import place_sockets
from cocabench.core.types import ImageSource
from cocabench.data.images import NeutralImage, WatermarkedImage, is_identified, shown
from cocabench.models.contents import HASH_BYTES
from cocabench.models.pixels import Split, Transform, split

MIN_CORES_FOR_EARLY_START = 4
"""With this many cores one is free while a model is loaded."""


class Batch(NamedTuple):
    """pixels (k, 3, h, w) and the positions (k,) of these images in the input; done: number of images processed.

    pixels: uint8 if the transform can be split, to be finished on the device (``pixels.split``); a list of k if it does
    not return tensors. hashes: of the finished pixels of each image.
    """

    pixels: torch.Tensor | list[Any]
    positions: NDArray[np.int64]
    done: int
    hashes: list[bytes]


def once_in_a_row(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (k, 3, h, w) without those that equal the one before, as one image's questions have it several
    times, and the place (k,) of each among those that are left; pixels themselves where all differ."""
    new = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
    new[1:] = (pixels[1:] != pixels[:-1]).flatten(1).any(1)
    return pixels if bool(new.all()) else pixels[new], new.cumsum(0) - 1


class _Images(Dataset[Any]):
    """Images by their source, so that each source is sent once, to its worker; or by their number.

    Sources of third-party data sets may each hold the whole data set: such are sent once to every worker.
    """

    def __init__(self, sources: Sequence[ImageSource], transform: Transform) -> None:
        light = all(is_identified(source) for source in sources)
        self.keys: Sequence[ImageSource | int] = sources if light else range(len(sources))
        self.sources, self.parts = () if light else sources, split(transform)

    def __getstate__(self) -> dict[str, Any]:
        return {"keys": (), "sources": self.sources, "parts": self.parts}

    def __getitems__(self, keys: Sequence[ImageSource | int]) -> list[Any]:
        """Return the items of a batch. Sources that it has several times, as images with questions, are read once."""
        sources = [self.sources[key] if isinstance(key, int) else key for key in keys]
        read = {id(source): self[source] for source in {id(source): source for source in sources}.values()}
        return self._alike([read[id(source)] for source in sources])

    def __getitem__(self, source: ImageSource) -> Any:
        try:
            image = shown(source)
            marked = isinstance(source, WatermarkedImage)
            pixels = _marked(self.parts.transform, image) if marked else self._read(image, source)
            if isinstance(source, NeutralImage):
                pixels = _neutral(self.parts.finish(pixels))
            return pixels, self.parts.hash(pixels) if isinstance(pixels, torch.Tensor) else _hash(image)
        except CocabenchError as error:  # returned, not raised: a worker's exception would lose its class
            return error

    def _read(self, image: Image.Image, source: ImageSource) -> Any:
        """Return the pixels of an image; BadImageError if torchvision refuses it, as one that would become 0 high."""
        try:
            return self.parts.read(image)
        except ValueError as error:
            if not isinstance(self.parts, Split):
                raise
            got = f"{image.width} x {image.height}, which the model's preprocessing refuses ({first_line(error)})"
            raise BadImageError(str(source), got, fix="--skip-bad-images skips it") from None

    def _alike(self, items: list[Any]) -> list[Any]:
        """Finish all images of a batch if one is finished already, as neutral and watermarked ones are."""
        good = [item for item in items if not isinstance(item, CocabenchError)]
        if len({pixels.dtype for pixels, _ in good if isinstance(pixels, torch.Tensor)}) < 2:
            return items
        return [item if isinstance(item, CocabenchError) else (self.parts.finish(item[0]), item[1]) for item in items]


def _neutral(pixels: Any) -> torch.Tensor:
    if not isinstance(pixels, torch.Tensor):
        got = f"a transform that returns a {type(pixels).__name__}"
        raise UsageError("neutral image", got, wanted="a tensor, of which zeros are the neutral image")
    return torch.zeros_like(pixels)


def _marked(transform: Transform, image: Image.Image) -> torch.Tensor:
    """Return a transform's pixels with ImageNet-W's watermark, drawn as large as the image is by then.

    As clip-benchmark 1.6.2 inserts it before torchvision's Normalize; it takes the size of CenterCrop, which is that of
    the image there, so that transforms that resize to a square without cropping have one too.
    """
    from torchvision.transforms import Compose, Normalize

    steps = list(getattr(transform, "transforms", ()))
    at = next((k for k, step in enumerate(steps) if isinstance(step, Normalize)), None)
    if at is None:
        wanted = "torchvision's Compose with Normalize, as open_clip's: the watermark is drawn before that"
        raise UsageError("watermark", f"a model whose transform is a {type(transform).__name__}", wanted=wanted)
    pixels = Compose(steps[:at])(image)
    return torch.as_tensor(Compose(steps[at:])(_watermark(min(pixels.shape[-2:]))(pixels)))


@cache
def _watermark(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what draws the watermark into images (3, h, w) of 0-1. size: of their shorter side, in pixels."""
    from imagenet_w import AddWatermark

    return AddWatermark(size)  # type: ignore[no-any-return]


def _hash(image: Image.Image) -> bytes:
    """Return a hash of an image of which a model sees no tensor."""
    head = f"{image.mode} {image.size} {image.getpalette()}"
    return hashlib.sha256(head.encode() + image.tobytes()).digest()[:HASH_BYTES]


def batches(
    sources: Sequence[ImageSource],
    transform: Transform,
    *,
    batch_size: int,
    workers: int | None,
    skip_bad: bool,
    pin: bool = False,
    preload: str = "",
    host_start: bool = False,
) -> Iterator[Batch]:
    """Yield the readable images in order. The first unreadable one raises BadImageError unless skip_bad.

    pin: copy pixels to page-locked memory in a thread, while a GPU computes the previous batch.
    preload: see ``worker_context``. host_start: see ``Hardware``.
    """
    images = _Images(sources, transform)
    asked = default_workers(len(sources), for_gpu=pin) if workers is None else workers
    n = asked if asked and _can_travel(images, sources) else 0
    loader = DataLoader(
        images,
        batch_sampler=[list(images.keys[start : start + batch_size]) for start in range(0, len(sources), batch_size)],
        num_workers=n,
        collate_fn=_collated,
        worker_init_fn=start_worker if n else None,
        generator=torch.Generator(),  # loading must not change the global random state, for example of a training loop
        pin_memory=pin,
        multiprocessing_context=worker_context(preload, host_start=host_start) if n else None,
    )
    start = 0
    for read in _unless_killed(loader):
        for error in read.errors:
            if not (skip_bad and isinstance(error, BadImageError)):
                raise error
        if len(read.good):
            yield Batch(read.pixels, start + np.array(read.good, np.int64), start + read.n, read.hashes)
        start += read.n


def start_worker(*_: object) -> None:
    """Prepare a process that reads images: it ends with its parent, and its sockets' paths are short."""
    end_with_parent()
    if torch.multiprocessing.get_sharing_strategy() == "file_system":  # whose helper takes TMPDIR
        os.environ["TMPDIR"] = util.get_temp_dir()


def _unless_killed(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield what a loader reads; CocabenchError where a process of it was killed, as where memory is full."""
    try:
        yield from loader
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        # torch says so itself, or the socket on which the process was handing over a batch is gone; what a process
        # raised begins with "Caught"
        gone = not isinstance(error, RuntimeError) and not str(error).startswith("Caught")
        if not gone and not str(error).startswith("DataLoader worker"):
            raise
        got, fix = "a process that reads images was killed", "rerun to resume; --workers 0, or fewer, takes less memory"
        raise CocabenchError("--workers", got, fix=fix) from None


def _can_travel(images: _Images, sources: Sequence[ImageSource]) -> bool:
    """Return whether the images can be pickled for workers; a plugin's may not be."""
    try:
        ForkingPickler.dumps((images, sources[:1]))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


class _Read(NamedTuple):
    """pixels (k, 3, h, w) of the readable images, their hashes and positions good among n, and the others' errors."""

    pixels: torch.Tensor | list[Any]
    hashes: list[bytes]
    good: list[int]
    errors: list[CocabenchError]
    n: int


def _collated(items: list[Any]) -> _Read:
    """Stack a batch, in the worker that read it."""
    good = [i for i, item in enumerate(items) if not isinstance(item, CocabenchError)]
    errors = [item for item in items if isinstance(item, CocabenchError)]
    pixels, hashes = [items[i][0] for i in good], [items[i][1] for i in good]
    tensors = bool(pixels) and all(isinstance(one, torch.Tensor) for one in pixels)
    return _Read(torch.stack(pixels) if tensors else pixels, hashes, good, errors, len(items))


def default_workers(n_images: int, *, for_gpu: bool = False) -> int:
    """Return 0 for few images, since starting workers would take longer; else one per two cores, at most 8.

    for_gpu: one fewer than the cores, since a GPU takes more images than all of them can read.
    """
    if n_images < 512:
        return 0
    return max(1, cores() - 1 if for_gpu else min(8, cores() // 2))


def worker_context(preload: str = "", *, host_start: bool = False) -> BaseContext:
    """Return the multiprocessing context of the server; the first worker starts the server.

    preload: the module of the transform. Its imports may take seconds, and the server does them once for all workers.
    host_start: see ``Hardware``. Raises UsageError where no folder is short enough for sockets.
    """
    place_sockets()
    if host_start:
        return get_context()
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["cocabench.core.server", __name__, *({preload} - {"", "__main__"})])
    return context


def start_server(workers: int | None, preload: str) -> None:
    """Start the server early, which takes seconds, if a core is free. workers: None if not known yet."""
    if workers != 0 and cores() >= MIN_CORES_FOR_EARLY_START and "forkserver" in get_all_start_methods():
        worker_context(preload)
        forkserver.ensure_running()
