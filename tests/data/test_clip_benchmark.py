"""Data sets built by the package clip-benchmark, and what it may not do."""

import os
import pickle
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from cocabench.core.errors import BadImageError, DataError, MissingDataError
from cocabench.data.clip_benchmark import ClipBenchmark, offline
from cocabench.data.prompts import class_names, templates
from tests.data.drawing import draw, write

FACES = class_names("fer2013")


def test_an_image_folder_with_its_class_names_and_templates(tmp_path: Path) -> None:
    draw(*(tmp_path / "fer2013/test" / f"{k}_{name}" / "1.jpg" for k, name in enumerate(FACES)))
    data = ClipBenchmark(path="fer2013", dataset="fer2013").build(tmp_path)
    assert [(e.id, e.label) for e in data.examples] == [(f"{k}_{name}/1", k) for k, name in enumerate(FACES)]
    assert (data.classes, data.templates) == (FACES, templates("fer2013"))
    image = pickle.loads(pickle.dumps(data.examples[0].image)).open()  # noqa: S301
    assert image.size == (8, 6)


def test_a_broken_image_is_an_error_when_it_is_opened(tmp_path: Path) -> None:
    draw(*(tmp_path / "fer2013/test" / f"{k}_{name}" / "1.jpg" for k, name in enumerate(FACES)))
    write(tmp_path / f"fer2013/test/0_{FACES[0]}/1.jpg", "<html>")
    data = ClipBenchmark(path="fer2013", dataset="fer2013").build(tmp_path)
    assert data.examples[0].label == 0
    with pytest.raises(BadImageError, match=r"0_angry/1\.jpg: not an image"):
        data.examples[0].image.open()


def test_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(*(tmp_path / "f" / name for name in ("1.jpg", "2.jpg")))
    write(tmp_path / "f/flickr8k_test_karpathy.txt", "image,caption\n1.jpg,one, two\n1.jpg,three\n2.jpg,four\n")
    data = ClipBenchmark(path="f", dataset="flickr8k").build(tmp_path)
    assert [e.texts for e in data.examples] == [("one, two", "three"), ("four",)]
    assert capsys.readouterr().out == ""


def voc(root: Path) -> None:
    top = root / "voc2007/VOCdevkit/VOC2007"
    draw(top / "JPEGImages/000001.jpg", top / "JPEGImages/000002.jpg")
    write(top / "ImageSets/Main/aeroplane_test.txt", "000001 -1\n000002  1\n")
    for name, kinds in (("000001", ("dog", "person", "dog")), ("000002", ("aeroplane",))):
        box = "<bndbox><a>1</a><b>1</b><c>5</c><d>4</d></bndbox>"
        objects = "".join(f"<object><name>{kind}</name>{box}</object>" for kind in kinds)
        write(top / f"Annotations/{name}.xml", f"<annotation>{objects}</annotation>")


def test_voc_has_several_labels_an_image_or_one_a_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc(tmp_path)
    whole = ClipBenchmark(path="voc2007", dataset="voc2007_multilabel").build(tmp_path)
    assert [e.label for e in whole.examples] == [(11, 14), (0,)]
    boxes = ClipBenchmark(path="voc2007", dataset="voc2007").build(tmp_path)
    assert [e.label for e in boxes.examples] == [11, 14, 11, 0]
    assert boxes.examples[0].image.open().size == (4, 3)
    assert capsys.readouterr().out == ""


class TestNothingIsFetchedUnasked:
    """Fact 24: download=False does not stop clip-benchmark's wget; this does."""

    def test_a_missing_folder_says_where_it_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match=rf"{tmp_path}/cifar10: no such folder; --data-root.*holds cifar10"):
            ClipBenchmark(path="cifar10", dataset="cifar10").build(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            ("cifar10", "incomplete: Dataset not found or corrupted"),  # torchvision's own check
            ("flickr8k", "incomplete: it wants to download"),  # wget in a shell
            ("mscoco_captions", "incomplete: it wants to download"),  # wget and unzip
            ("imagenetv2", "incomplete: it wants to download"),  # requests
            ("voc2007", "incomplete: no such file"),
        ],
    )
    def test_an_incomplete_folder(self, dataset: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        with pytest.raises(MissingDataError, match=rf"{tmp_path}/set: {message}"):
            ClipBenchmark(path="set", dataset=dataset).build(tmp_path)
        assert list((tmp_path / "set").rglob("*")) == []

    def test_network_access_is_blocked_during_building_only(self) -> None:
        error = MissingDataError("here", "not there")
        ways = (
            lambda: subprocess.call("true"),
            lambda: os.popen("true"),  # noqa: S605
            lambda: os.system("true"),  # noqa: S605
            lambda: urllib.request.urlopen("http://localhost:9"),
            lambda: socket.create_connection(("127.0.0.1", 9)),
        )
        for way in ways:
            with pytest.raises(MissingDataError, match="here: not there"), offline(error):
                way()
        assert subprocess.call("true") == 0

    def test_download_permits_network_access(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        called: list[str] = []
        monkeypatch.setattr(subprocess, "call", lambda command, **_: called.append(command))
        with pytest.raises(MissingDataError, match="incomplete"):
            ClipBenchmark(path="f", dataset="mscoco_captions").build(tmp_path, download=True)
        assert any(command.startswith("wget") for command in called)


def test_whatever_a_reader_of_another_library_raises_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "f/gtsrb/GTSRB/Final_Test/Images/0.ppm", "")
    write(tmp_path / "f/gtsrb/GT-final_test.csv", "Filename;ClassId\n0.ppm\n")
    with pytest.raises(DataError, match=r"data\.dataset 'gtsrb': not readable \(int\(\) argument must be"):
        ClipBenchmark(path="f", dataset="gtsrb").build(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "fodo101"}, "Unsupported dataset: fodo101"),
        ({"dataset": "cifar10", "split": "val"}, "Only `train` and `test` split available"),
        ({"dataset": "wds/x"}, "a stream, not an indexed data set; export it"),
        ({"dataset": "sugar_crepe/add_att"}, "a caption selection task"),
    ],
)
def test_what_cannot_be_served(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        ClipBenchmark(path=".", **options).build(tmp_path)
