"""Loaders of captions with negatives, and of several images per item: SugarCrepe, Winoground, user tables."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.base import fingerprint, limited
from cocabench.data.composition import IMAGES, SugarCrepe, Winoground
from cocabench.data.tables import Csv, Jsonl
from tests.data.drawing import draw, encoded, write, write_json

CREPES = {
    "0": {"filename": "000000085329.jpg", "caption": "A cat sits.", "negative_caption": "A red cat sits."},
    "2": {"filename": "000000000139.jpg", "caption": "A room.", "negative_caption": "A wide room."},
    "3": {"filename": "000000085329.jpg", "caption": "A cat sits.", "negative_caption": "A wet cat sits."},
}


def crepes(root: Path, *, file: str = "sugar_crepe/add_att.json", images: str = "sugar_crepe/val2017") -> None:
    write_json(root / file, CREPES)
    draw(*(root / images / str(row["filename"]) for row in CREPES.values()))


class TestSugarCrepe:
    loader = SugarCrepe(path="sugar_crepe", subset="add_att", source="github")

    @pytest.mark.parametrize("images", IMAGES)
    def test_beside_the_captions_or_in_a_coco_folder(self, tmp_path: Path, images: str) -> None:
        (tmp_path / "sugar_crepe").mkdir()
        crepes(tmp_path, images=f"sugar_crepe/{images}")
        data = self.loader.build(tmp_path)
        assert [(e.id, e.texts, e.negatives) for e in data.examples] == [
            ("000000085329", ("A cat sits.", "A cat sits."), (("A red cat sits.",), ("A wet cat sits.",))),
            ("000000000139", ("A room.",), (("A wide room.",),)),
        ]
        assert (data.name, data.examples[0].image.open().size) == ("sugar_crepe/add_att", (8, 6))
        assert {key: fingerprint(data)[key] for key in ("images", "texts")} == {"images": 2, "texts": 3}

    def test_as_the_repository_has_it_and_the_images_where_one_says(self, tmp_path: Path) -> None:
        crepes(tmp_path, file="sugar_crepe/data/add_att.json", images="elsewhere")
        assert len(self.loader.model_copy(update={"images": "../elsewhere"}).build(tmp_path)) == 2

    def test_as_clip_benchmark_has_it_with_a_folder_per_data_set(self, tmp_path: Path) -> None:
        crepes(tmp_path, file="sugar_crepe/add_att/add_att.json", images="sugar_crepe/add_att/val2017")
        assert len(self.loader.build(tmp_path)) == 2

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "sugar_crepe").mkdir()
        with pytest.raises(MissingDataError, match=r"no add_att\.json there nor in data/ or add_att/; .*\(github\)"):
            self.loader.build(tmp_path)
        write_json(tmp_path / "sugar_crepe/add_att.json", CREPES)
        with pytest.raises(MissingDataError, match="no images; wanted COCO's val2017 in val2017 or"):
            self.loader.build(tmp_path)
        draw(tmp_path / "sugar_crepe/val2017/000000085329.jpg")
        with pytest.raises(MissingDataError, match=r"1 of 2 images missing: 000000000139\.jpg"):
            self.loader.build(tmp_path)

    @pytest.mark.parametrize("content", [[1], {"0": {"filename": "1.jpg", "caption": "a"}}, {"0": 3}])
    def test_an_invalid_file_is_an_error(self, tmp_path: Path, content: Any) -> None:
        crepes(tmp_path)
        write_json(tmp_path / "sugar_crepe/add_att.json", content)
        with pytest.raises(DataError, match=r"add_att.json: (got \[1\]|0: no 'negative|0: got 3)"):
            self.loader.build(tmp_path)

    def test_a_negative_moves_the_fingerprint(self, tmp_path: Path) -> None:
        crepes(tmp_path)
        before = fingerprint(self.loader.build(tmp_path))
        changed = CREPES | {"2": CREPES["2"] | {"negative_caption": "A tall room."}}
        write_json(tmp_path / "sugar_crepe/add_att.json", changed)
        assert fingerprint(self.loader.build(tmp_path))["hash"] != before["hash"]


ITEMS = [
    {"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "a dog on a cat", "tag": "Swap"},
    {"id": 7, "image_0": "ex_7_img_0", "image_1": "ex_7_img_1", "caption_0": "old, young", "tag": "Swap"},
]
SECOND = ["a cat on a dog", "young, old"]
ROWS = [{**item, "caption_1": text} for item, text in zip(ITEMS, SECOND, strict=True)]
WANTED = [("0", ("a dog on a cat", "a cat on a dog")), ("7", ("old, young", "young, old"))]


def as_jsonl(folder: Path) -> None:
    write(folder / "examples.jsonl", "\n".join(map(json.dumps, ROWS)))
    for row in ROWS:
        for k, colour in enumerate(("red", "blue")):
            draw(folder / "images" / f"{row[f'image_{k}']}.png", colour=colour)


def as_parquet(folder: Path) -> None:
    """As the hub converts it: an image is a struct of its bytes and its file's name."""
    cells = [{"image_0": "red", "image_1": "blue"} for _ in ROWS]
    rows = [
        {**row, **{key: {"bytes": encoded(colour), "path": f"{row[key]}.png"} for key, colour in cell.items()}}
        for row, cell in zip(ROWS, cells, strict=True)
    ]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "0000.parquet")


