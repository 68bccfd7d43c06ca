"""Tables of the hub: parquet and Arrow files in the layouts that they come in, and what is wrong with them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocabench.core.errors import BadImageError, DataError, MissingDataError
from cocabench.data.hub import Hub, Winogavil
from cocabench.data.images import is_identified
from tests.data.drawing import encoded

COLOURS = ("red", "lime", "blue", "white", "black")


def cell(colour: str) -> dict[str, Any]:
    return {"bytes": encoded(colour), "path": None}


def table(names: list[str] | None = None, **columns: list[Any]) -> pa.Table:
    """Return a table, with the class names of its label in the metadata as the package datasets keeps them."""
    found = pa.table({"image": [cell(colour) for colour in COLOURS], **columns})
    if names is None:
        return found
    kept = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    return found.replace_schema_metadata({"huggingface": json.dumps(kept)})


def parquet(path: Path, content: pa.Table, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, row_group_size=rows)
    return path


def test_labels_ids_and_class_names_are_the_tables(tmp_path: Path) -> None:
    content = table(["cat", "dog"], label=[0, 1, 1, 0, 1], key=["a", "b", "c", "d", "e"])
    parquet(tmp_path / "set/data/test-00000-of-00001.parquet", content)
    parquet(tmp_path / "set/data/train-00000-of-00001.parquet", table(["cat", "dog"], label=[0] * 5))
    data = Hub(path="set", label_key="label", id_key="key").build(tmp_path)
    assert [(e.id, e.label) for e in data.examples] == [("a", 0), ("b", 1), ("c", 1), ("d", 0), ("e", 1)]
    assert data.classes == ("cat", "dog")
    assert [e.image.open().getpixel((0, 0)) for e in data.examples[:3]] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_images_are_the_files_bytes_and_can_be_sent_to_workers(tmp_path: Path) -> None:
    parquet(tmp_path / "set/test.parquet", table(label=[0] * 5))
    image = pickle.loads(pickle.dumps(Hub(path="set", label_key="label").build(tmp_path).examples[3].image))  # noqa: S301
    assert is_identified(image)
    assert image.identity() == encoded("white")


def test_captions_are_a_text_or_a_list(tmp_path: Path) -> None:
    parquet(tmp_path / "one/test.parquet", table(caption=["a ", "b", "c", "d", "e"]))
    parquet(tmp_path / "many/test.parquet", table(caption=[["a", "b"]] * 5))
    assert Hub(path="one", caption_key="caption").build(tmp_path).examples[0].texts == ("a",)
    assert Hub(path="many", caption_key="caption").build(tmp_path).examples[4].texts == ("a", "b")


@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_files_of_the_package_datasets_are_read_at_any_depth(form: str, tmp_path: Path) -> None:
    path = tmp_path / "set/org___data/default/0.0.0/abc/data-test.arrow"
    path.parent.mkdir(parents=True)
    content = table(["cat", "dog"], label=[0, 1, 0, 1, 0])
    make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with make(str(path), content.schema) as writer:
        writer.write_table(content, max_chunksize=2)
    data = Hub(path="set", label_key="label").build(tmp_path)
    assert [e.label for e in data.examples] == [0, 1, 0, 1, 0]
    assert data.examples[4].image.open().getpixel((0, 0)) == (0, 0, 0)


def test_class_names_in_another_order_than_the_tables_are_an_error(tmp_path: Path) -> None:
    parquet(tmp_path / "set/test.parquet", table(["dog", "cat"], label=[0] * 5))
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"classes in another order than .*names\.txt \('dog', 'cat'\)"):
        Hub(path="set", label_key="label", classes=str(names)).build(tmp_path)
    names.write_text("cat\ndog\nfox\n")
    with pytest.raises(DataError, match="2 classes in the data's own features, 3 in"):
        Hub(path="set", label_key="label", classes=str(names)).build(tmp_path)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"label_key": "labels"}, r"columns image, label; wanted 'labels'; name the columns in \[data\]"),
        ({"label_key": "label", "image_key": "img"}, r"columns image, label; wanted 'img'; name it: image_key"),
        ({}, "neither caption_key nor label_key; wanted one of them"),
        ({"label_key": "label", "split": "validation"}, "no table of the split 'validation', only test"),
        ({"caption_key": "label"}, "got 0; wanted a caption or several"),
    ],
)
def test_wrong_keys_are_one_line(keys: dict[str, str], said: str, tmp_path: Path) -> None:
    parquet(tmp_path / "set/test-00000-of-00001.parquet", table(label=[0] * 5))
    with pytest.raises(DataError, match=said):
        Hub(path="set", **keys).build(tmp_path)  # type: ignore[arg-type]


def test_damaged_and_missing_files_are_one_line(tmp_path: Path) -> None:
    loader = Hub(path="set", label_key="label")
    (tmp_path / "set").mkdir()
    with pytest.raises(MissingDataError, match=r"neither \*.parquet nor \*.arrow; wanted tables of the split 'test'"):
        loader.build(tmp_path)
    path = parquet(tmp_path / "set/test.parquet", table(label=[0] * 5))
    image = loader.build(tmp_path).examples[0].image
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"test\.parquet: not readable"):
        loader.build(tmp_path)
    with pytest.raises(BadImageError, match=r"test\.parquet"):
        image.open()


def test_a_cell_without_bytes_is_a_bad_image(tmp_path: Path) -> None:
    content = pa.table({"image": [{"bytes": None, "path": "x.png"}, {"bytes": b"x", "path": None}], "label": [0, 0]})
    parquet(tmp_path / "set/test.parquet", content)
    first, second = Hub(path="set", label_key="label").build(tmp_path).examples
    with pytest.raises(BadImageError, match="no encoded image; wanted bytes"):
        first.image.open()
    with pytest.raises(BadImageError, match=r"test\.parquet:0:1:image"):
        second.image.open()


def winogavil(path: Path, associations: list[str]) -> None:
    content = pa.table(
        {
            "cue": ["werewolf "],
            "candidates": [["moon", "tea", "wolf"]],
            "associations": [associations],
            "candidate_images": [[cell("white"), cell("red"), cell("black")]],
        }
    )
    parquet(path, content)


def test_winogavils_candidates_are_images_and_associations_their_places(tmp_path: Path) -> None:
    winogavil(tmp_path / "winogavil/default/test/0000.parquet", ["wolf", "moon"])
    (example,) = Winogavil(path="winogavil").build(tmp_path).examples
    assert (example.texts, example.label) == (("werewolf",), (0, 2))
    assert example.metadata == {"candidates": ["moon", "tea", "wolf"]}
    assert [image.open().getpixel((0, 0)) for image in example.images] == [(255,) * 3, (255, 0, 0), (0,) * 3]


def test_an_association_that_is_no_candidate_is_an_error(tmp_path: Path) -> None:
    winogavil(tmp_path / "winogavil/test.parquet", ["sun"])
    with pytest.raises(DataError, match="row 0: 3 candidates, associations sun; wanted associations that are among"):
        Winogavil(path="winogavil").build(tmp_path)
