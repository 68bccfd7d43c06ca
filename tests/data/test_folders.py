"""Loaders of labelled images in folders: imagefolder, objectnet."""

from pathlib import Path

import pytest

from cocabench.core.errors import DataError, MissingDataError, UnknownNameError
from cocabench.data.folders import ImageFolder, ObjectNet
from tests.data.drawing import draw, write, write_json


class TestImageFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        draw(*(tmp_path / "pets/val" / name for name in ("red_fox/b.png", "cat/1.jpg", "cat/more/0.JPG", "cat/1.png")))
        write(tmp_path / "pets/val/cat/.DS_Store", "x")
        write(tmp_path / "pets/val/cat/notes.txt", "x")
        (tmp_path / "pets/val/.ipynb_checkpoints").mkdir()
        return tmp_path

    def test_sorted_folders_are_the_classes(self, root: Path) -> None:
        data = ImageFolder(path="pets", split="val").build(root)
        found = [(e.id, e.label) for e in data.examples]
        assert found == [("cat/1.jpg", 0), ("cat/1.png", 0), ("cat/more/0.JPG", 0), ("red_fox/b.png", 1)]
        assert data.classes == ("cat", "red fox")

    def test_a_class_list_gives_the_order(self, root: Path) -> None:
        write(root / "pets/names.txt", "\ufeffred_fox\r\ndog\r\ncat\r\n")
        data = ImageFolder(path="pets", split="val", classes="names.txt").build(root)
        assert (data.classes, [e.label for e in data.examples]) == (("red_fox", "dog", "cat"), [2, 2, 2, 0])
        assert data.notes == (("classes_without_images", "1 of 3 classes has no images: dog"),)

    def test_a_table_names_the_folders(self, root: Path) -> None:
        write_json(root / "pets/names.json", {"red_fox": "fox", "cat": "house cat"})
        data = ImageFolder(path="pets", split="val", classes="names.json").build(root)
        assert (data.classes, [e.label for e in data.examples]) == (("fox", "house cat"), [1, 1, 1, 0])

    def test_a_folder_that_the_list_does_not_hold_is_named(self, root: Path) -> None:
        file = write_json(root / "names.json", ["cat"])
        with pytest.raises(DataError, match=r"1 folders not in the class list: red_fox; add them to"):
            ImageFolder(path="pets", split="val", classes=str(file)).build(root)

    def test_class_lists_that_cannot_serve(self, root: Path) -> None:
        with pytest.raises(UnknownNameError, match="did you mean pets"):
            ImageFolder(path="pets", split="val", classes="pest").build(root)
        with pytest.raises(DataError, match=r"imagenet1k: 2 names stand for two classes: missile, sunglasses; tell"):
            ImageFolder(path="pets", split="val", classes="imagenet1k").build(root)

    def test_folders_that_are_numbers_are_in_their_order(self, tmp_path: Path) -> None:
        draw(*(tmp_path / f"ten/{k}/a.png" for k in range(12)))
        data = ImageFolder(path="ten").build(tmp_path)
        assert {e.id: e.label for e in data.examples} == {f"{k}/a.png": k for k in range(12)}
        assert data.notes == (
            (
                "class_order",
                "labels follow the folders' numbers (0, 1, 2, 3 and 8 more); "
                "torchvision's ImageFolder: 0, 1, 10, 11 and 8 more",
            ),
        )

    def test_folders_of_one_name_are_noted(self, tmp_path: Path) -> None:
        draw(*(tmp_path / f"pets/{name}/a.png" for name in ("red fox", "red_fox", "cat")))
        (note,) = ImageFolder(path="pets").build(tmp_path).notes
        assert note == (
            "data", "1 class names stand for several folders each, which nothing can tell apart: red fox and red_fox"
        )  # fmt: skip

    def test_what_is_left_out_is_counted(self, root: Path) -> None:
        draw(root / "pets/val/loose.png")
        for name in ("a.jfif", "b.JPE", "c.avif", "d", "e.avif", ".hidden"):
            write(root / "pets/val/cat" / name, "x")
        data = ImageFolder(path="pets", split="val").build(root)
        assert len(data) == 4
        assert data.notes == (
            ("left_out_files", "1 image outside of the class folders was left out: loose.png"),
            (
                "left_out_files",
                "5 files that may be images were left out (2 .avif, 1 .jfif, 1 .jpe, 1 without ending): "
                "convert them, or rename them",
            ),
        )

    def test_no_folder_no_images(self, root: Path) -> None:
        with pytest.raises(MissingDataError, match=r"pets/test: no such folder"):
            ImageFolder(path="pets", split="test").build(root)
        (root / "empty/cat").mkdir(parents=True)
        with pytest.raises(DataError, match="empty: no images"):
            ImageFolder(path="empty").build(root)


class TestObjectNet:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        top = tmp_path / "objectnet/objectnet-1.0"
        draw(
            *(top / "images" / name for name in ("tv/a.png", "air_freshener/b.png", "backpack/c.png", "backpack/d.png"))
        )
        labels = {"tv": "TV", "air_freshener": "Air freshener", "backpack": "Backpack"}
        write_json(top / "mappings/folder_to_objectnet_label.json", labels)
        write_json(top / "mappings/objectnet_to_imagenet_1k.json", {"TV": "television", "Backpack": "backpack"})
        return tmp_path

    def test_shared_classes_by_sorted_folder(self, root: Path) -> None:
        data = ObjectNet(path="objectnet").build(root)
        assert [(e.id, e.label) for e in data.examples] == [("backpack/c", 0), ("backpack/d", 0), ("tv/a", 1)]
        assert (data.classes, len(data.templates)) == (("backpack", "tv"), 80)
        assert data.notes == (("data", "ObjectNet's border of 2 pixels: 0 cropped"),)

    def test_the_official_crop(self, root: Path) -> None:
        sizes = [ObjectNet(path="objectnet", crop_border=k).build(root).examples[0].image.open().size for k in (0, 2)]
        assert sizes == [(8, 6), (4, 2)]

    def test_clip_benchmarks_copy_of_the_mappings(self, root: Path) -> None:
        (root / "objectnet/objectnet-1.0/mappings").rename(root / "objectnet/mappings")
        assert len(ObjectNet(path="objectnet").build(root)) == 3

    def test_missing_parts_and_unknown_folders(self, root: Path) -> None:
        draw(root / "objectnet/objectnet-1.0/images/zebra/a.png")
        with pytest.raises(DataError, match=r"1 folders not in folder_to_objectnet_label\.json: zebra"):
            ObjectNet(path="objectnet").build(root)
        (root / "objectnet/objectnet-1.0/mappings/objectnet_to_imagenet_1k.json").unlink()
        with pytest.raises(MissingDataError, match=r"no objectnet_to_imagenet_1k\.json there"):
            ObjectNet(path="objectnet").build(root)
        (root / "bare").mkdir()
        with pytest.raises(MissingDataError, match=r"neither objectnet-1\.0/images nor images there"):
            ObjectNet(path="bare").build(root)