def as_arrow(folder: Path, *, inside: bool = True) -> None:
    """As the package datasets keeps what CLIP_benchmark downloads: streams, the images inside or beside."""
    as_parquet(folder)
    table = pq.read_table(folder / "0000.parquet")
    (folder / "0000.parquet").unlink()
    rows = table.to_pylist()
    for row in rows if not inside else ():
        for key in ("image_0", "image_1"):
            path = write(folder / "extracted" / row[key]["path"], row[key]["bytes"])
            row[key] = {"bytes": None, "path": str(path)}
    file = folder / "facebook___winoground/default/0.0.0/winoground-test.arrow"
    file.parent.mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=table.schema)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


class TestWinoground:
    loader = Winoground(path="winoground", source="the hub")

    @pytest.mark.parametrize("write_as", [as_jsonl, as_parquet, as_arrow, partial(as_arrow, inside=False)])
    @pytest.mark.parametrize("below", ["", "data"])
    def test_as_the_hub_has_it(self, tmp_path: Path, write_as: Any, below: str) -> None:
        write_as(tmp_path / "winoground" / below)
        data = self.loader.build(tmp_path)
        assert [(e.id, e.texts) for e in data.examples] == WANTED
        assert [image.open().getpixel((0, 0)) for e in data.examples for image in e.images] == [
            (255, 0, 0),
            (0, 0, 255),
        ] * 2
        assert {key: fingerprint(data)[key] for key in ("images", "texts")} == {"images": 4, "texts": 4}
        assert "1 of 2 items" in limited(data, 1, 0).notes[0].text

    def test_two_images_of_one_name_are_an_error(self, tmp_path: Path) -> None:
        as_jsonl(tmp_path / "winoground")
        image = next((tmp_path / "winoground/images").iterdir())
        other = image.with_suffix(".webp")
        shutil.copy(image, other)
        said = f"several images of the name {image.stem}: .*; keep one of them, or name its ending"
        with pytest.raises(DataError, match=said):
            self.loader.build(tmp_path)

    def test_both_forms_are_one_data_set(self, tmp_path: Path) -> None:
        as_jsonl(tmp_path / "a/winoground")
        as_parquet(tmp_path / "b/winoground")
        assert fingerprint(self.loader.build(tmp_path / "a")) == fingerprint(self.loader.build(tmp_path / "b"))

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "winoground"
        folder.mkdir()
        with pytest.raises(MissingDataError, match=r"neither examples\.jsonl nor \*\.parquet there or in data/, nor"):
            self.loader.build(tmp_path)
        write(folder / "examples.jsonl", json.dumps(ROWS[0]))
        with pytest.raises(MissingDataError, match="no such folder"):
            self.loader.build(tmp_path)
        write(folder / "images.zip", b"")
        with pytest.raises(MissingDataError, match=r"images\.zip is not unpacked"):
            self.loader.build(tmp_path)
        draw(folder / "images/ex_0_img_0.png")
        with pytest.raises(MissingDataError, match="1 of 2 images missing: ex_0_img_1"):
            self.loader.build(tmp_path)

    @pytest.mark.parametrize("lost", ["image_1", "caption_1", "image_0"])
    def test_an_incomplete_item_is_an_error(self, tmp_path: Path, lost: str) -> None:
        as_jsonl(tmp_path / "winoground")
        rows = [ROWS[0], {key: value for key, value in ROWS[1].items() if key != lost}]
        write(tmp_path / "winoground/examples.jsonl", "\n".join(map(json.dumps, rows)))
        with pytest.raises(DataError, match=r"item 1 has (1 image|\d images) and (1 caption|\d captions)"):
            self.loader.build(tmp_path)

    @pytest.mark.parametrize("name", ["0.parquet", "deep/x.arrow"])
    def test_a_broken_table_is_an_error(self, tmp_path: Path, name: str) -> None:
        write(tmp_path / "winoground" / name, "<html>")
        with pytest.raises(DataError, match=f"{name}: not readable"):
            self.loader.build(tmp_path)

    def test_a_column_without_images_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "winoground").mkdir()
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "winoground/0.parquet")
        with pytest.raises(DataError, match="a str; wanted an encoded image"):
            self.loader.build(tmp_path)


