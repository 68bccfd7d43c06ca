import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.webdataset import WebDataset, index
from tests.data.drawing import encoded, write, write_tar


def shards(root: Path, **extra: str) -> Path:
    """Write CLIP_benchmark's layout of 3 labelled images in 2 shards."""
    write_tar(
        root / "wds/test/0.tar", {"s0.webp": encoded(kind="WEBP"), "s0.cls": "1", "s1.cls": "0", "s1.PNG": encoded()}
    )
    write_tar(root / "wds/test/1.tar", {"s2.jpg": encoded(kind="JPEG"), "s2.cls": "1"})
    write(root / "wds/test/nshards.txt", "2\n")
    write(root / "wds/classnames.txt", "cat\nred fox\n")
    write(root / "wds/zeroshot_classification_templates.txt", "a photo of a {c}.\n{c}\n")
    for name, text in extra.items():
        write(root / "wds" / f"{name}.txt", text)
    return root


def test_clip_benchmarks_layout(tmp_path: Path) -> None:
    data = WebDataset(path="wds").build(shards(tmp_path))
    assert [(e.id, e.label, e.texts) for e in data.examples] == [("s0", 1, ()), ("s1", 0, ()), ("s2", 1, ())]
    assert [e.image.open().format for e in data.examples] == ["WEBP", "PNG", "JPEG"]
    assert (data.classes, data.templates) == (("cat", "red fox"), ("a photo of a {c}.", "{c}"))


@pytest.mark.filterwarnings("ignore:WebDataset", "ignore::ResourceWarning")
def test_what_clip_benchmark_exports_is_read_as_it_reads_it(tmp_path: Path) -> None:
    from clip_benchmark.datasets import builder

    shards(tmp_path)
    peer = builder.build_wds_dataset("x", transform=lambda image: image, data_dir=str(tmp_path / "wds"))
    data = WebDataset(path="wds").build(tmp_path)
    assert [label for _, label in peer] == [example.label for example in data.examples]
    assert (tuple(peer.classes), tuple(peer.templates)) == (data.classes, data.templates)


def test_captions_are_lines(tmp_path: Path) -> None:
    members = {"a/00.jpg": encoded(kind="JPEG"), "a/00.txt": "one\r\ntwo\n", "a/00.json": "{}", "b/00.png": encoded()}
    write_tar(tmp_path / "wds/10.tar", {"c.png": encoded(), "c.txt": "four"})
    write_tar(tmp_path / "wds/2.tar", members | {"b/00.txt": "three"})
    data = WebDataset(path="wds").build(tmp_path)
    found = [(e.id, e.texts) for e in data.examples]
    assert found == [("a/00", ("one", "two")), ("b/00", ("three",)), ("c", ("four",))]
    assert data.classes == ()


def test_multilabel_vectors(tmp_path: Path) -> None:
    vector = io.BytesIO()
    np.save(vector, np.array([1, 0, 1]))
    write_tar(tmp_path / "wds/0.tar", {"a.png": encoded(), "a.npy": vector.getvalue()})
    assert WebDataset(path="wds").build(tmp_path).examples[0].label == (0, 2)


def test_pickled_labels_are_refused(tmp_path: Path) -> None:
    vector = io.BytesIO()
    np.save(vector, np.array([{}], dtype=object))
    write_tar(tmp_path / "wds/0.tar", {"a.png": encoded(), "a.npy": vector.getvalue()})
    with pytest.raises(DataError, match="no label that can be read"):
        WebDataset(path="wds").build(tmp_path)


def test_fewer_shards_than_promised(tmp_path: Path) -> None:
    (shards(tmp_path) / "wds/test/nshards.txt").write_text("4")
    with pytest.raises(MissingDataError, match=r"2 of 4 shards \(nshards\.txt\); missing: 2\.tar, 3\.tar"):
        WebDataset(path="wds").build(tmp_path)


def test_missing_and_compressed_shards(tmp_path: Path) -> None:
    (tmp_path / "wds").mkdir()
    with pytest.raises(MissingDataError, match=r"no shards; wanted \*\.tar, not compressed"):
        WebDataset(path="wds").build(tmp_path)
    write_tar(tmp_path / "wds/0.tar.gz", {"a.png": encoded()}, "w:gz")
    with pytest.raises(MissingDataError, match=r"compressed shards \(0\.tar\.gz\)"):
        WebDataset(path="wds").build(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    shard = shards(tmp_path) / "wds/test/0.tar"
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(DataError, match=r"0\.tar: a truncated tar, or none"):
        index(shard)


BAD = {
    "no image": ({"a.cls": "1"}, r"sample 'a' has no image, only cls"),
    "no label": ({"a.png": encoded()}, r"sample 'a': no label that can be read \('cls'\)"),
    "label is text": ({"a.png": encoded(), "a.cls": "cat"}, r"sample 'a': no label that can be read"),
    "no captions": ({"a.png": encoded(), "a.txt": "\n"}, "captions missing for 1 of 1 images: a"),
    "some captions": ({"a.png": encoded(), "b.png": encoded(), "b.txt": "x"}, "captions missing for 1 of 2 images: a"),
    "empty": ({}, "no images"),
}


@pytest.mark.parametrize(("members", "message"), BAD.values(), ids=BAD)
def test_bad_samples(members: dict[str, bytes | str], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "wds/0.tar", members)
    with pytest.raises(DataError, match=message):
        WebDataset(path="wds").build(tmp_path)


def test_keys_that_repeat_and_labels_without_class(tmp_path: Path) -> None:
    shards(tmp_path, classnames="cat\n")
    with pytest.raises(DataError, match="2 images with labels beyond the 1 classes: s0, s2"):
        WebDataset(path="wds").build(tmp_path)
    write_tar(tmp_path / "wds/test/1.tar", {"s0.jpg": encoded(kind="JPEG"), "s0.cls": "1"})
    with pytest.raises(DataError, match="1 ids occur more than once: s0"):
        WebDataset(path="wds").build(tmp_path)


def test_an_nshards_that_is_no_number(tmp_path: Path) -> None:
    (shards(tmp_path) / "wds/test/nshards.txt").write_text("two")
    with pytest.raises(DataError, match=r"nshards\.txt: 'two'; wanted the number of shards"):
        WebDataset(path="wds").build(tmp_path)


def test_an_array_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    vector = io.BytesIO()
    np.lib.format.write_array_header_1_0(vector, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    write_tar(tmp_path / "wds/0.tar", {"a.png": encoded(), "a.npy": vector.getvalue()})
    with pytest.raises(DataError, match=r"an array of 1,000,000,000,000 values in \d+ bytes"):
        WebDataset(path="wds").build(tmp_path)


def test_a_member_of_20_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "wds/0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("a.cls")
        member.size = 20 * 10**9
        tar.addfile(member)
    with path.open("r+b") as file:
        file.truncate(20 * 10**9 + 2048)  # sparse: it takes no room
    with pytest.raises(DataError, match=r"a\.cls: 20,000,000,000 bytes .*COCABENCH_MAX_MEMBER_BYTES=20000000000"):
        WebDataset(path="wds").build(tmp_path)


def test_a_pipe_among_shards_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "wds").mkdir()
    os.mkfifo(tmp_path / "wds/0.tar")
    with pytest.raises(DataError, match="a pipe or device"):
        WebDataset(path="wds").build(tmp_path)
