import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.core.types import Example
from cocabench.data.webdataset import WebDataset, samples_of
from tests.data.drawing import Members, encoded, write, write_tar


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


def classified(root: Path, *shards: Members, **extra: str) -> list[Example]:
    """Return the samples of shards as we read them, checked to be what clip-benchmark reads of the same folder."""
    from clip_benchmark.datasets import builder

    for number, members in enumerate(shards):
        write_tar(root / f"wds/test/{number}.tar", members)
    write(root / "wds/test/nshards.txt", str(len(shards)))
    for name, text in {"classnames": "a\nb\nc\n", "zeroshot_classification_templates": "{c}\n", **extra}.items():
        write(root / f"wds/{name}.txt", text)
    peer = builder.build_wds_dataset("x", transform=lambda image: image, data_dir=str(root / "wds"))
    data = WebDataset(path="wds").build(root)

    def target(value: Any) -> Any:
        return tuple(np.flatnonzero(value).tolist()) if isinstance(value, np.ndarray) else value

    theirs = [(image.getpixel((0, 0)), target(label)) for image, label in peer]
    ours = [(e.image.open().convert("RGB").getpixel((0, 0)), list(e.texts) or e.label) for e in data.examples]
    assert ours == theirs
    return list(data.examples)


def batch(colours: str, labels: str, first: int = 0) -> list[tuple[str, bytes | str]]:
    """Return the members of samples 0000, 0001 …: r, g or b, and their labels."""
    names = {"r": "red", "g": "lime", "b": "blue"}
    pairs = enumerate(zip(colours, labels, strict=True), first)
    return [part for k, (c, label) in pairs for part in ((f"{k:04}.png", encoded(names[c])), (f"{k:04}.cls", label))]


def vector(*numbers: float, shape: tuple[int, ...] | None = None) -> bytes:
    file = io.BytesIO()
    array = np.array(numbers)
    np.save(file, array if shape is None else array.reshape(shape))
    return file.getvalue()


