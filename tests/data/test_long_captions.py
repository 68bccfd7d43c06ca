"""Loaders of long captions on files in the published layouts: Urban1k, DCI and sDCI, DOCCI, TextCaps."""

import json
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.long_captions import Dci, Docci, TextCaps, Urban1k
from tests.data.drawing import draw, write, write_json


def test_urban1ks_caption_is_the_first_line_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    for k in (1, 2, 10):
        write(tmp_path / f"u/caption/{k}.txt", f" A street {k}. \nA second line that is none of the caption.\n")
        draw(tmp_path / f"u/image/{k}.jpg")
    examples = Urban1k(path="u").build(tmp_path).examples
    assert [(e.id, e.texts) for e in examples] == [(str(k), (f"A street {k}.",)) for k in (1, 2, 10)]
    write(tmp_path / "u/caption/2.txt", "\nOnly here.")
    with pytest.raises(DataError, match="captions missing for 1 of 3 images: 2"):
        Urban1k(path="u").build(tmp_path)
    (tmp_path / "u/image/10.jpg").unlink()
    with pytest.raises(MissingDataError, match=r"1 of 3 images missing: 10\.jpg"):
        Urban1k(path="u").build(tmp_path)


def dci(root: Path, **change: Any) -> None:
    write_json(root / "dci/splits.json", {"train": ["a.json"], "valid": [], "test": ["b.json", "c.json"]})
    for name in "abc":
        entry = {"image": f"sa_{name}.jpg", "short_caption": f"short {name}", "extra_caption": f"more {name}"}
        summaries = {"base": [f"sum {name}", "another"]} if name != "c" else None
        write_json(root / f"dci/complete/{name}.json", {**entry, "summaries": summaries, **change})
        draw(root / f"dci/photos/sa_{name}.jpg")


def test_dci_joins_short_and_extra_caption_and_sdci_takes_the_first_summary(tmp_path: Path) -> None:
    dci(tmp_path)
    examples = Dci(path="dci").build(tmp_path).examples
    assert [(e.id, e.texts) for e in examples] == [("sa_b", ("short b\nmore b",)), ("sa_c", ("short c\nmore c",))]
    assert len(Dci(path="dci", split="all").build(tmp_path)) == 3
    (example,) = Dci(path="dci", text="summary").build(tmp_path).examples
    assert (example.id, example.texts) == ("sa_b", ("sum b",)), "c has no summaries and is left out"


def test_dcis_faults_are_said_in_a_line(tmp_path: Path) -> None:
    dci(tmp_path, extra_caption=3)
    with pytest.raises(DataError, match=r"b\.json: extra_caption: got 3; wanted text"):
        Dci(path="dci").build(tmp_path)
    (tmp_path / "dci/complete/b.json").unlink()
    with pytest.raises(MissingDataError, match=r"b\.json: no such file"):
        Dci(path="dci").build(tmp_path)
    (tmp_path / "dci/splits.json").unlink()
    with pytest.raises(MissingDataError, match=r"no splits\.json"):
        Dci(path="dci").build(tmp_path)


def test_docci_reads_one_split(tmp_path: Path) -> None:
    rows = [
        {"example_id": f"{split}_{k}", "split": split, "image_file": f"{split}_{k}.jpg", "description": f"d {k} "}
        for k, split in enumerate(("train", "test", "qual_test", "test"))
    ]
    write(tmp_path / "docci/docci_descriptions.jsonlines", "\n".join(map(json.dumps, rows)))
    draw(*(tmp_path / "docci/images" / str(row["image_file"]) for row in rows))
    examples = Docci(path="docci").build(tmp_path).examples
    assert [(e.id, e.texts) for e in examples] == [("test_1", ("d 1",)), ("test_3", ("d 3",))]
    write(tmp_path / "docci/docci_descriptions.jsonlines", json.dumps({**rows[1], "description": None}))
    with pytest.raises(DataError, match=r"line 1\.description: got None; wanted text"):
        Docci(path="docci").build(tmp_path)


def test_textcaps_joins_an_images_captions(tmp_path: Path) -> None:
    rows = [{"image_id": "0a", "caption_str": "a stop sign"}, {"image_id": "1b", "caption_str": "milk"}]
    rows.append({"image_id": "0a", "caption_str": "a sign that says stop"})
    write_json(tmp_path / "t/TextCaps_0.1_val.json", {"data": rows})
    draw(tmp_path / "t/train_images/0a.jpg", tmp_path / "t/train_images/1b.jpg")
    examples = TextCaps(path="t").build(tmp_path).examples
    assert [(e.id, e.texts) for e in examples] == [("0a", ("a stop sign", "a sign that says stop")), ("1b", ("milk",))]
    write_json(tmp_path / "t/TextCaps_0.1_val.json", {"data": [{**rows[0], "caption_str": " "}]})
    with pytest.raises(DataError, match="1 image with an empty caption: 0a"):
        TextCaps(path="t").build(tmp_path)
