"""Content hashes of images: those of their files, in order, however many a thread reads at once."""

import hashlib
from pathlib import Path

import pytest

from cocabench.core.cache import MemoryCache
from cocabench.data.images import FileImage
from cocabench.models import contents


@pytest.mark.parametrize("n", [0, 1, 63, 64, 200, 1100])
def test_each_image_gets_the_hash_of_its_own_file(tmp_path: Path, n: int) -> None:
    images = [FileImage(tmp_path / str(k)) for k in range(n)]
    for k, image in enumerate(images):
        if k != 7:
            image.path.write_bytes(b"%d" % k)
    wanted = [None if k == 7 else hashlib.sha256(b"%d" % k).digest()[:16] for k in range(n)]
    assert list(contents.of_images(images, MemoryCache()).keys) == wanted
