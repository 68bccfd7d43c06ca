"""Loaders of captioned images: Karpathy, COCO, NoCaps, Flickr8k."""

from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.captions import Coco, Flickr8k, Karpathy, read_tokens
from tests.data.drawing import draw, write, write_json


def item(name: str, split: str = "test", texts: tuple[str, ...] = ("a", "b"), **more: Any) -> dict[str, Any]:
    return {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts], **more}


def flickr30k(root: Path, *items: dict[str, Any]) -> None:
    write_json(root / "flickr30k/dataset_flickr30k.json", {"images": items, "dataset": "flickr30k"})


class TestKarpathy:
    @pytest.mark.parametrize("folder", ["", "flickr30k-images", "flickr30k_images/flickr30k_images"])
    def test_flickr_in_any_of_the_usual_folders(self, tmp_path: Path, folder: str) -> None:
        flickr30k(tmp_path, item("1.jpg", texts=(" A dog .\n", "Two.")), item("2.jpg", "val"), item("3.jpg"))
        draw(*(tmp_path / "flickr30k" / folder / f"{k}.jpg" for k in "123"))
        data = Karpathy(path="flickr30k").build(tmp_path)
        assert [(e.id, e.texts) for e in data.examples] == [("1", ("A dog .", "Two.")), ("3", ("a", "b"))]
        assert (data.name, data.split, data.examples[0].image.open().size) == ("flickr30k", "test", (8, 6))

    def test_coco_lies_in_filepath_and_goes_by_its_ids(self, tmp_path: Path) -> None:
        five = tuple("abcdef")
        items = [
            item("COCO_val2014_1.jpg", filepath="val2014", cocoid=1, texts=five),
            item("COCO_val2014_2.jpg", "restval", filepath="val2014", cocoid=2),
            item("COCO_train2014_3.jpg", "train", filepath="train2014", cocoid=3),
        ]
        write_json(tmp_path / "coco/annotations/dataset_coco.json", {"images": items})
        draw(*(tmp_path / "coco/images" / i["filepath"] / i["filename"] for i in items))
        loader = Karpathy(path="coco", annotations="dataset_coco.json", max_captions=5)
        assert [(e.id, e.texts) for e in loader.build(tmp_path).examples] == [("1", five[:5])]
        both = loader.model_copy(update={"split": "train+restval"}).build(tmp_path)
        assert [e.id for e in both.examples] == ["2", "3"]

    def test_the_file_may_lie_in_a_folder_of_the_data_root(self, tmp_path: Path) -> None:
        write_json(tmp_path / "karpathy/dataset_flickr8k.json", {"images": [item("1.jpg")]})
        draw(tmp_path / "flickr8k/1.jpg")
        assert len(Karpathy(path="flickr8k", annotations="dataset_flickr8k.json").build(tmp_path)) == 1

    def test_missing_root_says_where_and_what_to_do(self, tmp_path: Path) -> None:
        pattern = rf"{tmp_path}/no/flickr30k: no such folder; --data-root DIR or COCABENCH_DATA.*flickr30k \(ask them\)"
        with pytest.raises(MissingDataError, match=pattern):
            Karpathy(path="flickr30k", source="ask them").build(tmp_path / "no")

    def test_missing_files(self, tmp_path: Path) -> None:
        (tmp_path / "flickr30k").mkdir()
        with pytest.raises(MissingDataError, match=r"no one of Karpathy's dataset_\*\.json there, nor in annotations"):
            Karpathy(path="flickr30k").build(tmp_path)
        flickr30k(tmp_path, item("1.jpg"), item("2.jpg"))
        with pytest.raises(MissingDataError, match=r"no image 1\.jpg there nor in its subfolders"):
            Karpathy(path="flickr30k").build(tmp_path)
        draw(tmp_path / "flickr30k/1.jpg")
        with pytest.raises(MissingDataError, match=r"1 of 2 images missing: 2\.jpg"):
            Karpathy(path="flickr30k").build(tmp_path)

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([item("1.jpg", texts=()), item("2.jpg")], "captions missing for 1 of 2 images: 1"),
            ([item("1.jpg", texts=("a", " "))], "captions missing for 1 of 1 images: 1"),
            ([item("1.jpg"), item("1.jpg")], "1 ids occur more than once: 1"),
            ([item("1.jpg", "val")], "no images of the split 'test'; wanted val"),
            ([{"filename": "1.jpg"}], r"images\[0\]: no 'split'"),
        ],
    )
    def test_inconsistent_files(self, tmp_path: Path, items: list[dict[str, Any]], message: str) -> None:
        flickr30k(tmp_path, *items)
        draw(tmp_path / "flickr30k/1.jpg", tmp_path / "flickr30k/2.jpg")
        with pytest.raises(DataError, match=message):
            Karpathy(path="flickr30k").build(tmp_path)

    def test_images_in_two_folders_are_noted(self, tmp_path: Path) -> None:
        flickr30k(tmp_path, item("1.jpg"))
        draw(tmp_path / "flickr30k/large/1.jpg", tmp_path / "flickr30k/small/1.jpg")
        (note,) = Karpathy(path="flickr30k").build(tmp_path).notes
        assert "1.jpg is in several folders; images were read from large, not from small" in note.text
        assert Karpathy(path="flickr30k", images="small").build(tmp_path).notes == ()

    def test_two_annotation_files(self, tmp_path: Path) -> None:
        flickr30k(tmp_path, item("1.jpg"))
        write_json(tmp_path / "flickr30k/dataset_coco.json", {})
        with pytest.raises(DataError, match=r"several files: dataset_coco\.json, dataset_flickr30k\.json; say which"):
            Karpathy(path="flickr30k").build(tmp_path)


