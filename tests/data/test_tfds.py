"""What tensorflow-datasets prepared: written by that package itself, and read as its own reader does."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cocabench.core.errors import BadImageError, DataError, MissingDataError
from cocabench.data.tfds import Tfds

pytestmark = pytest.mark.slow  # importing the package takes seconds
NAMES = ["tabby cat", "dog"]
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (10, 20, 30))


def rows() -> Iterator[tuple[int, dict[str, Any]]]:
    for k, colour in enumerate(COLOURS):
        file = io.BytesIO()
        Image.new("RGB", (6, 4), colour).save(file, "PNG")
        file.seek(0)
        captions = {"id": [2 * k, 2 * k + 1], "text": [f"the {k}th", f"again {k} é"]}
        yield k, {"image": file, "image/filename": f"{k}.png", "label": k % 2, "captions": captions}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the package write a small data set, tiny/1.2.0, of one shard a split."""
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        __module__ = "tiny"  # in no package, whose folder it would look for
        VERSION = tfds.core.Version("1.2.0")

        def _info(self) -> Any:
            captions = tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()})
            features = {
                "image": tfds.features.Image(),
                "image/filename": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=NAMES),
                "captions": captions,
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, download: Any) -> Any:
            return {"test": rows(), "train": rows()}

        def _generate_examples(self) -> Any:
            return rows()

    top = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=top, file_format="array_record").download_and_prepare()
    return top


@pytest.fixture
def top(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "data"))


def as_tfrecords(top: Path) -> None:
    """Write the records again as a TFRecord file, as TensorFlow would; checksums are left out."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for file in (top / "tiny/1.2.0").glob("*.array_record-*"):
        records = ArrayRecordDataSource([file])
        parts = (struct.pack("<Q4x", len(record)) + record + bytes(4) for record in records)
        file.with_name(file.name.replace("array_record", "tfrecord")).write_bytes(b"".join(parts))
        file.unlink()
    info = top / "tiny/1.2.0/dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))


@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
def test_images_labels_and_class_names_are_those_of_the_packages_own_reader(form: str, top: Path) -> None:
    import tensorflow_datasets as tfds

    theirs = list(tfds.builder_from_directory(top / "tiny/1.2.0").as_data_source(split="test"))
    if form == "tfrecord":
        as_tfrecords(top)
    data = Tfds(path="tiny", label_key="label").build(top)
    assert (data.name, data.split, data.classes) == ("tiny", "test", tuple(NAMES))
    assert [example.label for example in data.examples] == [row["label"] for row in theirs]
    for example, row in zip(data.examples, theirs, strict=True):
        sent = pickle.loads(pickle.dumps(example.image))  # noqa: S301
        assert np.array_equal(np.asarray(sent.open()), row["image"])
        assert sent.identity().startswith(b"\x89PNG")


def test_captions_inside_of_another_feature_and_ids(top: Path) -> None:
    keys = {"caption_key": "captions/text", "id_key": "image/filename"}
    data = Tfds(path="tiny/1.2.0", split="train", **keys).build(top)
    assert sorted((e.id, e.texts) for e in data.examples)[1] == ("1.png", ("the 1th", "again 1 é"))
    assert len({e.image.open().getpixel((0, 0)) for e in data.examples}) == len(COLOURS)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "neither caption_key nor label_key"),
        ({"label_key": "class"}, "features captions, .*wanted 'class'.*label_key"),
        ({"label_key": "label", "image_key": "picture"}, "wanted 'picture'"),
        ({"label_key": "label", "image_key": "image/filename"}, "wanted 'image/filename'|a str|not an image"),
        ({"label_key": "image/filename"}, "wanted a class index"),
        ({"label_key": "label", "split": "validation"}, "no split 'validation', only"),
        ({"label_key": "label", "path": "other"}, "no such folder"),
    ],
)
def test_wrong_keys_are_one_line(keys: dict[str, str], said: str, top: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        Tfds(**{"path": "tiny", **keys}).build(top).examples[0].image.open()
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_one_line(top: Path) -> None:
    folder, loader = top / "tiny/1.2.0", Tfds(path="tiny", label_key="label")
    shutil.copytree(folder, top / "tiny/1.1.0")
    with pytest.raises(DataError, match=r"several versions.*1.1.0"):
        loader.build(top)
    shutil.rmtree(top / "tiny/1.1.0")
    as_tfrecords(top)
    data = loader.build(top)
    (file,) = folder.glob("*test.tfrecord*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="record 4 ends beyond the file"):
        loader.build(top)
    with pytest.raises(BadImageError):
        data.examples[0].image.open()
    at = struct.unpack("<Q", whole[:8])[0] + 16
    file.write_bytes(whole[:at])
    with pytest.raises(DataError, match=r"1 record in 1 file.*wanted 5"):
        loader.build(top)
    file.write_bytes(whole[:12] + bytes(at - 12) + whole[at:])
    with pytest.raises(DataError, match="not readable"):
        loader.build(top)
    file.unlink()
    with pytest.raises(MissingDataError, match="no such file"):
        loader.build(top)
    with pytest.raises(BadImageError, match="no such file"):
        data.examples[0].image.open()
    for content in ("{", json.dumps({"name": "tiny"})):
        (folder / "dataset_info.json").write_text(content)
        with pytest.raises(DataError) as caught:
            loader.build(top)
        assert "\n" not in str(caught.value)
    (folder / "dataset_info.json").unlink()
    with pytest.raises(MissingDataError, match=r"no dataset_info.json"):
        loader.build(top)
