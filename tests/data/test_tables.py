import json
from pathlib import Path

import pandas as pd
import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.base import fingerprint
from cocabench.data.tables import Csv, Jsonl, Table, Tsv
from tests.data.drawing import draw, write, write_json

ROWS = [("img/1.png", "a, b"), ("img/2.png", "c"), ("img/1.png", 'said "d"')]
CAPTIONED = [("1", ("a, b", 'said "d"')), ("2", ("c",))]
TABLES: dict[str, tuple[type[Table], str]] = {
    "csv": (Csv, '\ufefffilepath,title\r\nimg/1.png,"a, b"\r\nimg/2.png,c\r\n\r\nimg/1.png,"said ""d"""\r\n'),
    "tsv": (Tsv, 'title\tfilepath\na, b\timg/1.png\nc\timg/2.png\nsaid "d"\timg/1.png\n'),
    "jsonl": (Jsonl, "".join(json.dumps({"filepath": path, "title": text}) + "\r\n" for path, text in ROWS)),
    "lists": (
        Jsonl,
        '{"filepath": "img/1.png", "title": ["a, b", "said \\"d\\""]}\n{"filepath": "img/2.png", "title": "c"}',
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    draw(*(tmp_path / "set/img" / f"{k}.png" for k in (1, 2)))
    return tmp_path


@pytest.mark.parametrize(("loader", "text"), TABLES.values(), ids=TABLES)
def test_several_rows_of_an_image_are_its_captions(loader: type[Table], text: str, root: Path) -> None:
    write(root / "set/t.x", text)
    data = loader(path="set/t.x").build(root)
    assert [(e.id, e.texts) for e in data.examples] == CAPTIONED
    assert (data.name, data.examples[1].image.open().size) == ("t", (8, 6))


def test_ids_do_not_depend_on_where_the_images_lie(root: Path) -> None:
    write(root / "set/t.csv", "filepath,title\nimg/1.png,a\n")
    write(root / "abs.csv", f"filepath,title\n{root}/set/img/1.png,a\n")
    write(root / "set/below.csv", "filepath,title\n1.png,a\n")
    loaders = (Csv(path="set/t.csv"), Csv(path="abs.csv"), Csv(path="set/below.csv", images="img"))
    assert len({str(fingerprint(loader.build(root))) for loader in loaders}) == 1


def test_rows_that_repeat_a_labelled_image_are_noted(root: Path) -> None:
    write(root / "set/t.csv", "filepath,label\nimg/1.png,a\nimg/2.png,b\nimg/1.png,a\n")
    data = Csv(path="set/t.csv", label_key="label").build(root)
    assert [e.label for e in data.examples] == [0, 1]
    assert data.notes == (("data", "1 of 3 rows repeat an image with its label; each image counts once"),)


def test_one_image_may_be_written_in_two_ways(root: Path) -> None:
    write(root / "set/t.csv", "filepath,title\nimg/1.png,a\n./img//1.png,b\n")
    assert [(e.id, e.texts) for e in Csv(path="set/t.csv").build(root).examples] == [("1", ("a", "b"))]


def test_ids_where_stems_or_names_repeat(root: Path) -> None:
    draw(root / "set/img/1.jpg", root / "set/b/1.jpg")
    write(root / "set/a.csv", "filepath,title\nimg/1.jpg,a\nimg/1.png,b\n")
    write(root / "set/b.csv", "filepath,title\nimg/1.jpg,a\nb/1.jpg,b\n")
    found = [[e.id for e in Csv(path=f"set/{name}.csv").build(root).examples] for name in "ab"]
    assert found == [["1.jpg", "1.png"], ["img/1.jpg", "b/1.jpg"]]


LABELLED = {
    "names": ("dog\ncat", {}, ("cat", "dog"), [1, 0]),
    "indices": ("4\n2", {}, (), [4, 2]),
    "names in a list": ("dog\ncat", {"classes": "names.json"}, ("dog", "cow", "cat"), [0, 2]),
    "indices into a list": ("2\n0", {"classes": "names.json"}, ("dog", "cow", "cat"), [2, 0]),
    "indices as pandas writes them beside an empty cell": ("10.0\n2.0", {}, (), [10, 2]),
    "names that are numbers": ("1994\n1990", {"classes": "years.json"}, ("1990", "1992", "1994"), [2, 0]),
    "names that are digits": ("0\n9", {"classes": "digits.json"}, tuple("9876543210"), [9, 0]),
    "names with a number in them": ("7 up\nup", {}, ("7 up", "up"), [0, 1]),
    "a shipped list": ("forest\nriver", {"classes": "eurosat"}, None, [1, 8]),
}


@pytest.mark.parametrize(("values", "options", "classes", "labels"), LABELLED.values(), ids=LABELLED)
def test_labels(
    values: str, options: dict[str, str], classes: tuple[str, ...] | None, labels: list[int], root: Path
) -> None:
    first, second = values.split("\n")
    write(root / "set/t.csv", f"img,kind\nimg/1.png,{first}\nimg/2.png,{second}\n")
    write_json(root / "set/names.json", ["dog", "cow", "cat"])
    write_json(root / "set/years.json", ["1990", "1992", "1994"])
    write_json(root / "set/digits.json", list("9876543210"))
    data = Csv(path="set/t.csv", image_key="img", label_key="kind", **options).build(root)
    assert [e.label for e in data.examples] == labels
    assert classes is None or data.classes == classes
    assert data.examples[0].texts == ()


BAD: dict[str, tuple[Table, str, str]] = {
    "ragged": (Csv(path="t"), "filepath,title\n1,a\n1,a,b\n1\n", r"2 rows with another .* \(first: 3 in line 3"),
    "a quotation mark that nothing closes": (
        Tsv(path="t"), 'filepath\ttitle\na/1.png\t"a\na/2.png\tb\n', "takes in the rows .*, until line 3; quote"
    ),
    "a quotation mark that another row closes": (
        Csv(path="t"), 'filepath,title\na/1.png,"a\na/2.png,b\na/3.png,c"\n', r"takes in the rows .*, until line 4"
    ),
    "a row without an image": (Csv(path="t"), "filepath,title\na/1.png,a\n,b\n", "1 of 2 rows without filepath.*row 2"),
    "a row without a label": (Csv(path="t", label_key="k"), "filepath,k\na/1.png,x\na/2.png, \n", "1 of 2 rows"),
    "a null label": (Jsonl(path="t", label_key="k"), '{"filepath": "a/1.png", "k": null}', "1 of 1 rows without k"),
    "several labels": (
        Jsonl(path="t", label_key="k"), '{"filepath": "a/1.png", "k": [1, 2]}', r"the label \[1, 2\]; wanted one label"
    ),
    "negative labels": (Csv(path="t", label_key="k"), "filepath,k\na/1.png,1\na/2.png,-1\n", "labels: -1; wanted 0"),
    "numbers and others": (
        Csv(path="t", label_key="k"), "filepath,k\na/1.png,0\na/2.png,\u00b2\n", r"\(0\) and others \('\u00b2'\);"
    ),
    "empty file": (Csv(path="t"), "", "an empty file"),
    "no rows": (Csv(path="t"), "filepath,title\n", "no images"),
    "tabs in a csv": (Csv(path="t"), "filepath\ttitle\n1.png\ta\n", "its separator seems to be another one"),
    "other columns": (Csv(path="t"), "image,title\n", "columns 'image', 'title'; wanted 'filepath'; image_key"),
    "no caption": (Csv(path="t"), "filepath,title\na/1.png, \n", "captions missing for 1 of 1 images: 1"),
    "null caption": (Jsonl(path="t"), '{"filepath": "a/1.png", "title": null}', "captions missing for 1 of 1"),
    "no JSON": (Jsonl(path="t"), '{"filepath": "a/1.png", "title": "a"}\n{x', "line 2: not JSON"),
    "no object": (Jsonl(path="t"), "[1]", "line 1: a list; wanted a JSON object"),
    "key missing in a line": (Jsonl(path="t"), '{"filepath": "1", "title": "a"}\n{"filepath": "1"}', "wanted 'title'"),
    "two labels": (Csv(path="t", label_key="k"), "filepath,k\na/1.png,x\na/1.png,y\n", "a/1.png has the labels x, y"),
    "unlisted label": (
        Csv(path="t", label_key="k", classes="eurosat"), "filepath,k\na/1.png,moon\n", "1 labels not .*: 'moon'"
    ),
    "index too large": (
        Csv(path="t", label_key="k", classes="eurosat"), "filepath,k\na/1.png,10\n", "1 labels not .*: '10'"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("loader", "text", "message"), BAD.values(), ids=BAD)
def test_bad_tables(loader: Table, text: str, message: str, tmp_path: Path) -> None:
    draw(*(tmp_path / "a" / f"{k}.png" for k in (1, 2, 3)))
    write(tmp_path / "t", text)
    with pytest.raises(DataError, match=message) as caught:
        loader.build(tmp_path)
    assert str(tmp_path / "t") in str(caught.value)
    assert not set("\n\t") & set(str(caught.value))


QUOTES = {
    "an opening mark": '"so" she said',
    "a whole field": '"so, she said"',
    "in the middle": 'she said "so"',
    "doubled": '"""so"" she said"',
    "two fields": '"so" "she"',
    "over two lines": '"so\nshe said"',
}


@pytest.mark.parametrize(("loader", "mark"), [(Csv, ","), (Tsv, "\t")])
@pytest.mark.parametrize("title", QUOTES.values(), ids=QUOTES)
def test_quotation_marks_are_read_as_open_clips_trainer_reads_them(
    loader: type[Csv], mark: str, title: str, root: Path
) -> None:
    text = f"filepath{mark}title{mark}title\nimg/1.png{mark}{title}{mark}x\nimg/2.png{mark}b{mark}y\n"
    file = write(root / "set/t", text)
    data = loader(path="set/t").build(root)
    table = pd.read_csv(file, sep=mark)  # open_clip_train.data.CsvDataset
    assert [e.texts[0] for e in data.examples] == table["title"].tolist()
    assert len(data) == len(table) == 2


def test_missing_files(root: Path) -> None:
    with pytest.raises(MissingDataError, match=rf"{root}/no\.csv: no such file; --data-root"):
        Csv(path="no.csv").build(root)
    write(root / "set/t.csv", "filepath,title\nimg/1.png,a\nimg/9.png,b\nx/8.png,c\n")
    with pytest.raises(MissingDataError, match=r"2 of 3 images missing: 9\.png, 8\.png"):
        Csv(path="set/t.csv").build(root)


def test_a_table_that_git_lfs_did_not_fetch(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"t\.csv: a Git LFS pointer, not the file itself; run `git lfs pull`"):
        Csv(path="t.csv").build(tmp_path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "filepath,title\n1.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 24\)"):
        Csv(path="t.csv").build(tmp_path)
