"""Batches of images: order, bad files, and the same from a worker as from this process."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_benchmark.datasets.builder import build_dataset
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose, ToTensor

from cocabench.core import temporary
from cocabench.core.errors import BadImageError, CocabenchError, UsageError
from cocabench.data.imagenet import ImageNet
from cocabench.data.images import FileImage, identity, stamp
from cocabench.models import loading
from cocabench.models.loading import Batch, _unless_killed, batches
from cocabench.models.pixels import split

BAD = {2, 3, 7}


@dataclass(frozen=True)
class Source:
    shade: int

    def open(self) -> Image.Image:
        if self.shade in BAD:
            raise BadImageError(str(self.shade), "no image")
        return Image.new("L", (2, 2), self.shade)


def transform(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))[None]


def loaded(n: int, *, skip_bad: bool = True, workers: int = 0) -> Iterator[Batch]:
    return batches([Source(i) for i in range(n)], transform, batch_size=2, workers=workers, skip_bad=skip_bad)


def test_a_palette_with_transparency_is_read_as_its_colours_without_a_warning(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([9, 8, 7, 30, 20, 10])
    picture.save(tmp_path / "a.png", transparency=bytes([255, 128]))
    file = FileImage(tmp_path / "a.png")
    assert isinstance(file.open().info["transparency"], bytes)

    def rgb(image: Image.Image) -> torch.Tensor:
        return transform(image.convert("RGB"))

    (batch,) = batches([file], rgb, batch_size=1, workers=0, skip_bad=False)
    assert batch.pixels[0, 0, 0, 0].tolist() == [30, 20, 10]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_order_without_the_bad_ones(workers: int) -> None:
    found = list(loaded(9, workers=workers))
    assert [batch.positions.tolist() for batch in found] == [[0, 1], [4, 5], [6], [8]]
    assert [batch.pixels[:, 0, 0, 0, 0].tolist() for batch in found] == [[0, 1], [4, 5], [6], [8]]
    assert [batch.done for batch in found] == [2, 6, 8, 9]


def test_the_first_bad_one_is_an_error_that_names_it() -> None:
    found = loaded(9, skip_bad=False)
    assert next(found).done == 2
    with pytest.raises(BadImageError, match="2"):
        next(found)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_too_thin_to_be_resized_is_named_or_skipped(workers: int, tmp_path: Path) -> None:
    for size in ((30, 20), (1, 5000)):
        Image.new("RGB", size).save(tmp_path / f"{size[0]}.png")
    images = [FileImage(tmp_path / name) for name in ("30.png", "1.png")]
    longest = image_transform(40, is_train=False, resize_mode="longest")
    read = partial(batches, images, longest, batch_size=4, workers=workers)
    with pytest.raises(BadImageError, match=r"1\.png: 1 x 5000, which .* \(height and width must be > 0\); --skip-bad"):
        next(read(skip_bad=False))
    assert [batch.positions.tolist() for batch in read(skip_bad=True)] == [[0]]


def test_images_that_cannot_be_sent_to_a_worker_are_read_here() -> None:
    found = list(batches([Source(9)], lambda image: transform(image), batch_size=2, workers=1, skip_bad=False))
    assert [batch.pixels[:, 0, 0, 0, 0].tolist() for batch in found] == [[9]]


class Named(Source):
    """A source that says what it is."""

    def identity(self) -> bytes:
        return b"%d" % self.shade

    def stamp(self) -> str:
        return ""


LOCK = threading.Lock()


def locking(image: Image.Image) -> torch.Tensor:
    """Return the process that reads, which needs a lock for it."""
    assert LOCK.acquire(timeout=1), "held by a thread of another process, for ever"
    LOCK.release()
    return torch.tensor([os.getpid()])


@pytest.mark.parametrize("kind", [Source, Named])
def test_workers_are_no_copies_of_a_process_in_which_a_thread_holds_a_lock(kind: type[Source]) -> None:
    sources = [kind(shade) for shade in (0, 1, 4, 5, 6)]
    with LOCK:
        found = list(batches(sources, locking, batch_size=2, workers=2, skip_bad=False))
    assert os.getpid() not in torch.cat([batch.pixels[:, 0] for batch in found]).tolist()
    assert [batch.positions.tolist() for batch in found] == [[0, 1], [2, 3], [4]]


READING = """
import multiprocessing, sys
from multiprocessing import util
import torch
from cocabench.models.loading import batches
from tests.models.test_loading import Named, transform

if __name__ == "__main__":
    sharing, start = sys.argv[1:]
    torch.multiprocessing.set_sharing_strategy(sharing)
    multiprocessing.set_start_method(start)
    how = {"batch_size": 2, "workers": 2, "skip_bad": True, "host_start": start != "forkserver"}
    read = [batch.pixels.flatten(1)[:, 0] for batch in batches([Named(i) for i in range(8)], transform, **how)]
    print(torch.cat(read).tolist(), util.get_temp_dir())