AS_CLIP_BENCHMARK: dict[str, tuple[list[Members], dict[str, str], list[str], list[Any]]] = {
    "a batch appended with the same keys": (
        [batch("rg", "01") + batch("bb", "20")], {}, ["0000", "0001", "0000#2", "0001#2"], [0, 1, 2, 0],
    ),
    "shards that restart their numbers": (
        [batch("rg", "01"), batch("bb", "20")], {}, ["0/0000", "0/0001", "1/0000", "1/0001"], [0, 1, 2, 0],
    ),
    "a one-number .npy beside .cls": (
        [{"a.png": encoded(), "a.cls": "2", "a.npy": vector(7, shape=())}], {}, ["a"], [2],
    ),
    ".npy is the label of multi-label data, beside .cls too": (
        [{"a.png": encoded(), "a.cls": "2", "a.npy": vector(1, 0, 1)}], {"dataset_type": "Multilabel"}, ["a"], [(0, 2)],
    ),
    "png before jpg, webp before png": (
        [{
            "a.jpg": encoded("red", kind="JPEG"), "a.png": encoded("lime"), "a.cls": "0",
            "b.jpeg": encoded("red", kind="JPEG"), "b.jpg": encoded("blue", kind="JPEG"), "b.cls": "1",
            "c.png": encoded("red"), "c.webp": encoded("blue", kind="WEBP"), "c.cls": "2",
        }], {}, ["a", "b", "c"], [0, 1, 2],
    ),
    "what webdataset skips": (
        [{"README": "x", "__meta__/x.json": "{}", "a.png": encoded(), "._a.png": "x", "a.cls": "1"}], {}, ["a"], [1],
    ),
    "a type in capitals": (
        [{"a.png": encoded(), "a.cls": "1", "a.txt": "x"}], {"dataset_type": " Retrieval\n"}, ["a"], [None],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:WebDataset", "ignore::ResourceWarning")
@pytest.mark.parametrize(("members", "extra", "ids", "labels"), AS_CLIP_BENCHMARK.values(), ids=AS_CLIP_BENCHMARK)
def test_read_as_clip_benchmark_reads_it(
    members: list[Members], extra: dict[str, str], ids: list[str], labels: list[Any], tmp_path: Path
) -> None:
    found = classified(tmp_path, *members, **extra)
    assert [(example.id, example.label) for example in found] == list(zip(ids, labels, strict=True))


def test_what_a_reader_must_know_of_keys_is_noted(tmp_path: Path) -> None:
    write_tar(tmp_path / "wds/0.tar", [*batch("r", "0"), ("0000.jpg", encoded(kind="JPEG")), *batch("rg", "00", 1)])
    assert [note.text for note in WebDataset(path="wds").build(tmp_path).notes] == [
        "1 sample has several images; the first of webp, png, jpg, jpeg is read (of '0000', with png, jpg, png)"
    ]
    write_tar(tmp_path / "wds/0.tar", batch("rg", "00") + batch("rg", "00"))
    assert [note.text for note in WebDataset(path="wds").build(tmp_path).notes] == [
        "2 keys occur again in their shard and are samples of their own there: 0000, 0001"
    ]


def test_images_before_all_labels_are_their_samples(tmp_path: Path) -> None:
    members = {"a.png": encoded(), "b.png": encoded(), "a.cls": "1", "b.cls": "2"}
    write_tar(tmp_path / "wds/0.tar", members)
    assert [(e.id, e.label) for e in WebDataset(path="wds").build(tmp_path).examples] == [("a", 1), ("b", 2)]


def test_neighbours_with_one_key_are_an_error_that_names_key_and_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "wds/0.tar", [*batch("r", "0"), *batch("g", "1")])
    with pytest.raises(DataError, match=r"wds/0\.tar: two \.png in a row with the key '0000'; wanted a key of its own"):
        WebDataset(path="wds").build(tmp_path)


def test_a_shard_that_git_lfs_did_not_fetch(tmp_path: Path) -> None:
    write(tmp_path / "wds/0.tar", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"0\.tar: a Git LFS pointer, not the file itself; run `git lfs pull`"):
        WebDataset(path="wds").build(tmp_path)


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
        samples_of(shard)


BAD = {
    "no image": ({"a.cls": "1"}, r"sample 'a' has no image, only cls"),
    "no label": ({"a.png": encoded()}, r"sample 'a': no label that can be read \('cls'\)"),
    "label is text": ({"a.png": encoded(), "a.cls": "cat"}, r"sample 'a': no label that can be read"),
    "no captions": ({"a.png": encoded(), "a.txt": "\n"}, "captions missing for 1 of 1 images: a"),
    "some captions": ({"a.png": encoded(), "b.png": encoded(), "b.txt": "x"}, "captions missing for 1 of 2 images: a"),
    "empty": ({}, "no images"),
    "negative label": ({"a.png": encoded(), "a.cls": "-1"}, "1 image with negative labels: a"),
    "no vector": (
        {"a.png": encoded(), "a.npy": vector(1, shape=())},
        r"sample 'a': .*shape \(\).*wanted a vector of 0",
    ),
    "an embedding": (
        {"a.png": encoded(), "a.npy": vector(0.5, 1)},
        r"sample 'a': .*other numbers.*wanted a vector of 0",
    ),
}


@pytest.mark.parametrize(("members", "message"), BAD.values(), ids=BAD)
def test_bad_samples(members: dict[str, bytes | str], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "wds/0.tar", members)
    with pytest.raises(DataError, match=message):
        WebDataset(path="wds").build(tmp_path)


def test_labels_without_class_and_vectors_of_other_classes(tmp_path: Path) -> None:
    shards(tmp_path, classnames="cat\n")
    with pytest.raises(DataError, match="2 images with labels beyond the 1 class: s0, s2"):
        WebDataset(path="wds").build(tmp_path)
    write_tar(tmp_path / "wds/test/0.tar", {"a.png": encoded(), "a.npy": vector(1, 0)})
    write_tar(tmp_path / "wds/test/1.tar", {"b.png": encoded(), "b.npy": vector(1, 0)})
    with pytest.raises(DataError, match=r"sample 'a': .*2 numbers\); wanted one for each of the 1 classes"):
        WebDataset(path="wds").build(tmp_path)


def test_an_unknown_type_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset_type\.txt: 'captions'; wanted classification or multilabel or ret"):
        WebDataset(path="wds").build(shards(tmp_path, dataset_type="Captions"))


def test_shards_beyond_nshards_are_noted(tmp_path: Path) -> None:
    (shards(tmp_path) / "wds/test/nshards.txt").write_text("1")
    data = WebDataset(path="wds").build(tmp_path)
    assert (len(data), data.notes) == (
        2, (("left_out_files", "1 shards that nshards.txt does not count were not read: 1.tar"),)
    )  # fmt: skip


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
