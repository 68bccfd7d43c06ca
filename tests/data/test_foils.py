"""Loaders of captions with foils on files in the published layouts: ARO, NegBench, VALSE; COLA, MMVP, ColorSwap."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.base import fingerprint
from cocabench.data.composition import Cola, ColaSingle, Mmvp, Winoground
from cocabench.data.foils import Aro, AroOrder, NegBench, Valse
from tests.data.drawing import draw, write, write_json

RELATION = {
    "image_id": "2413371",
    "image_path": "2413371.jpg",
    "bbox_x": 2,
    "bbox_y": 1,
    "bbox_w": 4,
    "bbox_h": 3,
    "relation_name": "to the left of",
    "true_caption": "the dog is to the left of the cat",
    "false_caption": "the cat is to the left of the dog",
}


def two_colours(path: Path) -> None:
    """8 x 6 pixels: blue inside (2, 1) to (6, 4), else red."""
    image = Image.new("RGB", (8, 6), "red")
    image.paste((0, 0, 255), (2, 1, 6, 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


class TestAro:
    def test_a_relations_image_is_its_crop_and_cases_of_one_crop_are_one_example(self, tmp_path: Path) -> None:
        other = RELATION | {"relation_name": "wearing", "true_caption": "a", "false_caption": "b"}
        elsewhere = RELATION | {"bbox_x": 0, "bbox_w": 99}
        write_json(tmp_path / "aro/visual_genome_relation.json", [RELATION, other, elsewhere])
        two_colours(tmp_path / "aro/images/2413371.jpg")
        data = Aro(path="aro", subset="relation").build(tmp_path)
        first, second = data.examples
        assert first.texts == ("the dog is to the left of the cat", "a")
        assert first.negatives == (("the cat is to the left of the dog",), ("b",))
        assert first.metadata == {"groups": ["to the left of", "wearing"]}
        image = first.image.open()
        assert (image.size, image.getcolors()) == ((4, 3), [(12, (0, 0, 255))]), "only what is inside the box"
        assert second.image.open().size == (99, 3), "a box beyond the image is kept, as in ARO"
        assert second.image.open().getpixel((98, 0)) == (0, 0, 0)
        assert fingerprint(data)["texts"] == 3

    def test_an_attributions_group_is_its_pair_in_order(self, tmp_path: Path) -> None:
        row = {key: value for key, value in RELATION.items() if key != "relation_name"}
        rows = [row | {"attributes": pair} for pair in (["white", "wooden"], ["wooden", "white"])]
        write_json(tmp_path / "aro/visual_genome_attribution.json", rows)
        draw(tmp_path / "aro/images/2413371.jpg")
        (example,) = Aro(path="aro", subset="attribution").build(tmp_path).examples
        assert example.metadata == {"groups": ["white_wooden", "wooden_white"]}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"bbox_x": "2"}, r"\[0\].bbox_x: got '2'; wanted a whole number of pixels"),
            ({"relation_name": None}, r"\[0\].relation_name: got None; wanted text"),
            ({"image_path": "7.jpg"}, "no image 7.jpg; wanted it in images"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, change: dict[str, Any], said: str) -> None:
        write_json(tmp_path / "aro/visual_genome_relation.json", [RELATION | change])
        draw(tmp_path / "aro/images/2413371.jpg")
        with pytest.raises(DataError, match=said) as raised:
            Aro(path="aro", subset="relation").build(tmp_path)
        assert "\n" not in str(raised.value)

    def test_a_missing_image_is_named(self, tmp_path: Path) -> None:
        write_json(tmp_path / "aro/visual_genome_relation.json", [RELATION, RELATION | {"image_path": "8.jpg"}])
        draw(tmp_path / "aro/images/2413371.jpg")
        with pytest.raises(MissingDataError, match=r"1 of 2 images missing: 8\.jpg"):
            Aro(path="aro", subset="relation").build(tmp_path)

    def test_order_reads_the_stored_candidates_and_refuses_another_number(self, tmp_path: Path) -> None:
        options = ["a b c", "b a c", "a c b", "c a b", "c b a"]
        row = {"image": "val2014/COCO_val2014_000000391895.jpg", "caption_options": options}
        file = write_json(tmp_path / "aro/coco_order.json", [row])
        draw(tmp_path / "aro/images" / row["image"])
        loader = AroOrder(path="aro", annotations="coco_order.json")
        (example,) = loader.build(tmp_path).examples
        assert (example.texts, example.negatives) == (("a b c",), (tuple(options[1:]),))
        write_json(file, [row, row | {"caption_options": options[:4]}])
        with pytest.raises(DataError, match=r"\[1\]: 4 captions; wanted 5, the right one first"):
            loader.build(tmp_path)


HEADER = "image_path,correct_answer,caption_0,caption_1,caption_2,caption_3,correct_answer_template\n"


class TestNegBench:
    loader = NegBench(path="negbench", subset="coco")

    def at(self, root: Path, *rows: str) -> Path:
        draw(root / "negbench/val2017/000000000139.jpg")
        return write(root / "negbench/images/COCO_val_mcq_llama3.1_rephrased.csv", HEADER + "\n".join(rows))

    def test_the_right_caption_comes_first_wherever_it_stands(self, tmp_path: Path) -> None:
        path = "data/coco/images/val2017/000000000139.jpg"
        self.at(tmp_path, f'{path},2,"a, b",no b,right,c,negative', f"{path},0,also right,x,y,z,hybrid")
        (example,) = self.loader.build(tmp_path).examples
        assert example.texts == ("right", "also right")
        assert example.negatives == (("a, b", "no b", "c"), ("x", "y", "z"))
        assert example.metadata == {"groups": ["negative", "hybrid"]}

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("a/000000000139.jpg,4,a,b,c,d,x", "row 2: correct_answer '4'; wanted 0 to 3"),
            ("a/000000000139.jpg,1,a,b,c,,x", "row 2: 3 captions; wanted caption_0 to caption_3"),
            ("a/000000000139.jpg,,a,b,c,d,x", "row 2: no correct_answer"),
            ("a/1.jpg,1,a,b,c,d,x", "no image 1.jpg"),
            ("", "no image_path"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, row: str, said: str) -> None:
        self.at(tmp_path, row)
        with pytest.raises(DataError, match=said):
            self.loader.build(tmp_path)


FOIL = {
    "dataset": "visual7w",
    "image_file": "v7w_2335339.jpg",
    "caption": "There are no people in the photo.",
    "foil": "There are people in the photo.",
    "mturk": {"foil": 0, "caption": 3, "other": 0},
}


class TestValse:
    loader = Valse(path="valse", subset="existence")

    def test_only_samples_with_two_votes_for_the_caption_alone_count(self, tmp_path: Path) -> None:
        votes = {f"k{n}": FOIL | {"caption": f"c{n}", "mturk": {"caption": n}} for n in range(4)}
        write_json(tmp_path / "valse/data/existence.json", votes)
        draw(tmp_path / "valse/visual7w/v7w_2335339.jpg")
        (example,) = self.loader.build(tmp_path).examples
        assert example.texts == ("c2", "c3")
        assert example.negatives == (("There are people in the photo.",),) * 2

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({**FOIL, "mturk": {}}, "no 'caption'"),
            ({**FOIL, "foil": ["a"]}, "foil: got \\['a'\\]; wanted text"),
            ({**FOIL, "image_file": "x.jpg"}, "no image x.jpg"),
            ({**FOIL, "mturk": {"caption": 1}}, "no images"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, row: dict[str, Any], said: str) -> None:
        write_json(tmp_path / "valse/data/existence.json", {"existence_0": row})
        draw(tmp_path / "valse/visual7w/v7w_2335339.jpg")
        with pytest.raises(DataError, match=said):
            self.loader.build(tmp_path)


class TestPairs:
    def test_cola_names_images_by_their_address(self, tmp_path: Path) -> None:
        row = [
            "https://x.edu/vg_gqa_images/2414605.jpg",
            "red cup, blue bowl",
            "https://x.edu/y/1.jpg",
            "blue cup, red bowl",
        ]
        write_json(tmp_path / "cola/data/COLA_multiobjects_matching_benchmark.json", [row])
        draw(tmp_path / "cola/images/2414605.jpg", tmp_path / "cola/images/1.jpg")
        (example,) = Cola(path="cola").build(tmp_path).examples
        assert example.texts == ("red cup, blue bowl", "blue cup, red bowl")
        assert [Path(str(image)).name for image in example.images] == ["2414605.jpg", "1.jpg"]
        write_json(tmp_path / "cola/data/COLA_multiobjects_matching_benchmark.json", [row, row[:3]])
        with pytest.raises(DataError, match=r"\[1\]: 3 entries; wanted image, caption, image, caption"):
            Cola(path="cola").build(tmp_path)

    labels = ("square white plate", "red cup", "blue bowl")
    entries = (
        ["vg_gqa_images/2414605.jpg", {"plate": ["square", "white"]}, [1, 0, 0], [1, 1, 0]],
        ["https://x.edu/vg_gqa_images/1.jpg", {}, [0, 1, 1], [0, 0, 1]],
    )

    def single(self, root: Path, content: Any) -> ColaSingle:
        draw(root / "cola/images/2414605.jpg", root / "cola/images/1.jpg")
        write_json(root / "cola/data/COLA_singleobjects_benchmark_GQA.json", content)
        return ColaSingle(path="cola")

    def test_colas_single_objects_by_keys_as_a_pair_and_without_objects(self, tmp_path: Path) -> None:
        entries = list(self.entries)
        data = self.single(tmp_path, {"labels": self.labels, "data": entries}).build(tmp_path)
        assert (data.classes, data.templates) == (self.labels, ("{c}",))
        assert [(e.id, e.label, e.metadata) for e in data.examples] == [
            ("2414605", (0,), {"hard": [0, 1]}),
            ("1", (1, 2), {"hard": [2]}),
        ]
        assert data.examples[1].image.open().size
        for other in ([self.labels, entries], [self.labels, [[e[0], *e[2:]] for e in entries]]):
            assert fingerprint(self.single(tmp_path, other).build(tmp_path)) == fingerprint(data)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda e: e[2].append(0), r"data\[1\]\[2\]: 4 values; wanted 3, one for each label"),
            (lambda e: e[3].__setitem__(0, 2), r"data\[1\]\[3\]: got \[2, 0, 1\]; wanted a list of 3 zeros and ones"),
            (lambda e: e.__setitem__(3, 1), r"data\[1\]\[3\]: got 1; wanted a list of 3 zeros and ones"),
            (lambda e: e.append(1), r"data\[1\]: got .*; wanted image, objects, label, hard_list"),
            (lambda e: e.__setitem__(0, "2.jpg"), r"1 of 2 images missing: 2\.jpg"),
            (lambda e: e.__setitem__(0, "b/2414605.jpg"), r"1 ids occur more than once: 2414605"),
        ],
    )
    def test_colas_faults_are_said_in_a_line(self, tmp_path: Path, change: Callable[[Any], Any], said: str) -> None:
        entries = json.loads(json.dumps(self.entries))
        change(entries[1])
        with pytest.raises(DataError, match=said) as raised:
            self.single(tmp_path, {"labels": self.labels, "data": entries}).build(tmp_path)
        assert "\n" not in str(raised.value)

    def test_colas_file_of_another_kind(self, tmp_path: Path) -> None:
        for content, said in (([[]], "wanted labels and data"), ({"labels": []}, "no 'data'")):
            with pytest.raises(DataError, match=said):
                self.single(tmp_path, content).build(tmp_path)

    def mmvp(self, root: Path, rows: str) -> None:
        write(root / "mmvp_vlm/Questions.csv", "Question ID,Type,Statement\n" + rows)
        draw(*(root / "mmvp_vlm/MLLM_VLM Images/Texts" / f"{k}.jpg" for k in (1, 2)))

    def test_mmvp_pairs_an_odd_row_with_the_next(self, tmp_path: Path) -> None:
        self.mmvp(tmp_path, '1,Texts,"a cup, full"\n2,Texts,an empty cup\n')
        (example,) = Mmvp(path="mmvp_vlm").build(tmp_path).examples
        assert (example.id, example.metadata) == ("1-2", {"groups": ["Texts"]})
        assert example.texts == ("a photo of a cup, full", "a photo of an empty cup")
        assert len(example.images) == 2

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ("2,Texts,a\n1,Texts,b\n", "the numbers '2' and '1' of a pair; wanted an odd one, then an even one"),
            ("1,Texts,a\n", "1 statements; wanted pairs"),
            ("1,Texts\n2,Texts,b\n", "row 2: 2 cells"),
            ("3,Texts,a\n4,Texts,b\n", "2 of 2 images missing"),
        ],
    )
    def test_mmvps_faults_are_said_in_a_line(self, tmp_path: Path, rows: str, said: str) -> None:
        self.mmvp(tmp_path, rows)
        with pytest.raises(DataError, match=said):
            Mmvp(path="mmvp_vlm").build(tmp_path)

    def test_colorswap_counts_from_one(self, tmp_path: Path) -> None:
        row = {"id": 0, "caption_1": "a red cat", "caption_2": "a blue cat"}
        row |= {f"image_{k}": f"images/img_0_{k}.png" for k in (1, 2)}
        file = write(tmp_path / "colorswap/test.json", json.dumps([row]))
        draw(*(tmp_path / f"colorswap/images/img_0_{k}.png" for k in (1, 2)))
        loader = Winoground(path="colorswap", annotations="test.json", images=".", tables="*test*")
        (example,) = loader.build(tmp_path).examples
        assert (example.id, example.texts, len(example.images)) == ("0", ("a red cat", "a blue cat"), 2)
        write(file, "[3]")
        with pytest.raises(DataError, match=r"\[0\]: got 3; wanted a table"):
            loader.build(tmp_path)