class TestTables:
    def test_a_csv_with_a_negative_per_row(self, tmp_path: Path) -> None:
        write(tmp_path / "t.csv", "filepath,caption,negative_caption\n1.png,a b,b a\n2.png,c,d\n1.png,e,f\n")
        draw(tmp_path / "1.png", tmp_path / "2.png")
        data = Csv(path="t.csv", caption_key="caption", negative_key="negative_caption").build(tmp_path)
        assert [(e.id, e.texts, e.negatives) for e in data.examples] == [
            ("1", ("a b", "e"), (("b a",), ("f",))),
            ("2", ("c",), (("d",),)),
        ]

    def test_json_lines_may_have_several_negatives(self, tmp_path: Path) -> None:
        write(tmp_path / "t.jsonl", '{"filepath": "1.png", "title": "a", "not": ["b", "c"]}')
        draw(tmp_path / "1.png")
        (example,) = Jsonl(path="t.jsonl", negative_key="not").build(tmp_path).examples
        assert (example.texts, example.negatives) == (("a",), (("b", "c"),))

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"filepath": "1.png", "title": "a"}, "wanted 'not'"),
            ({"filepath": "1.png", "title": "a", "not": ""}, "no not for 1.png"),
            ({"filepath": "1.png", "title": "a", "not": []}, "no not for 1.png"),
            ({"filepath": "1.png", "title": ["a", "b"], "not": "c"}, "several captions of 1.png; wanted one beside"),
        ],
    )
    def test_a_row_without_negatives_is_an_error(self, tmp_path: Path, row: dict[str, Any], message: str) -> None:
        write(tmp_path / "t.jsonl", json.dumps(row))
        draw(tmp_path / "1.png")
        with pytest.raises(DataError, match=message):
            Jsonl(path="t.jsonl", negative_key="not").build(tmp_path)


def test_a_small_file_of_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_parquet(tmp_path / "winoground")
    monkeypatch.setenv("COCABENCH_MAX_ROWS", "1")
    with pytest.raises(DataError, match=r"0000\.parquet: 2 rows in a table; wanted at most 1"):
        Winoground(path="winoground").build(tmp_path)