def captions(root: Path, images: list[dict[str, Any]], pairs: list[tuple[int, str]]) -> Coco:
    annotations = [{"id": k, "image_id": image, "caption": text} for k, (image, text) in enumerate(pairs)]
    write_json(root / "nocaps/annotations/val.json", {"images": images, "annotations": annotations})
    draw(*(root / "nocaps/images" / image["file_name"] for image in images))
    return Coco(path="nocaps", annotations="val.json")


class TestCoco:
    def test_nocaps_keeps_domains_and_a_varying_number_of_captions(self, tmp_path: Path) -> None:
        images = [{"id": 7, "file_name": "b.jpg", "domain": "near-domain"}, {"id": 3, "file_name": "a.jpg"}]
        loader = captions(tmp_path, images, [(3, "x "), (7, "y"), (7, "z")])
        found = [(e.id, e.texts, e.domain) for e in loader.build(tmp_path).examples]
        assert found == [("7", ("y", "z"), "near-domain"), ("3", ("x",), "")]
        fewer = loader.model_copy(update={"max_captions": 1}).build(tmp_path)
        assert [e.texts for e in fewer.examples] == [("y",), ("x",)]

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            ([(1, "x")], r"captions missing for 1 of 2 images: 2"),
            ([(1, "x"), (2, "y"), (9, "z")], r"captions for 1 image that is not listed: 9"),
        ],
    )
    def test_captions_that_do_not_fit(self, tmp_path: Path, pairs: list[tuple[int, str]], message: str) -> None:
        loader = captions(tmp_path, [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], pairs)
        with pytest.raises(DataError, match=message):
            loader.build(tmp_path)

    @pytest.mark.parametrize(("own", "asked"), [("7", 7), (7, "7"), ("x1", "x1")])
    def test_ids_may_be_text_in_one_list_and_numbers_in_the_other(self, own: Any, asked: Any, tmp_path: Path) -> None:
        loader = captions(tmp_path, [{"id": own, "file_name": "a.jpg"}], [(asked, "x")])
        assert [(e.id, e.texts) for e in loader.build(tmp_path).examples] == [(str(own), ("x",))]

    def test_other_files(self, tmp_path: Path) -> None:
        loader = captions(tmp_path, [], [])
        with pytest.raises(DataError, match="no images"):
            loader.build(tmp_path)
        file = write(tmp_path / "nocaps/annotations/val.json", "{")
        with pytest.raises(DataError, match=rf"{file}: not JSON: .* in line 1, column 2"):
            loader.build(tmp_path)
        write_json(file, {"images": [], "annotations": [{"image_id": 1, "bbox": []}]})
        with pytest.raises(DataError, match=r"annotations\[0\]: no 'caption'"):
            loader.build(tmp_path)
        file.unlink()
        with pytest.raises(MissingDataError, match=r"no val\.json there nor in annotations/"):
            loader.build(tmp_path)


TOKENS = "2_b.jpg#1\tsecond\r\n2_b.jpg.1#0\tfirst , with\u2028odd space\r\n1_a.jpg#0\tone\r\n"


