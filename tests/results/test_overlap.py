"""Evaluation images that are in the training data: found by perceptual hashes, and left out of metrics."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from cocabench.core.cache import MemoryCache
from cocabench.core.errors import ResultsError, UsageError
from cocabench.data.images import BytesImage, FileImage
from cocabench.data.overlap import hashed, nearest, training_images
from cocabench.report import compared
from cocabench.results.overlap import Match, Overlap, TaskOverlap, cells, legend, lines, parts, read_overlap
from cocabench.results.records import read
from tests.conftest import Command
from tests.samples import classified, right


def picture(seed: int, size: int = 64) -> Image.Image:
    """Return a smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "PNG", **more: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def shard(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_nearest_by_hand() -> None:
    own = np.array([0b0000, 0b1111, 0xFFFF_FFFF_FFFF_FFFF], np.uint64)
    others = np.array([0b0111, 0b0001, 0b1110], np.uint64)
    found = nearest(own, others, 1)
    assert (found.own.tolist(), found.other.tolist(), found.bits.tolist()) == ([0, 1], [1, 0], [1, 1]), (
        "the first of two"
    )
    assert nearest(own, others, 0).own.tolist() == []
    assert nearest(own, others[:0], 5).own.tolist() == []


def test_blocks_find_what_a_loop_over_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    others = rng.integers(0, 2**63, 500, dtype=np.uint64)
    own = np.concatenate([others[:40] ^ np.uint64(0b101), rng.integers(0, 2**63, 60, dtype=np.uint64)])
    monkeypatch.setattr("cocabench.data.overlap.PAIRS_AT_ONCE", 1700)  # blocks of 17
    found = nearest(own, others, 20)
    for i, one in enumerate(own):
        bits = [bin(int(one) ^ int(other)).count("1") for other in others]
        hit = np.flatnonzero(found.own == i)
        assert bool(len(hit)) == (min(bits) <= 20)
        if len(hit):
            assert (found.other[hit[0]], found.bits[hit[0]]) == (bits.index(min(bits)), min(bits))


def test_a_smaller_jpeg_is_near_and_another_picture_is_far() -> None:
    images = [picture(0), picture(0).resize((48, 48)), picture(1)]
    kinds = [encoded(images[0]), encoded(images[1], "JPEG", quality=70), encoded(images[2])]
    sources = [BytesImage(content, str(i)) for i, content in enumerate(kinds)]
    first, second, third = hashed(sources, MemoryCache()).hashes
    assert int(first ^ second).bit_count() <= 4
    assert int(first ^ third).bit_count() > 12


def test_hashes_are_cached_and_broken_images_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    (tmp_path / "b.png").write_bytes(b"no picture")
    images, cache = [FileImage(tmp_path / "b.png"), FileImage(tmp_path / "a.png")], MemoryCache()
    found = hashed(images, cache)
    assert found.kept.tolist() == [1]
    assert np.array_equal(hashed(images, cache).hashes, found.hashes)
    (space,) = cache.spaces
    assert "phash of 64 bits, imagehash" in space


def test_shards_by_braces_patterns_and_folders(tmp_path: Path) -> None:
    for k in range(3):
        shard(tmp_path / f"{k:04}.tar", {f"{k}.png": encoded(picture(k)), f"{k}.txt": b"text"})
    for text in (f"{tmp_path}/{{0000..0002}}.tar", f"{tmp_path}/*.tar", str(tmp_path)):
        assert [one.name for one in training_images([text])] == [f"{tmp_path}/{k:04}.tar:{k}" for k in range(3)]
    for text, said in (("{a..", "braces in pairs"), (f"{tmp_path}/9*.tar", "no shards at")):
        with pytest.raises(UsageError, match=said):
            training_images([text])
    with pytest.raises(UsageError, match="no images in 1 shards"):
        training_images([str(shard(tmp_path / "t.tar", {"a.txt": b"a"}))])


def test_the_file_and_every_metric_of_each_part(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    """Of the 12 images, three are in the training data, one of them recompressed."""
    own = {f"{i}.png": (data / "images" / f"{i:02}.png").read_bytes() for i in (3, 7)}
    with Image.open(data / "images" / "05.png") as image:
        own["5.webp"] = encoded(image, "WEBP", quality=90)
    shard(tmp_path / "t/0.tar", own | {"x.png": encoded(picture(9))})
    tasks = f"{data / 'name.toml'},{data / 'find.toml'}"
    words = ["data", "overlap", "--train", tmp_path / "t/0.tar", "--tasks", tasks, "--data-root", data]
    result = command(*words, "--distance", 6, "--output", tmp_path / "o.json")
    assert result.code == 0, result.err
    assert "name: 3 of 12 images within 6 bits of one of 4 training images (phash of 64 bits" in result.out
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["distance"] == 6
    near = found["tasks"]["name"]["overlap"]
    assert [match["train"].rpartition(":")[2] for match in near.values()] == ["3", "5", "7"]
    assert near == found["tasks"]["find"]["overlap"]
    run = ["run", "--model", models / "clip", "--tasks", tasks, "--data-root", data, "--output", tmp_path / "r"]
    assert command(*run).code == 0
    table = command("compare", tmp_path / "r", "--overlap", tmp_path / "o.json", "--all-metrics", "--json")
    rows = {(row["task"], row["metric"]): row for row in json.loads(table.out)}
    assert {task for task, _ in rows} == {"name", "find"}
    one = rows["name", "acc1"]
    assert [one[part]["n"] for part in ("all", "clean", "overlapping")] == [12, 9, 3]
    hits = [one[part]["value"] * one[part]["n"] for part in ("all", "clean", "overlapping")]
    assert hits[0] == pytest.approx(hits[1] + hits[2])
    assert ("find", "t2i_recall@1") in rows


def known(near: list[str], images: int = 40, **data: str) -> Overlap:
    matches = {name: Match(train="t.tar:a", bits=2) for name in near}
    made = {"data": "d", "rows": "r", "pictures_by_id": "p"} | data
    tasks = {"pets": TaskOverlap(images=images, overlap=matches, **made)}
    return Overlap(hash="phash", distance=4, train=("t.tar",), train_images=9, tasks=tasks)


def test_parts_by_hand(tmp_path: Path) -> None:
    """Of 40 images the first 30 are right; ten of these are in the training data: 20 of the other 30 are right."""
    classified(tmp_path, "m", right(30, 40))
    overlap = known([f"{i:05}" for i in range(10)])
    (part,) = parts(read(str(tmp_path)), overlap)
    assert part.clean
    assert part.overlapping
    assert (part.whole.value, part.clean.value, part.overlapping.value) == (0.75, pytest.approx(2 / 3), 1.0)
    assert (part.clean.n, part.overlapping.n) == (30, 10)
    assert part.clean.low is not None
    assert part.whole.low is not None
    assert part.clean.low < part.whole.low
    assert [cell.partition(" ")[0] for cell in cells(part)[3:]] == ["75.0", "66.7", "100.0"]
    assert "10 of 40 in pets" in legend(overlap, [part])[0]
    json.dumps(lines([part]), allow_nan=False)
    files = compared.draw(compared.of_parts([part]), tmp_path / "f")
    assert [path.name for path in files] == ["overlap.svg", "overlap.png", "overlap.pdf"]


def test_nothing_and_everything_overlapping(tmp_path: Path) -> None:
    classified(tmp_path, "m", right(30, 40))
    (part,) = parts(read(str(tmp_path)), known([]))
    assert part.clean == part.whole
    assert part.overlapping
    assert part.overlapping.value is None
    (part,) = parts(read(str(tmp_path)), known([f"{i:05}" for i in range(40)]))
    assert part.overlapping == part.whole
    assert part.clean
    assert part.clean.value is None


@pytest.mark.parametrize(
    ("rows", "pictures", "data", "said"),
    [
        ("r", "p", "d", ""),
        ("r", "p", "x", ""),  # in another order
        ("r", "", "x", ""),  # of an older version, which did not hash images
        ("x", "p", "d", ""),  # with further splits
        ("", "", "", ""),  # nothing is known
        ("r", "x", "d", "other images under the same ids"),
        ("x", "p", "x", "other ids, labels or texts"),
        ("", "p", "x", "other ids, labels or texts"),
    ],
)
def test_a_file_for_other_data_is_refused(tmp_path: Path, rows: str, pictures: str, data: str, said: str) -> None:
    protocol: dict[str, Any] = {"task": "pets", "data": {"images": 40} | ({"hash": data} if data else {})}
    classified(tmp_path, "m", right(30, 40), protocol=protocol, rows=rows, pictures_by_id=pictures)
    results, file = read(str(tmp_path)), known(["00001"])
    if not said:
        (part,) = parts(results, file)
        assert part.overlapping
        assert part.overlapping.n == 1
        return
    with pytest.raises(UsageError, match=f"other data of pets than m was measured on [(]{said}[)]"):
        parts(results, file)


def test_the_same_ids_of_other_pictures_are_refused(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    """A second data root, whose images are mirrored."""
    other = tmp_path / "root"
    shutil.copytree(data, other)
    for path in (other / "images").glob("*.png"):
        with Image.open(path) as image:
            ImageOps.mirror(image).save(path)
    shard(tmp_path / "t.tar", {"3.png": (other / "images/03.png").read_bytes()})
    tasks = ["--tasks", f"{other / 'name.toml'}"]
    file, results = tmp_path / "o.json", tmp_path / "r"
    made = command("data", "overlap", "--train", tmp_path / "t.tar", *tasks, "--data-root", other, "--output", file)
    assert made.code == 0, made.err
    for root, said in ((data, "other images under the same ids"), (other, "")):
        run = ["run", "--model", models / "clip", *tasks, "--data-root", root, "--output", results, "--quiet"]
        assert command(*run).code == 0
        result = command("compare", results, "--overlap", file)
        assert (result.code, said in result.err) == (2 if said else 0, True)
        shutil.rmtree(results)


def test_results_on_a_part_and_without_samples_are_said(tmp_path: Path) -> None:
    protocol = {"task": "pets", "data": {"images": 40, "hash": "x"}, "limit": 40}
    classified(tmp_path / "a", "m", right(30, 40), protocol=protocol)
    (part,) = parts(read(str(tmp_path / "a")), known(["00001"]))
    assert (part.clean, part.why) == (
        None,
        "limited to 40 samples: whether they are of the file's data is unknown",
    )
    classified(tmp_path / "b", "m", right(30, 40), samples=False)
    (part,) = parts(read(str(tmp_path / "b")), known(["00001"]))
    assert "no samples of m on pets" in part.why


def test_bad_files_are_one_line(command: Command, tmp_path: Path) -> None:
    classified(tmp_path / "r", "m", right(30, 40), "cars")
    file = tmp_path / "o.json"
    for content, said in (
        ("{", "invalid JSON"),
        (
            '{"hash": "a", "distance": -1, "train": [], "train_images": 0, "tasks": {}}',
            "distance: got -1; wanted 0 or more",
        ),
        ('{"hash": "a", "distence": 1}', "did you mean 'distance'"),
    ):
        file.write_text(content)
        error = command("compare", tmp_path / "r", "--overlap", file).err
        assert "o.json: " in error
        assert said in error
        assert "Traceback" not in error
    with pytest.raises(ResultsError, match="wanted a file that `cocabench data overlap` wrote"):
        read_overlap(tmp_path / "none.json")
    file.write_text(known([]).model_dump_json())
    assert (
        "--overlap: a file for pets; wanted tasks of RESULTS"
        in command("compare", tmp_path / "r", "--overlap", file).err
    )
    wrong = ["data", "overlap", "--train", tmp_path, "--tasks", "emoji_flags", "--distance", 40]
    assert "--distance: got 40; wanted fewer than 32" in command(*wrong).err