"""


@pytest.mark.slow
@pytest.mark.parametrize("sharing", sorted(torch.multiprocessing.get_all_sharing_strategies()))
@pytest.mark.parametrize("start", ["forkserver", "fork"])
def test_workers_whose_sockets_do_not_fit_into_tmpdir(sharing: str, start: str, tmp_path: Path) -> None:
    long = tmp_path / ("scratch" * 15)
    long.mkdir()
    order = [sys.executable, "-c", READING, sharing, start]
    done = subprocess.run(
        order, env={**os.environ, "TMPDIR": str(long)}, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0, 1, 4, 5, 6] /"), done.stdout
    folder = Path(done.stdout.split()[-1])
    assert not folder.is_relative_to(long)
    assert not folder.exists()
    assert not list(long.iterdir())


def test_no_folder_is_short_enough_for_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("scratch" * 15)))
    assert temporary.folder_for_sockets(20) in temporary.SHORT_FOLDERS
    monkeypatch.setattr(temporary, "SHORT_FOLDERS", (tmp_path / "absent",))
    with pytest.raises(
        UsageError, match=r"^TMPDIR=.*: its path has \d+ bytes, too many for sockets; wanted .*; set TMPDIR"
    ):
        temporary.folder_for_sockets(20)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "that reads images was killed"),
        (EOFError(), "that reads images was killed"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."), "that reads images was killed"),
        (FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0."), "Caught FileNotFoundError"),
        (RuntimeError("out of memory"), "out of memory"),
    ],
)
def test_a_killed_process_is_one_line_wherever_it_was(error: Exception, said: str) -> None:
    def broken() -> Iterator[None]:
        yield None
        raise error

    with pytest.raises(CocabenchError if "killed" in said else type(error), match=said):
        list(_unless_killed(broken()))


SIZES = {"n01440764": (96, 64), "n01443537": (40, 120)}
"""Synsets of two classes, with the width and height of an image of each."""


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Write two images of ImageNet's validation, with the file that torchvision keeps beside them."""
    top = tmp_path / "imagenet1k"
    for k, (synset, size) in enumerate(SIZES.items()):
        (top / "val" / synset).mkdir(parents=True)
        noise = np.random.default_rng(k).integers(0, 255, (*size[::-1], 3), np.uint8)
        Image.fromarray(noise).save(top / "val" / synset / f"ILSVRC2012_val_{k + 1:08d}.JPEG", quality=95)
    torch.save(({synset: (synset,) for synset in SIZES}, []), top / "meta.bin")
    return top


def marked(root: Path, transform: Compose, workers: int = 0) -> torch.Tensor:
    images = [example.image for example in ImageNet(path="imagenet1k", watermark=True).build(root).examples]
    (batch,) = batches(images, transform, batch_size=2, workers=workers, skip_bad=True)
    return torch.as_tensor(batch.pixels)


@pytest.mark.parametrize("size", [32, 224])
def test_a_watermark_is_drawn_as_clip_benchmark_draws_imagenet_w(imagenet: Path, size: int) -> None:
    names = imagenet / "names.json"  # without them its own branch fails: it reads the custom names alone
    names.write_text('{"imagenet1k": ["a", "b"], "imagenet-w": ["a", "b"]}')
    theirs = build_dataset(
        "imagenet-w", str(imagenet), image_transform(size, is_train=False), custom_classname_file=str(names)
    )
    wanted = torch.stack([theirs[k][0] for k in range(2)])
    found = marked(imagenet.parent, image_transform(size, is_train=False))
    assert torch.equal(found, wanted)
    plain = ImageNet(path="imagenet1k").build(imagenet.parent)
    (batch,) = batches(
        [example.image for example in plain.examples],
        image_transform(size, is_train=False),
        batch_size=2,
        workers=0,
        skip_bad=False,
    )
    unmarked = split(image_transform(size, is_train=False)).finish(batch.pixels)
    changed = (unmarked != found).float().mean((0, 1, 3))
    assert changed[: size * 2 // 5].max() == 0, "above the watermark, which begins at 40 % of the height"
    assert changed.max() > 1 / 4


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_watermark_needs_a_transform_that_normalises(imagenet: Path, workers: int) -> None:
    with pytest.raises(UsageError, match=r"watermark.*Normalize"):
        marked(imagenet.parent, Compose([ToTensor()]), workers)


def test_features_of_watermarked_images_are_kept_apart(imagenet: Path) -> None:
    pairs = zip(
        *(ImageNet(path="imagenet1k", watermark=mark).build(imagenet.parent).examples for mark in (False, True)),
        strict=True,
    )
    for plain, drawn in pairs:
        assert plain.id == drawn.id
        assert (identity(plain.image), stamp(plain.image)) != (identity(drawn.image), stamp(drawn.image))
        assert b"imagenet-w 1" in identity(drawn.image)


@pytest.mark.parametrize(
    ("images", "cores", "for_gpu", "wanted"),
    [(511, 16, True, 0), (512, 16, False, 8), (512, 64, False, 8), (512, 64, True, 63), (512, 1, True, 1)],
)
def test_a_gpu_is_fed_by_all_cores_but_one(
    images: int, cores: int, for_gpu: bool, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "cores", lambda: cores)
    assert loading.default_workers(images, for_gpu=for_gpu) == wanted