class TestFlickr8k:
    def test_a_malformed_key_is_read_with_a_note(self, tmp_path: Path) -> None:
        write(tmp_path / "f/Flickr8k_text/Flickr8k.token.txt", "\ufeff" + TOKENS)
        write(tmp_path / "f/Flickr8k_text/Flickr_8k.devImages.txt", "2_b.jpg\r\n")
        draw(*(tmp_path / "f/Flicker8k_Dataset" / name for name in ("1_a.jpg", "2_b.jpg")))
        data = Flickr8k(path="f", split="val").build(tmp_path)
        assert [(e.id, e.texts) for e in data.examples] == [("2_b", ("first , with\u2028odd space", "second"))]
        assert data.notes == (("data", "Flickr8k.token.txt: malformed key '2_b.jpg.1#0' read as 2_b.jpg"),)
        assert [e.id for e in Flickr8k(path="f", split="all").build(tmp_path).examples] == ["2_b", "1_a"]

    def test_the_malformed_keys_image_is_not_missed(self, tmp_path: Path) -> None:
        write(tmp_path / "f/Flickr8k.token.txt", TOKENS)
        write(tmp_path / "f/Flickr_8k.testImages.txt", "1_a.jpg\n2_b.jpg\n")
        draw(tmp_path / "f/1_a.jpg")
        assert [e.id for e in Flickr8k(path="f", split="all", images=".").build(tmp_path).examples] == ["1_a"]
        with pytest.raises(MissingDataError, match=r"1 of 2 images missing: 2_b\.jpg"):
            Flickr8k(path="f").build(tmp_path)

    def test_a_broken_line_is_named(self, tmp_path: Path) -> None:
        file = write(tmp_path / "t.txt", "1_a.jpg#0\tone\nhello\n")
        with pytest.raises(DataError, match=r"1 lines that are not IMAGE\.jpg#N<tab>CAPTION: line 2 \('hello'\)"):
            read_tokens(file)

    def test_a_key_that_repeats_is_named(self, tmp_path: Path) -> None:
        file = write(tmp_path / "t", "a.jpg#0\tx\na.jpg#1\ty\na.jpg#0\tz\n")
        with pytest.raises(DataError, match=r"line 3: a\.jpg#0 a second time"):
            read_tokens(file)

    def test_an_image_without_captions(self, tmp_path: Path) -> None:
        write(tmp_path / "f/Flickr8k.token.txt", TOKENS)
        write(tmp_path / "f/Flickr_8k.testImages.txt", "9.jpg\n")
        draw(tmp_path / "f/9.jpg")
        with pytest.raises(DataError, match="captions missing for 1 of 1 images: 9"):
            Flickr8k(path="f").build(tmp_path)

    def test_missing_split_file(self, tmp_path: Path) -> None:
        write(tmp_path / "f/Flickr8k.token.txt", TOKENS)
        with pytest.raises(MissingDataError, match=r"no Flickr_8k\.testImages\.txt there nor in its subfolders"):
            Flickr8k(path="f").build(tmp_path)


class TestInstances:
    """CHAIR's objects: Karpathy's images with COCO's instances and the authors' synonyms."""

    loader = Karpathy(path="coco", annotations="dataset_coco.json", split="test", instances="instances_val2014.json")

    def write(self, root: Path, **change: Any) -> None:
        images = [
            {"filename": f"COCO_val2014_{k:012}.jpg", "cocoid": k, "split": "test", "sentences": [{"raw": "a dog"}]}
            for k in (9, 42)
        ]
        write_json(root / "coco/dataset_coco.json", {"images": images})
        draw(*(root / "coco/val2014" / str(image["filename"]) for image in images))
        write(root / "coco/synonyms.txt", "dog, puppy\ndining table, table, desk\n")
        instances = {
            "images": [{"id": 9}, {"id": 42}, {"id": 7}],
            "categories": [{"id": 18, "name": "dog"}, {"id": 67, "name": "dining table"}],
            "annotations": [{"image_id": i, "category_id": c} for i, c in ((9, 67), (9, 67), (7, 18), (9, 18))],
        }
        write_json(root / "coco/annotations/instances_val2014.json", instances | change)

    def test_each_image_gets_its_objects_and_the_data_the_words(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        data = self.loader.build(tmp_path)
        assert [e.metadata["objects"] for e in data.examples] == [["dining table", "dog"], []]
        table = dict.fromkeys(("dining table", "table", "desk"), "dining table")
        assert data.objects == {"dog": "dog", "puppy": "dog", **table}
        assert Karpathy(path="coco", annotations="dataset_coco.json").build(tmp_path).objects == {}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"images": [{"id": 9}]},
                "1 of 2 images are not listed: 42; wanted the instances of",
            ),
            ({"categories": [{"id": 1, "name": "yeti"}]}, "1 kinds of objects without synonyms: yeti"),
            ({"annotations": [{"image_id": 9, "category_id": 3}]}, r"annotations\[0\]: category_id 3; wanted one of"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, change: dict[str, Any], said: str) -> None:
        self.write(tmp_path, **change)
        with pytest.raises(DataError, match=said):
            self.loader.build(tmp_path)
        (tmp_path / "coco/synonyms.txt").unlink()
        with pytest.raises(MissingDataError, match=r"no synonyms\.txt there nor in annotations/"):
            self.loader.build(tmp_path)
